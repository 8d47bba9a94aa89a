"""Tasks of EleutherAI's lm-eval, run as a library on task files of ours: prompts and metrics are theirs, passes ours.

A task file is lm-eval's own YAML, so `lm_eval --include_path recipes/tasks/harness` reads it too. Under `metadata` it
says besides what lm-eval has no word for: `fields` that an item needs, `gold` and what it has to be (`harness_gold`),
`too_long` (what becomes of a context that is), and what the published scores did.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from components.modalities.text.harness_gold import problem_of_choice
from components.modalities.text.harness_items import Items, Unavailable, items_of, require_gold
from components.modalities.text.harness_schema import PAPER, Harness, HarnessTask, prompt_file, with_includes
from components.modalities.text.japanese_answers import rouge2
from components.outcomes import Refused
from components.wording import one_line

SHOT_SEED = 1234
"""lm-eval's own, by which examples are drawn."""
NUM_NAMED = 3

Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """One task in one set, ready to be asked."""

    section: HarnessTask
    set_name: str
    task: Any
    """lm-eval's."""
    items: Items

    @property
    def file(self) -> Path:
        """Its prompt's."""
        return prompt_file(self.section, self.set_name)


def score(section: Harness, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Score a model on tasks of lm-eval.

    A task whose data are not there or not as they should be, or whose file fails on them, is told of in a note, and the
    others go on. Answers are kept, so a run after a kill asks only what is missing.

    Args:
        section: the task's.
        model: see `components.scoring.Model`.
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many items are answered, in all sets together, of how many.

    Yields:
        Rows of item (`<task>/<number or id>`), metric (`<set>/<task>/<metric>`) and value, and of item
        (`<set>/<task>/<number or id>`), prompt and output: what was asked and answered. Totals are the same metrics'
        means, `<set>/average` over the tasks that could be scored, of which there are `<set>/num_tasks`, and for each
        task `<task>/num_items` and `<set>/<task>/num_cut`: items that lost a part of their context. Notes say what is
        missing and why, and name the first items that lost something.

    Raises:
        Refused: a prompt does not exist, no task can be scored, or the network answers NaN.
        components.hub.Unfinished: a data set's Hub does not answer.
    """
    loaded, notes = load_all(section, read)
    yield from ({"note": note} for note in notes)
    if not loaded:
        raise Refused("No task can be scored. " + " ".join(notes))
    from components.modalities.text.harness_model import Answers, HarnessModel

    asked = HarnessModel(model, Answers(model))
    means: dict[str, dict[str, float]] = {name: {} for name in section.sets}
    num_done, num_all = 0, sum(len(each.items.names) for each in loaded)
    for each in loaded:
        size = len(each.items.names)

        def told(share: float, before: int = num_done, size: int = size) -> None:
            tell(before + int(share * size), num_all)

        asked.begin(each.task, is_published=each.set_name == PAPER, told=told)
        try:
            with _blaming(each.file, each.items.source, "fails on answers to"):
                rows = list(_answered(each, asked))
        except Unavailable as unfit:
            yield {"note": (note := f"{each.section.task} is missing in '{each.set_name}': {unfit}")}
            notes.append(note)
            rows = []
        num_done += size
        tell(num_done, num_all)
        if not rows:
            continue
        yield from rows
        metrics = _values(rows)
        means[each.set_name] |= {key: sum(values) / len(values) for key, values in metrics.items()}
        yield _total(f"{each.set_name}/{each.section.task}/num_cut", len(asked.cut))
        if asked.cut:
            yield {"note": _told_of_cut(each, sorted(asked.cut), asked.longest)}
    if not all(means.values()):
        raise Refused("No task can be scored. " + " ".join(notes))
    yield from _totals(section, loaded, means)


def _values(rows: list[Row]) -> dict[str, list[float]]:
    """Those of each metric."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if "metric" in row:
            found.setdefault(row["metric"], []).append(row["value"])
    return found


def _told_of_cut(loaded: Loaded, numbers: list[int], longest: int) -> str:
    names = [loaded.items.names[number] for number in numbers]
    more = ", …" if len(names) > NUM_NAMED else ""
    return (
        f"{loaded.section.task} in '{loaded.set_name}': {len(names):,} of {len(loaded.items.names):,} items did not "
        f"fit into {longest:,} tokens whole; the first: {', '.join(names[:NUM_NAMED])}{more}"
    )


def _totals(section: Harness, loaded: list[Loaded], means: dict[str, dict[str, float]]) -> Iterator[Row]:
    for name, found in means.items():
        yield from (_total(key, value) for key, value in found.items())
        counted = [found[key] for task in section.tasks if (key := section.key(name, task)) in found]
        yield _total(f"{name}/average", sum(counted) / len(counted))
        yield _total(f"{name}/num_tasks", len(counted))
    sizes = {each.section.task: len(each.items.names) for each in loaded}
    yield from (_total(f"{task}/num_items", size) for task, size in sizes.items())


def _total(metric: str, value: float) -> Row:
    return {"item": None, "metric": metric, "value": float(value)}


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_all(section: Harness, read: Read) -> tuple[list[Loaded], list[str]]:
    """Every task in every set, and what is said of those that cannot be scored."""
    for each in section.tasks:
        for name in section.sets:
            prompt_file(each, name)  # refuses what is not there
    with _at_work():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_defaults=False)
        loaded: list[Loaded] = []
        notes: list[str] = []
        for each in section.tasks:
            try:
                found = [_load(manager, section, each, name, read) for name in section.sets]
            except Unavailable as missing:
                notes.append(f"{each.task} is missing: {missing}")
                continue
            loaded += found
            notes += list(dict.fromkeys(note for one in found for note in one.items.notes))
    return loaded, notes


