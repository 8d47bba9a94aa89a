"""The items of a task of lm-eval: from files, from a corpus or from the Hub, those without a right answer left out."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import hub
from components.modalities.text.harness_gold import has_gold, problem_of
from components.modalities.text.harness_schema import Harness, HarnessTask
from components.outcomes import Refused
from components.wording import one_line, shown

SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")
SPLITS_OF_A_CORPUS = {"train": "train", "validation": "valid", "test": "test"}
"""lm-eval's names -> ours."""

Read = Callable[..., Iterable[dict[str, Any]]]
Named = tuple[str, dict[str, Any]]
"""An item with its name."""


class Unavailable(Exception):
    """A task cannot be scored, and the others can; the message says why and what to do."""


@dataclass(frozen=True)
class Split:
    """The items of a split that have a right answer."""

    source: str
    """Where they come from, for a person."""
    rows: list[Named]


@dataclass(frozen=True)
class Items:
    """What a task asks."""

    source: str
    """Where they come from, for a person."""
    names: list[str]
    """Of the items that are scored, in lm-eval's order."""
    overrides: dict[str, Any]
    """Keys of the task file that lm-eval is given others of."""
    splits: dict[str, Split]
    """lm-eval's name -> those that are asked or drawn as examples."""
    notes: list[str] = field(default_factory=list)
    """What was left out, in words."""
    texts: list[list[str]] = field(default_factory=list)
    """Of each item, what it is known again by in training data: fields that the task file names under `known_by`."""


def items_of(section: Harness, task: HarnessTask, config: dict[str, Any], read: Read) -> Items:
    """The items of a task.

    Args:
        section: of all tasks.
        task: the one.
        config: its task file, with what it includes.
        read: (corpus, columns, splits) -> rows.

    Raises:
        Unavailable: they are not there, or an item lacks a field.
        components.hub.Unfinished: a Hub does not answer.
    """
    splits = list(dict.fromkeys(config[key] for key in SPLIT_KEYS if config.get(key)))
    scored = config.get("test_split") or config.get("validation_split")
    metadata = config.get("metadata") or {}
    found: dict[str, Split] = {}
    notes: list[str] = []
    for split in splits:
        if not task.shots and split != scored:
            continue
        source, rows = _rows_of(section, task, config, split, read)
        complete = list(_complete(source, rows, metadata.get("fields", [])))
        found[split] = Split(source, [row for row in complete if has_gold(row[1], metadata)])
        if split == scored and (without := [name for name, row in complete if not has_gold(row, metadata)]):
            notes.append(
                f"{task.task}: {len(without)} of {len(complete)} items have no right answer and are left out, the "
                f"first is {without[0]} of {source}."
            )
    _require_enough(task, found, str(scored))
    found[str(scored)] = Split(found[str(scored)].source, found[str(scored)].rows[: section.max_items])
    absent = {key: None for key in SPLIT_KEYS if config.get(key) and config[key] not in found}
    made = _dataset_of({split: [row for _, row in each.rows] for split, each in found.items()})
    place = _hub(config) if task.revision else f"corpus '{task.corpus}'" if task.corpus else str(section.place(task))
    asked = found[str(scored)].rows
    texts = [[str(row[key]) for key in metadata.get("known_by", []) if row.get(key)] for _, row in asked]
    overrides = {"custom_dataset": made, **absent}
    return Items(place, [name for name, _ in asked], overrides, found, notes, texts)


def require_gold(items: Items, metadata: dict[str, Any]) -> None:
    """Stop before an answer that cannot be right, in any split, counts as a wrong one.

    Raises:
        Unavailable: an item has one; it is named.
    """
    for split in items.splits.values():
        for name, row in split.rows:
            if problem := problem_of(row, metadata):
                raise Unavailable(f"item {name} of {split.source} {problem}. Mend the data.")


def _rows_of(
    section: Harness, task: HarnessTask, config: dict[str, Any], split: str, read: Read
) -> tuple[str, Iterable[Named]]:
    """Where the items of a split come from, and the items with their names."""
    if task.revision:
        return _of_hub(task.revision, config, split)
    return _of_corpus(task, split, read) if task.corpus else _of_file(section, task, split)


def _require_enough(task: HarnessTask, splits: dict[str, Split], scored: str) -> None:
    if not splits[scored].rows:
        raise Unavailable(f"its {scored} split has no item with a right answer. Add some, or take it out of 'tasks'.")
    others = [len(each.rows) for split, each in splits.items() if split != scored]
    fewest = min(others, default=task.shots)
    if fewest < task.shots:
        raise Unavailable(f"its train split has {fewest} items, and {task.shots} examples are drawn. Lower 'shots'.")


