"""A corpus of raw files: its rows, and with them the files that they bring along."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from components import attached, downloads, paths, sources
from components.manifest import tree_hash
from components.outcomes import Refused
from components.recipes import Corpus
from components.rows import Row


class RawFiles:
    """The rows of files below `data/`.

    Args:
        name: the corpus.
        corpus: its section.

    Raises:
        Refused: a file is missing or of the wrong kind, or the disk has no room for the records.
    """

    unit = "files read"
    computes = False

    def __init__(self, name: str, corpus: Corpus) -> None:
        self.corpus = corpus
        self.files = sources.locate(name, corpus.source)
        self.attached = attached.Attached(name, corpus.source) if corpus.source.files_field else None
        needed = [column for column in corpus.columns.values() if not getattr(column, "may_lack", False)]
        keys = [key for column in needed for key in column.raw_keys.values()]
        sources.check_heads(name, self.files, corpus.source.format, keys)
        _check_room(name, self._needed())
        self.num_steps = len(self.files)

    def _needed(self) -> Iterable[Path]:
        """The files that records are made of; of a folder that several corpora share, those that the tables name."""
        if self.attached is None:
            return self.files
        if self.corpus.source.files_folder is None:
            return sources.raw_files(self.corpus.source)
        rows = (row for file in self.files for row in sources.read(file, self.corpus.source.format))
        return {place for row in rows if (place := self.attached.place_of(row)) is not None and place.is_file()}

    @property
    def revisions(self) -> dict[str, int]:
        """Of what brings files along, where rows do, besides those of the verb and of the modalities."""
        return {attached.__name__: attached.REVISION} if self.attached else {}

    @property
    def parents(self) -> dict[str, str]:
        """The raw files, by path as the corpus names them."""
        return {(paths.DATA / path).as_posix(): tree_hash(paths.DATA / path) for path in self.corpus.source.raw_paths}

    def rows_from(self, first: int, _tell: Callable[[int, str], None]) -> Iterator[tuple[int, Path, Row]]:
        """Every row from a file on, with its file and how many files are done."""
        for num_files, file in enumerate(self.files[first:], first):
            for row in sources.read(file, self.corpus.source.format):
                yield num_files, file, self.attached.bring(row, file) if self.attached else row

    def details(self) -> dict[str, Any]:
        """For the manifest and the report: how many addresses of a list gave a picture."""
        source = self.corpus.source
        return {"downloads": downloads.coverage_of(source)} if source.download else {}

    report = details


def _check_room(name: str, files: Iterable[Path]) -> None:
    """Records compress about as well as gzip, so plain text needs a third of its size and other files their own."""
    plain = (".txt", ".jsonl", ".csv", ".tsv")
    needed = int(sum(file.stat().st_size * (0.4 if file.suffix in plain else 1.2) for file in files))
    paths.ARTIFACTS.mkdir(exist_ok=True)
    free = shutil.disk_usage(paths.ARTIFACTS).free
    if free < needed:
        raise Refused(
            f"{paths.state('ingest', name)} needs about {needed:,} bytes, and {free:,} are free on the disk of "
            f"{paths.ARTIFACTS}/. Free some, or move the project to a larger disk."
        )