def texts_of_items(section: Harness, read: Read, told: Callable[[str], None]) -> Iterator[tuple[str, list[str]]]:
    """(item as rows name it, the texts by which it is known again); `told` receives which tasks have none here."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for each in section.tasks:
        file = prompt_file(each, section.sets[0])
        try:
            items = items_of(section, each, load_yaml(file), read)
        except Unavailable as absent:
            told(f"{each.task}: {absent}")
            continue
        for name, texts in zip(items.names, items.texts, strict=True):
            yield f"{each.task}/{name}", texts


def _load(manager: Any, section: Harness, each: HarnessTask, name: str, read: Read) -> Loaded:
    """One task as lm-eval's, over items that are complete.

    Raises:
        Unavailable: its data are not there, not readable, have an answer that cannot be right, or its prompt cannot be
            made of them.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    file = prompt_file(each, name)
    with_includes(file)  # refuses what is no YAML
    config = load_yaml(file)
    items = items_of(section, each, config, read)
    require_gold(items, config.get("metadata") or {})
    with _blaming(file, items.source, "makes no question of"):
        [task] = manager.load([{**config, "num_fewshot": each.shots, **items.overrides}])["tasks"].values()
        documents = list(task.eval_docs)
        for document in documents[: len(items.names)]:
            task.doc_to_text(document)
            task.doc_to_target(document)
        _require_choices(task, config, items)
    if each.metric not in task.aggregation():
        raise Refused(
            f"Task '{each.task}' has the metrics {', '.join(task.aggregation())} ({file}), and '{each.metric}' is to "
            "count. Change the key 'metric'."
        )
    return Loaded(each, name, task, items)


def _require_choices(task: Any, config: dict[str, Any], items: Items) -> None:
    """Of a task file that does not say what its right answers are, see that lm-eval finds each among the choices."""
    metadata = config.get("metadata") or {}
    is_other = task.multiple_input or config.get("process_docs")  # what is right stands elsewhere, or in other rows
    if config.get("output_type") != "multiple_choice" or "gold_is" in metadata or is_other:
        return
    for split in items.splits.values():
        for name, row in split.rows:
            gold, choices = task.doc_to_target(row), task.doc_to_choice(row)
            if problem := problem_of_choice(gold, choices, metadata.get("gold", "")):
                raise Unavailable(f"item {name} of {split.source} {problem}. Mend the data, or the task's file.")


@contextmanager
def _blaming(file: Path, source: str, does: str) -> Iterator[None]:
    """What an unfit task file or unfit data raise makes the task unavailable.

    Errors of the machine (OSError) or of the network (`NetworkFailed`) do not: a run that made a task missing by them
    would count as done.
    """
    from jinja2 import TemplateError

    try:
        yield
    except Refused:
        raise
    except (TemplateError, LookupError, TypeError, ValueError, AssertionError) as error:
        words = one_line(f"{type(error).__name__}: {error}", 200)
        raise Unavailable(f"{file} {does} {source}: {words}. Mend the data or the task's file.") from error


# ---- asking ----------------------------------------------------------------------------------------------------------


def samples_of(loaded: Loaded, asked: Any) -> list[dict[str, Any]]:
    """What lm-eval's own evaluator makes of one task: an item each, with its answers and metrics.

    Args:
        loaded: the task.
        asked: a `HarnessModel` that has begun it.
    """
    from lm_eval.evaluator import evaluate

    task, name = loaded.task, loaded.task.task_name
    task.set_fewshot_seed(SHOT_SEED)
    with _at_work():
        found = evaluate(asked, {"tasks": {name: task}}, limit=len(loaded.items.names), bootstrap_iters=0)
    return list(found["samples"][name])


def _answered(loaded: Loaded, asked: Any) -> Iterator[Row]:
    """The rows of one task in one set."""
    for sample in samples_of(loaded, asked):
        values = {metric: float(sample[metric]) for metric in sample["metrics"]}
        if "rouge2" in values and loaded.set_name == PAPER:
            [answer] = sample["filtered_resps"]
            values["rouge2"] = rouge2(answer, sample["target"], lambda text: _pieces(asked, text))
        item = f"{loaded.section.task}/{loaded.items.names[sample['doc_id']]}"
        yield {"item": f"{loaded.set_name}/{item}", "prompt": sample["arguments"][0][0], "output": _said(sample)}
        for metric, value in values.items():
            yield {"item": item, "metric": f"{loaded.set_name}/{loaded.section.task}/{metric}", "value": value}


def _said(sample: dict[str, Any]) -> str:
    """An answer as text: of choices the most likely one."""
    answers = sample["filtered_resps"]
    if isinstance(answers[0], str):
        return answers[0]
    best = max(range(len(answers)), key=lambda place: answers[place][0])
    return str(sample["arguments"][best][1])


def _pieces(asked: Any, text: str) -> list[str]:
    """A model's own tokens, as words of ROUGE."""
    return [str(each) for each in asked.encoder.encode_texts([text])[0].tolist()]


@contextmanager
def _at_work() -> Iterator[None]:
    """lm-eval without its advice to whom reads its log, and with each template compiled once.

    What goes wrong is raised. lm-eval compiles its templates anew for every item and example: with a small network,
    that was half of the time on xwinograd-ja.
    """
    from lm_eval.utils import env

    templates: Any = env
    loggers = [logging.getLogger(each) for each in ("lm_eval", "datasets")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        templates.from_string = cache(env.from_string)
        yield
    finally:
        del templates.from_string
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
