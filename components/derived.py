"""A corpus that is made from the accepted records of another one: what its transformations share."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from components import paths
from components.manifest import read_manifest
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Corpus, Library
from components.records import count_records, iterate_records
from components.rows import Row


class Derived(ABC):
    """The raw rows of one such corpus, made of as many records together as a transformation says.

    Args:
        name: the corpus.
        corpus: its section, whose source has `corpus` and `max_records`.

    Raises:
        Refused: the other corpus is not ready.
    """

    unit = "record"
    computes = False
    """Whether a network makes it on this machine, whose GPUs then belong to it."""
    CHUNK_RECORDS: ClassVar[int]
    """Records that are worked on together; so many are in memory."""

    def __init__(self, name: str, corpus: Corpus) -> None:
        self.name, self.corpus, self.source = name, corpus, corpus.source
        found = count_records(self.source.corpus)
        self.num_steps = min(found, self.source.max_records or found)

    @property
    def revisions(self) -> dict[str, int]:
        """REVISION of what makes it, by module, besides those of the verb and of the modalities."""
        return {}

    @property
    def parents(self) -> dict[str, str]:
        """What it is made from, by path."""
        nodes = [("ingest", self.source.corpus), ("validate", self.source.corpus)]
        return {paths.payload(*node).as_posix(): read_manifest(*node).payload_hash for node in nodes}

    @property
    def place(self) -> Path:
        """What stands for the file that rows come from."""
        return paths.payload("ingest", self.source.corpus)

    def rows(self, tell: Callable[[int, str], None]) -> Iterator[tuple[int, Path, Row]]:
        """Every row with how many records are done.

        Args:
            tell: receives how many records are done, and words about those that follow.

        Raises:
            Refused: some could not be made; those that could be are kept.
        """
        records = itertools.islice(iterate_records(self.source.corpus, self._columns()), self.num_steps)
        done = 0
        while chunk := list(itertools.islice(records, self.CHUNK_RECORDS)):
            made = self._made(chunk, partial(tell, done))
            for record in chunk:
                done += 1
                yield done, self.place, self._row(record, made)

    @abstractmethod
    def _columns(self) -> list[str]:
        """What is read of the other corpus."""

    @abstractmethod
    def _made(self, chunk: list[dict[str, Any]], tell: Callable[[str], None]) -> dict[str, Any]:
        """What some records need, made or taken from what is kept."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """For the manifest: who made it, and under `engines` the licence of each that has one."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """For the report of `ingest`: the same, what a person should look at, and `pictures` (file name -> SVG)."""

    @abstractmethod
    def _row(self, record: dict[str, Any], made: dict[str, Any]) -> Row:
        """The raw row of a record."""


def require_same_columns(library: Library, name: str, corpus: Corpus, columns: dict[str, Any], does: str) -> None:
    """Refuse columns of a corpus that the one it is made from has not, with the same name, modality and form.

    Args:
        library: the recipes.
        name: the corpus.
        corpus: its section.
        columns: those of its columns that must be there.
        does: what it does with them, for the message.

    Raises:
        Refused: names the first such column.
    """
    theirs = library.read("corpus", corpus.source.corpus).columns
    for column, section in columns.items():
        other = theirs.get(column)
        if other is None or (other.modality, _form(other)) != (section.modality, _form(section)):
            raise Refused(
                f"corpus '{name}' {does} the column '{column}', expected one of the same name, modality and form in "
                f"corpus '{corpus.source.corpus}', which has {', '.join(theirs)}. Change 'columns' in "
                f"{library.path('corpus', name)}."
            )


def column_of(library: Library, name: str, corpus: Corpus, form: str) -> str:
    """The one column of a form that a corpus has.

    Raises:
        Refused: there is none, or there are several.
    """
    found = [column for column, section in corpus.columns.items() if _form(section) == form]
    if len(found) != 1:
        raise Refused(
            f"corpus '{name}' has {len(found)} columns of form '{form}', expected one. Change 'columns' in "
            f"{library.path('corpus', name)}."
        )
    return found[0]


def _form(section: Any) -> str:
    return str(getattr(section, "form", ""))


def taken_over(record: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """The raw parts of some columns of a record, which a reader makes into the same values again."""
    found: dict[str, Any] = {}
    for column, section in columns.items():
        own, value = modality(section.modality), record[column]
        found[column] = own.with_texts(value, section, own.texts_of(value, section))
    return found
