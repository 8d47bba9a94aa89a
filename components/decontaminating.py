"""Records that hold items of evaluation tasks: by the stretches of characters of `components.contamination`.

datatrove's own step (0.10) parts text into words, which needs a tokenizer of Japanese, and drops a document for a
single n-gram of 12 words; items here are seen as `evaluate` sees them, so a score and a corpus mean the same.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.data import Document

from components.cleaning_schema import Decontamination
from components.contamination import SPLIT, can_leak
from components.executor_schema import Executor
from components.executors import run_parts
from components.locks import held
from components.manifest import tree_hash
from components.modalities import modality
from components.near_duplicates import MODALITY, REVISION, Compared, PartReader, folder_of, lock_of
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records


@dataclass(frozen=True)
class ItemFinder:
    """Notes which documents of a part hold items.

    Args:
        folder: where the notes go, a file a part: place of the document -> task, item, share of its stretches.
        indices: task -> its items' stretches.
        least: the share from which on an item counts.
    """

    folder: Path
    indices: dict[str, Any]
    least: float

    def __call__(self, data: Iterable[Document], rank: int, _world_size: int) -> None:
        """Look through the part `rank`."""
        own, found = modality(MODALITY), {}
        for place, document in enumerate(data):
            if document.metadata["split"] != SPLIT:
                continue
            seen = [
                (share, task, item)
                for task, index in self.indices.items()
                for item, share in own.items_in(index, document.text).items()  # type: ignore[attr-defined]
                if share >= self.least
            ]
            if seen:
                share, task, item = max(seen)
                found[place] = {"task": task, "item": item, "share": round(share, 4)}
        text = json.dumps(found, ensure_ascii=False)
        (self.folder / f"{rank:05d}.json").write_text(text, encoding="utf-8")


def indices_of(library: Library, settings: Decontamination) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The items of tasks as stretches of characters, and what of a task has no items here, with the reason.

    Raises:
        Refused: the items of a task cannot stand in training data, or none of them is there.
    """
    found, absent = {}, {}
    for name in settings.tasks:
        task = library.read("task", name)
        if not can_leak(task):
            raise Refused(
                f"Task '{name}' has no items that can stand in text. Take it out of source.decontaminate.tasks."
            )
        own = modality(task.modality)
        without: list[str] = []
        texts = dict(own.task_texts(task, iterate_records, without.append))
        if not texts:
            why = "".join(f"\n  {each}" for each in without)
            raise Refused(
                f"Task '{name}' has no item here, so nothing could be cleaned of it. Bring its items, or take it out "
                f"of source.decontaminate.tasks.{why}"
            )
        if without:
            absent[name] = without
        found[name] = own.overlap_index(texts, settings.min_ngram_chars, settings.max_ngram_chars)
    return found, absent


def find(compared: Compared, indices: dict[str, Any], settings: Decontamination, executor: Executor) -> Path:
    """Find which records of the split `train` hold items.

    Returns:
        The folder of what `ItemFinder` noted of each part.
    """
    facts = {
        "revision": REVISION,
        "corpus": compared.content(),
        "tasks": {name: index.digest for name, index in indices.items()},
        "min_share": settings.min_share,
    }
    folder = folder_of(facts)
    reader = PartReader(compared.parts, compared.columns, Path.cwd().as_posix())
    finder = ItemFinder(folder.resolve(), indices, settings.min_share)
    num_parts = len(compared.parts.files)
    with held(lock_of(folder)):
        run_parts(f"items of tasks in {compared.parts.corpus}", [reader, finder], num_parts, folder, executor)
    return folder


def noted(folder: Path, part: int) -> dict[int, dict[str, Any]]:
    """What was found in one part, by the place of a record."""
    raw = json.loads((folder / f"{part:05d}.json").read_text(encoding="utf-8"))
    return {int(place): found for place, found in raw.items()}


def parents_of(library: Library, settings: Decontamination) -> dict[str, str]:
    """What tasks read and decides what is found, by path; corpora of tasks are parents through their states."""
    found = {}
    for name in settings.tasks:
        for path in getattr(library.read("task", name), "files", ()):
            if (place := Path(path)).exists():
                found[place.as_posix()] = tree_hash(place)
    return found
