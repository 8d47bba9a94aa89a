"""A corpus that is the translation of another one: its raw rows, made by an engine or taken from its memory."""

from collections.abc import Callable, Iterator
from typing import Any

from components.derived import Derived, require_same_columns
from components.modalities import modality
from components.recipes import Corpus, Library
from components.sources import Row
from components.translators import open_engine
from components.translators.memory import Memory
from components.translators.suspects import Suspects
from components.translators.units import cut, joined

ORIGINAL = "_original"
"""Ends the name of the column that keeps the other side."""


class Translation(Derived):
    """The rows of one translated corpus.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.translators.schema.Translated`.

    Raises:
        Refused: the other corpus is not ready or lacks a column, or the engine cannot be opened.
    """

    CHUNK_RECORDS = 512
    """Records whose texts are translated together; the memory of one run holds so many."""

    def __init__(self, name: str, corpus: Corpus) -> None:
        library = Library()
        other = library.read("corpus", corpus.source.corpus)
        require_same_columns(library, name, corpus, corpus.columns, "translates")
        self.languages = (other.language, corpus.language)
        super().__init__(name, corpus)
        self.engine = open_engine(self.source.engine, *self.languages)
        self.computes = self.source.engine.computes
        self.memory = Memory(self.engine.facts)
        self.suspects = Suspects(self.source.suspicion)

    @property
    def parents(self) -> dict[str, str]:
        """What the translations are made from, by path."""
        folder = self.source.engine.folder
        return super().parents | ({} if folder is None else {folder: self.engine.facts["content_hash"]})

    def _columns(self) -> list[str]:
        return [*self.corpus.columns, "licence", "source"]

    def _made(self, chunk: list[dict[str, Any]], tell: Callable[[str], None]) -> dict[str, str]:
        """The translation of every unit in some records."""
        units = {unit: None for record in chunk for _, text in self._texts(record) for unit in self._units(text)}
        known = self.memory.recall(units)
        missing = [unit for unit in units if unit not in known]
        for batch in self.engine.translate(missing):
            self.memory.keep(batch)
            known |= batch
            tell(f"{len(known):,} of {len(units):,} texts of the next {len(chunk)}")
        return known

    def _texts(self, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for column, section in self.corpus.columns.items():
            for text in modality(section.modality).texts_of(record[column], section):
                yield column, text

    def _units(self, text: str) -> list[str]:
        return [unit for line in cut(text, self.source.engine.unit) for unit in line]

    def _row(self, record: dict[str, Any], made: dict[str, str]) -> Row:
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        problems: list[str] = []
        for column, section in self.corpus.columns.items():
            own = modality(section.modality)
            texts = own.texts_of(record[column], section)
            translations = [
                joined(cut(text, self.source.engine.unit), made, self.corpus.language).strip() for text in texts
            ]
            for text, translation in zip(texts, translations, strict=True):
                problems += self.suspects.look(record["id"], text, translation)
            fields[column] = own.with_texts(record[column], section, translations)
            if getattr(section, "has_texts", True):
                fields[f"{column}{ORIGINAL}"] = record[column]
        where = f"{self.source.corpus}:{record['id']}"
        if problems and self.source.drop_suspicious:
            return Row(where, None, f"{problems[0]} (source.drop_suspicious)", str(fields)[:1000])
        return Row(where, fields)

    def details(self) -> dict[str, Any]:
        """For the manifest: who translated, and how much of it a person should look at."""
        engine = {**self.engine.facts, "unit": self.source.engine.unit}
        counts = {"pairs": self.suspects.num_pairs, "suspicious": dict(self.suspects.counts.most_common())}
        return {
            "translation": {"corpus": self.source.corpus, "engine": engine, **counts},
            "engines": {self.source.engine.model: self.source.engine.licence},
        }

    def report(self) -> dict[str, Any]:
        """For the report: the same with examples."""
        return {"translation": self.details()["translation"] | self.suspects.report()}
