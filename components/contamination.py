"""Whether items of a task stand in what a model was trained on.

The items of a task are indexed once, and each corpus is read once for all tasks: what was found is kept under the
checkpoint root by the content of corpus and task, so another model that was trained on the corpus takes it from there.
A model has also seen what the models have seen that it starts from or takes its rewards from. Of somebody else's model
nobody knows.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.foreign import registered
from components.foreign_schema import Contamination, Foreign
from components.kept import Kept
from components.manifest import read_manifest
from components.measures import told_of
from components.modalities import MODALITIES, modality
from components.progress import Progress
from components.recipes import Library, references
from components.records import count_records, iterate_records

if TYPE_CHECKING:
    import pyarrow as pa

SHARE = "contaminated_share"
"""The total that tells which share of a task's items stands in the training data."""
SEEN = "seen_share"
"""The metric of an item that tells how much of it does."""
CLEAN = "_clean"
"""Ends the name of a total over the items that do not."""
SPLIT = "train"


@dataclass
class Sources:
    """What a model was trained on, itself and the models that it was made from."""

    corpora: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Somebody else's models among them."""


def sources_of(library: Library, name: str) -> Sources:
    """What a recipe's model has seen, by the recipes alone; of a version of the registry, by the recipe it is of."""
    found, open_names, met = Sources(), [name], set()
    while open_names:
        each = open_names.pop()
        if each in met:
            continue
        met.add(each)
        recipe = library.read("recipe", each)
        if isinstance(recipe, Foreign):
            version = registered(recipe.source)
            if version is not None and version.model in library.files["recipe"]:
                open_names.append(version.model)
            else:
                found.unknown.append(each)
            continue
        for kind, other in references(recipe, ("starts_from", "pretrain", "align")):
            if kind in ("shards", "corpus"):
                found.corpora.append(other.partition("+")[0])
            elif kind in ("weights", "package"):
                open_names.append(other)
    return Sources(sorted(set(found.corpora)), sorted(found.unknown))


def corpora_to_read(library: Library, name: str) -> list[str]:
    """The corpora in which the items of a recipe's tasks are looked for; none where no item can stand in one."""
    recipe = library.read("recipe", name)
    tasks = [library.read("task", task) for task in recipe.evaluate.tasks]
    if recipe.evaluate.contamination is None or not any(map(can_leak, tasks)):
        return []
    return [corpus for corpus in sources_of(library, name).corpora if _columns(library, corpus)]


def can_leak(task: Any) -> bool:
    """Whether a task has items that can stand in training data."""
    return bool(getattr(type(task), "CAN_LEAK", False))


def _columns(library: Library, corpus: str) -> dict[str, Any]:
    """The columns of a corpus in which text is looked for."""
    columns = library.read("corpus", corpus).columns
    known = [each for each in MODALITIES if hasattr(modality(each), "task_texts")]
    return {name: column for name, column in columns.items() if column.modality in known[:1]}


# ---- looking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looked:
    """What was found of one task."""

    shares: dict[str, float]
    """Item -> the share of its n-grams that were seen; items shorter than one are not in it."""
    ngram_chars: int


def look(library: Library, section: Contamination, tasks: dict[str, Any], corpora: list[str]) -> dict[str, Looked]:
    """Look for the items of tasks in the train split of corpora.

    Args:
        library: the recipes.
        section: when an item counts.
        tasks: name -> section.
        corpora: their states are made.

    Returns:
        Task -> what was found, of those whose items can stand in training data.
    """
    indices: dict[str, Any] = {}
    for name, task in tasks.items():
        if can_leak(task):
            own = modality(task.modality)
            texts = dict(own.task_texts(task, iterate_records))
            indices[name] = own.overlap_index(texts, section.min_ngram_chars, section.max_ngram_chars)
    seen = {name: np.zeros(len(index.keys), dtype=bool) for name, index in indices.items()}
    for corpus in corpora if indices else ():
        for name, marks in zip(indices, _seen_in(library, corpus, list(indices.values())), strict=True):
            seen[name] |= marks
    return {name: Looked(index.shares(seen[name]), index.num_chars) for name, index in indices.items()}


def _seen_in(library: Library, corpus: str, indices: list[Any]) -> list[np.ndarray]:
    """What of indices a corpus holds: as it was found before, or by reading it once for all that are new."""
    columns = _columns(library, corpus)
    facts = {
        "corpus": {verb: read_manifest(verb, corpus).payload_hash for verb in ("ingest", "validate")},
        "columns": sorted(columns),
        "split": SPLIT,
    }
    kept: Kept[bytes] = Kept("overlaps", facts)
    known = kept.recall([index.digest for index in indices])
    new = [index for index in indices if index.digest not in known]
    if new:
        name = next(iter(columns.values())).modality
        found = modality(name).look_for(new, _texts(corpus, columns))
        known |= {index.digest: np.packbits(marks).tobytes() for index, marks in zip(new, found, strict=True)}
        kept.keep({index.digest: known[index.digest] for index in new})
    return [
        np.unpackbits(np.frombuffer(known[index.digest], np.uint8), count=len(index.keys)).astype(bool)
        for index in indices
    ]


