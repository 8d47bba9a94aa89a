"""How much room the data of a recipe will need: on disk, and in memory while an encoder is fitted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import cost as planning
from components.graph import plan
from components.recipes import Corpus, Library
from flows import collect

COMPRESSED = (".gz", ".zst", ".xz", ".parquet")
TEXT_IN_COMPRESSED = 3
"""Bytes of text for each of such a file; openly licensed Japanese as .jsonl.gz holds 3.4."""
BYTES_OF_CHARACTER = 3
STATES_OF_TEXT = 1
"""Bytes of records, accepted ids and shards for each of text: 0.75 of that Japanese with 2 bytes a token, and a third
more with 4."""


@dataclass(frozen=True)
class Room:
    """What a recipe will take on disk beyond what lies there, in bytes."""

    raw: int
    """Files that are still to come, of the corpora whose size is known; as text, so less if they are compressed."""
    states: int
    """Records and shards."""
    remote: int
    """The copies of raw files, records and shards in a DVC remote on this disk."""
    training: int
    """Checkpoints, and the weights in a state and in a package."""
    absent: tuple[str, ...]
    """Corpora whose raw files are not here, and which no generator makes."""
    unknown: tuple[str, ...]
    """Those of them that do not say how large they are."""

    @property
    def data(self) -> int:
        """All that grows with the corpora."""
        return self.raw + self.states + self.remote

    @property
    def total(self) -> int:
        """All of it."""
        return self.data + self.training


def room(library: Library, recipe: str) -> Room:
    """A projection of the disk that a recipe will take; data that a generator makes count when they are there."""
    raw = states = remote = 0
    stages = plan(library, recipe)
    corpora = {stage.name: library.read("corpus", stage.name) for stage in stages if stage.verb == "ingest"}
    lacking = collect.missing(library, stages)
    absent = tuple(name for name in lacking if not getattr(corpora[name].source, "generator", None))
    for name, corpus in corpora.items():
        text = text_bytes(corpus) or 0
        to_come = text if name in absent else 0
        raw += to_come
        states += STATES_OF_TEXT * text
        remote += STATES_OF_TEXT * text + (to_come or _raw_bytes(corpus))
    cost = planning.cost_of(library, recipe, on_gpu=False, is_compiled=False)
    training = planning.disk_bytes(cost, planning.training_of(library.read("recipe", recipe))) if cost else 0
    unknown = tuple(name for name in absent if text_bytes(corpora[name]) is None)
    return Room(raw, states, remote, training, absent, unknown)


def text_bytes(corpus: Corpus) -> int | None:
    """About how much text a corpus holds: by its files if they are here, else as it says; None if nothing tells."""
    files = _files(corpus)
    if files:
        return sum(
            each.stat().st_size * (TEXT_IN_COMPRESSED if each.name.endswith(COMPRESSED) else 1) for each in files
        )
    return int(corpus.expected_gigabytes * 1e9) if corpus.expected_gigabytes else None


def _raw_bytes(corpus: Corpus) -> int:
    return sum(each.stat().st_size for each in _files(corpus))


def _files(corpus: Corpus) -> list[Path]:
    paths = collect.raw_paths(corpus)
    return [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]


def fit_bytes(library: Library, encoder: str) -> tuple[int, int] | None:
    """The text that an encoder is fitted on, and the memory that this takes; None where either is not known.

    Args:
        library: holds the encoder.
        encoder: its name.
    """
    section = library.read("encoder", encoder)
    ratio = getattr(section, "memory_ratio", None)
    if ratio is None:
        return None
    total = 0.0
    for part in section.corpora:
        text = text_bytes(library.read("corpus", part.corpus))
        if text is None:
            return None
        total += part.share * text
    if section.sample_chars is not None:
        total = min(total, _sample_bytes(library, section))
    return int(total), int(ratio * total)


def _sample_bytes(library: Library, section: Any) -> float:
    """The text of a sample: of Japanese three bytes a character, but for a few; so too where no weight tells."""
    found = 0.0
    for part in section.corpora:
        if part.weight is None:
            return float(BYTES_OF_CHARACTER * section.sample_chars)
        is_japanese = "ja" in library.read("corpus", part.corpus).language
        found += part.weight * section.sample_chars * (BYTES_OF_CHARACTER if is_japanese else 1)
    return found
