"""Which corpora a stage reads, and what for: what a tracking server shows as the data sets of a run."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import paths
from components.graph import Stage, plan_to
from components.manifest import MANIFEST_NAME, Manifest, read_manifest
from components.outcomes import Refused
from components.recipes import Library, references

DIGEST_CHARS = 36
"""The longest digest of a data set that MLflow takes; ours are longer."""
TRAINING, EVALUATION, ENCODER = "training", "evaluation", "encoder"
"""What a corpus serves for; MLflow's own words where it has one."""


@dataclass(frozen=True)
class UsedCorpus:
    """A corpus as one stage reads it."""

    name: str
    use: str
    content_hash: str
    """Of its records."""
    source: str
    """Where its raw data stand: the path that `data.dvc` covers, or an address."""
    counts: dict[str, int | float]
    columns: dict[str, str] = field(default_factory=dict)
    """Column of its records -> type, in the words of Parquet."""

    @property
    def digest(self) -> str:
        """The beginning of the content hash, as long as MLflow takes one."""
        return self.content_hash[:DIGEST_CHARS]


def used_by(library: Library, verb: str, name: str) -> list[UsedCorpus]:
    """The corpora that a stage reads, as far as they are made: each once, for its first use.

    None if the recipes have been edited meanwhile and no longer say how the stage is made.
    """
    found: dict[str, UsedCorpus] = {}
    try:
        stages = plan_to(library, verb, name)
    except Refused:
        return []
    tasks = library.read("recipe", name).evaluate.tasks if verb == "evaluate" else []
    scored = scored_on(library.read("task", task) for task in tasks)
    for corpus, use in _named(stages):
        if tasks and corpus not in scored:  # items of tasks are looked for in what the model was trained on
            continue
        if corpus not in found and (paths.state("ingest", corpus) / MANIFEST_NAME).is_file():
            found[corpus] = _used(read_manifest("ingest", corpus), use)
    return list(found.values())


def scored_on(tasks: Iterable[Any]) -> set[str]:
    """The corpora whose records are items of tasks, or examples before them."""
    return {name for task in tasks for kind, name in references(task) if kind == "corpus"}


def _named(stages: list[Stage]) -> Iterator[tuple[str, str]]:
    """(corpus, use) of the last of some stages; what shards were made from is read through them."""
    last, by_node = stages[-1], {(stage.verb, stage.name): stage for stage in stages}
    use = {"evaluate": EVALUATION, "fit": ENCODER}.get(last.verb, TRAINING)
    if last.verb == "ingest":
        yield last.name, use
    read = [last, *(by_node[parent] for parent in last.parents if parent[0] == "shard")]
    for stage in read if last.verb != "package" else []:
        yield from ((name, use) for verb, name in stage.parents if verb == "ingest")


def _used(manifest: Manifest, use: str) -> UsedCorpus:
    raw = sorted(manifest.parents)
    folder = paths.state("ingest", manifest.name)
    source = (raw[0] if len(raw) == 1 else os.path.commonpath(raw)) if raw else folder.as_posix()
    columns = _columns(paths.payload("ingest", manifest.name))
    return UsedCorpus(manifest.name, use, manifest.payload_hash, source, dict(manifest.counts), columns)


def _columns(records: Path) -> dict[str, str]:
    part = next(iter(sorted(records.rglob("*.parquet"))), None)
    if part is None:
        return {}
    import pyarrow.parquet as pq

    return {each.name: str(each.type) for each in pq.read_schema(part)}