def _dataset_of(rows: dict[str, list[dict[str, Any]]]) -> Callable[..., Any]:
    """What lm-eval calls for the data of a task."""

    def make(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(found) for split, found in rows.items()})

    return make


def _of_file(section: Harness, task: HarnessTask, split: str) -> tuple[str, Iterator[Named]]:
    """Items by the number of their line."""
    path = section.place(task) / f"{split}.jsonl"
    if not path.is_file():
        raise Unavailable(f"{path} is not here. Bring it, then record it: dvc add {path.parent}")
    return str(path), _lines(path)


def _lines(path: Path) -> Iterator[Named]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise Unavailable(f"line {number} of {path} is no JSON: {one_line(error, 100)}. Mend it.") from error
            if not isinstance(row, dict):
                raise Unavailable(
                    f"line {number} of {path} is {one_line(line, 40)}, expected keys and values. Mend it."
                )
            yield str(number), row


def _hub(config: dict[str, Any]) -> str:
    return f"the Hub's {config.get('dataset_path')}"


def _of_hub(revision: str, config: dict[str, Any], split: str) -> tuple[str, list[Named]]:
    """Items by their number, as `datasets` reads them."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    keys = config.get("dataset_kwargs") or {}
    place = f"split {split} of {_hub(config)} at {revision[:8]}"
    try:
        found: Any = load_dataset(
            config.get("dataset_path", ""), config.get("dataset_name"), split=split, **{**keys, "revision": revision}
        )
        rows = [dict(row) for row in found]
    except (DatasetsError, OSError, RuntimeError, ValueError) as error:  # of scripts, it raises a RuntimeError
        _require_answer(error, place)
        raise Unavailable(
            f"{place} cannot be read: {one_line(shown(error), 200)}. Check the key 'revision', HF_TOKEN "
            "and HF_ENDPOINT; of a data set that is a script, name a commit of its branch refs/convert/parquet."
        ) from error
    return place, [(str(number), row) for number, row in enumerate(rows, start=1)]


def _require_answer(error: Exception, place: str) -> None:
    """Tell a data set that is not there, or is broken, from a Hub that did not tell: scores are kept, outages pass.

    Raises:
        Refused: HF_HUB_OFFLINE is set, so no Hub was asked.
        components.hub.Unfinished: the Hub did not answer.
    """
    import httpx2
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, DataFilesNotFoundError | DatasetNotFoundError):
        return
    behind = _behind(error)
    lost = (httpx2.TransportError, ConnectionError, TimeoutError, LocalEntryNotFoundError)
    answers: list[Any] = [getattr(each, "response", None) for each in behind]
    is_passing = any(hub.is_passing(int(each.status_code)) for each in answers if each is not None)
    if not is_passing and not any(isinstance(each, lost) for each in behind):
        return
    if is_offline_mode():
        raise Refused(
            f"{place} is not on this machine, and HF_HUB_OFFLINE says that no Hub may be asked. Unset it, or take the "
            "task out of 'tasks'."
        ) from error
    raise hub.Unfinished(
        f"The Hub did not answer as it should for {place}: {one_line(shown(error), 200)}. Check the network and "
        "HF_ENDPOINT, then run the same command again."
    ) from None  # the library's own words may hold the password of an address


def _behind(error: BaseException) -> list[BaseException]:
    """An error and all that it came from."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and all(each is not other for other in found):
            found.append(each)
            todo += [each.__cause__, each.__context__]
    return found


def _of_corpus(task: HarnessTask, split: str, read: Read) -> tuple[str, Iterator[Named]]:
    """Items by the ids of their records."""
    ours = SPLITS_OF_A_CORPUS.get(split)
    if ours is None:
        raise Unavailable(f"its file reads the split '{split}', and a corpus has train, validation, test. Change it.")
    records = read(task.corpus, [task.column], splits={ours})
    return f"split {ours} of corpus '{task.corpus}'", ((row["id"], _fields(row[task.column])) for row in records)


def _fields(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": value}


def _complete(source: str, rows: Iterable[Named], fields: list[str]) -> Iterator[Named]:
    for name, row in rows:
        if lacking := [each for each in fields if each not in row]:
            raise Unavailable(
                f"item {name} of {source} has no field {', '.join(lacking)}, expected {', '.join(fields)}; it has "
                f"{', '.join(row)}. Mend the data."
            )
        yield name, row