def _texts(corpus: str, columns: dict[str, Any]) -> Iterator[str]:
    total = count_records(corpus, {SPLIT})
    with Progress(f"look for items in {corpus}", total, unit="record") as progress:
        for number, row in enumerate(iterate_records(corpus, list(columns), splits={SPLIT}), 1):
            for name, column in columns.items():
                yield from modality(column.modality).texts_of(row[name], column)
            progress.update(number)


# ---- telling ---------------------------------------------------------------------------------------------------------


def add_to(folder: Path, section: Contamination, tasks: dict[str, Any], found: dict[str, Looked]) -> dict[str, Any]:
    """Add what was found to a payload of scores: to each item, to the totals, and beside a score the clean one.

    Returns:
        The totals, by task and metric.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.scoring import ITEMS_NAME, SCORES_NAME

    items = pq.read_table(folder / ITEMS_NAME)
    scores = json.loads((folder / SCORES_NAME).read_text(encoding="utf-8"))
    parts = [items]
    for name, looked in found.items():
        shares = looked.shares
        rows = {"task": [name] * len(shares), "item": list(shares), "metric": [SEEN] * len(shares)}
        parts.append(pa.table({**rows, "value": list(shares.values())}, schema=items.schema))
        scores["tasks"][name] |= totals_of(items, name, told_of(tasks[name]), shares, section)
    pq.write_table(pa.concat_tables(parts), folder / ITEMS_NAME, compression="zstd")
    text = json.dumps(scores, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / SCORES_NAME).write_text(text + "\n", encoding="utf-8")
    return dict(scores["tasks"])


def totals_of(
    items: "pa.Table", task: str, measures: tuple[Any, ...], shares: dict[str, float], section: Contamination
) -> dict[str, float]:
    """The share of contaminated items, and where there are some, each measure over the others.

    Where items are named `<part>/<item>`, each part has its own counts and share too.
    """
    bad = {item for item, share in shares.items() if share >= section.min_share}
    found = _counts(shares, bad, "")
    parts = {item.split("/", 1)[0] for item in shares if "/" in item}
    for part in sorted(parts if len(parts) > 1 else ()):
        found |= _counts({item for item in shares if item.startswith(f"{part}/")}, bad, f"{part}/")
    if bad:
        for measure in measures:
            clean = _mean_over(items, task, measure, bad)
            if clean is not None:
                found[(measure.total or measure.metric) + CLEAN] = clean
    return found


def _counts(items: Collection[str], bad: set[str], prefix: str) -> dict[str, float]:
    num_bad = len(bad.intersection(items))
    found: dict[str, float] = {f"{prefix}num_looked_for": len(items), f"{prefix}num_contaminated": num_bad}
    return found | ({f"{prefix}{SHARE}": num_bad / len(items)} if items else {})


def _mean_over(items: "pa.Table", task: str, measure: Any, without: set[str]) -> float | None:
    """A measure over the items that are not in a set; None if none is left."""
    from components.standard_errors import values_by_item

    values = values_by_item(items, task, measure.metric)
    weights = values_by_item(items, task, measure.per) if measure.per else dict.fromkeys(values, 1.0)
    left = [item for item in values if item not in without and item in weights]
    total = sum(weights[item] for item in left)
    return sum(values[item] for item in left) / total if total else None


def facts_of(
    library: Library, name: str, section: Contamination, found: dict[str, Looked], corpora: list[str]
) -> dict[str, Any]:
    """What the manifest tells of it."""
    return {
        "corpora": corpora,
        "unknown": sources_of(library, name).unknown,
        "min_share": section.min_share,
        "ngram_chars": {task: looked.ngram_chars for task, looked in found.items()},
    }


def in_words(facts: dict[str, Any]) -> str:
    """What a person reads of where items were looked for; empty if they were not."""
    parts = []
    if lengths := sorted(set(facts.get("ngram_chars", {}).values())):
        shown = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        parts.append(
            f"Items were looked for in the train split of {', '.join(f'`{each}`' for each in facts['corpora'])}, all "
            f"that the model and those it was made from were trained on. An item is contaminated if "
            f"{facts['min_share']:.0%} of its stretches of {shown} letters and digits stand there; a score that ends "
            "in `clean` leaves those out."
        )
    if facts.get("unknown"):
        named = ", ".join(f"`{each}`" for each in facts["unknown"])
        parts.append(f"Contamination is unknown as far as {named} goes: nobody tells what it was trained on.")
    return " ".join(parts)
