"""Whether items of a task stand in what a model was trained on.

The items of a task are indexed once, and each corpus is read once for all tasks: what was found is kept under the
checkpoint root by the content of corpus and task, so another model that was trained on the corpus takes it from there.
A model has also seen what the models have seen that it starts from or takes its rewards from. Of somebody else's model
nobody knows.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.foreign import registered
from components.foreign_schema import Contamination, Foreign
from components.kept import Kept
from components.manifest import read_manifest
from components.markdown import number, table
from components.measures import CLEAN, CONTAMINATED, Measure, expanded, told_of
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
SPLIT = "train"
PAGE_NAME = "contaminated.md"
"""The list of contaminated items, beside the scores."""
MOST_NAMED = 10
"""Of each task in the note beside its scores."""
MOST_LISTED = 1000
"""Of each task in the list."""
SHOWN_CHARS = 80


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
    texts: dict[str, str] = field(default_factory=dict)
    """Item -> how it begins."""

    def contaminated(self, section: Contamination) -> list[str]:
        """The items that count as seen, the ones with the largest share first."""
        bad = [item for item, share in self.shares.items() if share >= section.min_share]
        return sorted(bad, key=lambda item: -self.shares[item])


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
    begins: dict[str, dict[str, str]] = {}
    for name, task in tasks.items():
        if can_leak(task):
            own = modality(task.modality)
            texts = dict(own.task_texts(task, iterate_records))
            begins[name] = {item: " ".join(parts)[:SHOWN_CHARS] for item, parts in texts.items()}
            indices[name] = own.overlap_index(texts, section.min_ngram_chars, section.max_ngram_chars)
    seen = {name: np.zeros(len(index.keys), dtype=bool) for name, index in indices.items()}
    for corpus in corpora if indices else ():
        for name, marks in zip(indices, _seen_in(library, corpus, list(indices.values())), strict=True):
            seen[name] |= marks
    return {name: Looked(index.shares(seen[name]), index.num_chars, begins[name]) for name, index in indices.items()}


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
    """Add what was found to a payload of scores: to each item, to the totals, beside a score the clean one, and a note.

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
        shares, bad = looked.shares, looked.contaminated(section)
        marks = {item: float(share >= section.min_share) for item, share in shares.items()}
        for metric, values in ((SEEN, shares), (CONTAMINATED, marks)):
            rows = {"task": [name] * len(values), "item": list(values), "metric": [metric] * len(values)}
            parts.append(pa.table({**rows, "value": list(values.values())}, schema=items.schema))
        scores["tasks"][name] |= totals_of(items, name, told_of(tasks[name]), shares, section)
        if bad:
            scores.setdefault("notes", {}).setdefault(name, []).append(_note(looked, bad))
    pq.write_table(pa.concat_tables(parts), folder / ITEMS_NAME, compression="zstd")
    text = json.dumps(scores, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / SCORES_NAME).write_text(text + "\n", encoding="utf-8")
    return dict(scores["tasks"])


def _note(looked: Looked, bad: list[str]) -> str:
    named = ", ".join(f"`{item}` ({looked.shares[item]:.0%})" for item in bad[:MOST_NAMED])
    more = f" and {len(bad) - MOST_NAMED:,} more" if len(bad) > MOST_NAMED else ""
    return (
        f"{len(bad):,} of the {len(looked.shares):,} items that were looked for stand in the training data: {named}"
        f"{more}. {PAGE_NAME} beside the scores shows them."
    )


def page(section: Contamination, found: dict[str, Looked]) -> str:
    """The contaminated items of all tasks for a person, Markdown; empty if there are none."""
    parts = []
    for name, looked in sorted(found.items()):
        if bad := looked.contaminated(section):
            rows = [(f"`{item}`", f"{looked.shares[item]:.0%}", looked.texts.get(item, "")) for item in bad]
            more = f", the first {MOST_LISTED:,}" if len(bad) > MOST_LISTED else ""
            parts.append(f"## {name}: {number(len(bad))} of {number(len(looked.shares))} items{more}")
            parts.append(table(("Item", "Seen", "It begins"), rows[:MOST_LISTED]))
    return "\n\n".join(["# Items that stand in the training data", *parts]) + "\n" if parts else ""


def totals_of(
    items: "pa.Table", task: str, measures: Iterable[Measure], shares: dict[str, float], section: Contamination
) -> dict[str, float]:
    """The share of contaminated items, and where scores over the others differ, each measure over these.

    An item that was not looked for, since it is shorter than an n-gram, is not called clean. Where items are named
    `<part>/<item>`, each part has its own counts and share too. The mean of several metrics has a clean one of those
    that have one, and `num_tasks_clean` says of how many.
    """
    from components.standard_errors import by_metric, clean_of, total_of

    values = by_metric(items, task)
    marks = {item: float(share >= section.min_share) for item, share in shares.items()}
    everything = marks.keys() | {item for rows in values.values() for item in rows}
    found = _counts(everything, marks, "")
    parts = {item.split("/", 1)[0] for item in everything if "/" in item}
    for part in sorted(parts if len(parts) > 1 else ()):
        found |= _counts({item for item in everything if item.startswith(f"{part}/")}, marks, f"{part}/")
    if (clean := clean_of(values | {CONTAMINATED: marks})) is None:
        return found
    for measure in expanded(measures, values):
        total = measure.total or measure.metric
        if measure.mean_of:
            known = [found[metric + CLEAN] for metric in measure.mean_of if metric + CLEAN in found]
            value = sum(known) / len(known) if known else None
            found[f"{total.rpartition('/')[0]}/num_tasks{CLEAN}"] = len(known)
        else:
            value = total_of(measure, clean)
        if value is not None:
            found[total + CLEAN] = value
    return found


def _counts(items: Collection[str], marks: dict[str, float], prefix: str) -> dict[str, float]:
    looked = [marks[item] for item in items if item in marks]
    found: dict[str, float] = {
        f"{prefix}num_looked_for": len(looked),
        f"{prefix}num_not_looked_for": len(items) - len(looked),
        f"{prefix}num_contaminated": int(sum(looked)),
    }
    return found | ({f"{prefix}{SHARE}": sum(looked) / len(looked)} if looked else {})


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
            "in `clean` leaves those out, and items too short to be looked for, which are counted as not looked for."
        )
    if facts.get("unknown"):
        named = ", ".join(f"`{each}`" for each in facts["unknown"])
        parts.append(f"Contamination is unknown as far as {named} goes: nobody tells what it was trained on.")
    return " ".join(parts)
