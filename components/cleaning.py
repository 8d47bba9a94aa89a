"""A corpus that is another one without near duplicates, its own and those of other corpora, and items of tasks."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from components import decontaminating, near_duplicates, paths
from components.derived import Derived, require_same_columns, taken_over
from components.manifest import read_manifest
from components.modalities import modality
from components.near_duplicates import MODALITY, Compared
from components.outcomes import Refused
from components.recipes import Corpus, Library, references
from components.records import parts_of
from components.rows import Row
from components.wording import one_line

WITHIN = "near duplicate of another record (source.near_duplicates)"
ACROSS = "near duplicate of a record of corpus '{}' (source.near_duplicates.against)"
HOLDS = "holds an item of task '{}' (source.decontaminate)"
NUM_SAMPLES = 5
SHOWN_CHARS = 120


@dataclass
class _Step:
    """What one step took out."""

    name: str
    rule: str
    removed: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)


class Cleaning(Derived):
    """The rows of one cleaned corpus.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.cleaning_schema.Cleaned`.

    Raises:
        Refused: another corpus is not ready, or has not the columns.
    """

    CHUNK_RECORDS = 1

    def __init__(self, name: str, corpus: Corpus) -> None:
        self.library = Library()
        require_same_columns(self.library, name, corpus, corpus.columns, "cleans")
        super().__init__(name, corpus)
        others = self.source.near_duplicates.against if self.source.near_duplicates else []
        *self.others, self.own = [self._compared(each) for each in [*others, self.source.corpus]]
        self.steps: dict[str, _Step] = {}
        self.read: Counter[str] = Counter()
        self.absent: dict[str, list[str]] = {}
        """Task -> what of it has no items here, with the reason."""

    def _compared(self, corpus: str) -> Compared:
        """A corpus with its columns of text."""
        columns = self.library.read("corpus", corpus).columns
        texts = {key: each for key, each in columns.items() if each.modality == MODALITY}
        if corpus == self.source.corpus:
            texts = {key: each for key, each in texts.items() if key in self.corpus.columns}
        if not texts:
            raise Refused(
                f"corpus '{self.name}' compares texts, but corpus '{corpus}' has no column of modality '{MODALITY}'. "
                f"Change 'source' in {self.library.path('corpus', self.name)}."
            )
        return Compared(parts_of(corpus), texts)

    @property
    def revisions(self) -> dict[str, int]:
        """That of what finds near duplicates and items."""
        return {near_duplicates.__name__: near_duplicates.REVISION}

    @property
    def parents(self) -> dict[str, str]:
        """The corpus, those it is held against, and those and the files that tasks are made of."""
        named = [each.parts.corpus for each in (*self.others, self.own)]
        found: dict[str, str] = {}
        if (tasks := self.source.decontaminate) is not None:
            found = decontaminating.parents_of(self.library, tasks)
            for task in tasks.tasks:
                named += [each for kind, each in references(self.library.read("task", task)) if kind == "corpus"]
        nodes = [(verb, each) for each in dict.fromkeys(named) for verb in ("ingest", "validate")]
        return found | {paths.payload(*node).as_posix(): read_manifest(*node).payload_hash for node in nodes}

    def _columns(self) -> list[str]:
        return [*self.corpus.columns, "licence", "source"]

    def rows(self, tell: Callable[[int, str], None]) -> Iterator[tuple[int, Path, Row]]:
        """Every row with how many records are done, after all that goes is known.

        Raises:
            Refused: an executor or a task is not there.
            RuntimeError: a worker was killed; what is done is kept.
        """
        indices = self._indices(tell)  # what is missing is refused before the long work on near duplicates
        near = self._near(tell)
        held = self._held(indices, tell)
        done = 0
        for part in range(len(self.own.parts.files)):
            likes = near(part)
            items = held(part)
            for place, record in enumerate(self.own.parts.records(part, self._columns())):
                done += 1
                self.read["records"] += 1
                if place in likes:
                    yield done, self.place, self._gone(record, *likes[place])
                elif place in items:
                    yield done, self.place, self._gone(record, *self._item(items[place]))
                else:
                    yield done, self.place, self._row(record, {})

    # ---- what goes ----

    def _near(self, tell: Callable[[int, str], None]) -> Callable[[int], dict[int, tuple[str, str, Callable[[], str]]]]:
        """A function from a part to what goes of it: place -> reason, cause, and the text that it is like."""
        settings = self.source.near_duplicates
        if settings is None:
            return lambda _part: {}
        corpora = [*self.others, self.own]
        folder, files = near_duplicates.find(corpora, settings, self.corpus.executor, lambda words: tell(0, words))
        rule = (
            f"{settings.min_similarity:.0%} of {settings.num_bands * settings.band_rows} hashes over "
            f"{settings.ngram_chars} characters agree"
        )
        self._step(WITHIN, "near duplicates within", rule)
        for each in self.others:
            self._step(ACROSS.format(each.parts.corpus), f"near duplicates of {each.parts.corpus}", rule)

        def gone(part: int) -> dict[int, tuple[str, str, Callable[[], str]]]:
            found: dict[int, tuple[str, str, Callable[[], str]]] = {}
            for place, keeper, similarity in np.load(folder / "removed" / f"{part:05d}.npy", allow_pickle=False):
                number, at = divmod(int(keeper), 1 << 32)
                other, other_part = files[number]
                compared = corpora[other]
                reason = WITHIN if compared is self.own else ACROSS.format(compared.parts.corpus)
                found[int(place)] = (
                    reason,
                    f"{similarity:.0%} like a record of {compared.parts.corpus}",
                    partial(_text_at, compared, other_part, at),
                )
            return found

        return gone

    def _indices(self, tell: Callable[[int, str], None]) -> dict[str, Any]:
        """The items of tasks; what of a task has none here is said, and stands in the report."""
        settings = self.source.decontaminate
        if settings is None:
            return {}
        tell(0, "items of tasks")
        indices, self.absent = decontaminating.indices_of(self.library, settings)
        for task, reasons in self.absent.items():
            why = "".join(f"\n  {each}" for each in reasons)
            sys.stderr.write(f"{self.name} is not cleaned of all items of task '{task}', some are not here:{why}\n")
        return indices

    def _held(
        self, indices: dict[str, Any], tell: Callable[[int, str], None]
    ) -> Callable[[int], dict[int, dict[str, Any]]]:
        """A function from a part to the items that its records hold."""
        settings = self.source.decontaminate
        if settings is None:
            return lambda _part: {}
        tell(0, f"records that hold items of {', '.join(indices)}")
        for task, index in indices.items():
            rule = f"{settings.min_share:.0%} of an item's stretches of {index.num_chars} characters stand in it"
            if without := self.absent.get(task):
                rule += f" (not looked for, since they are not here: {', '.join(without)})"
            self._step(HOLDS.format(task), f"items of {task}", rule)
        folder = decontaminating.find(self.own, indices, settings, self.corpus.executor)
        return lambda part: decontaminating.noted(folder, part)

    def _item(self, found: dict[str, Any]) -> tuple[str, str, Callable[[], str]]:
        def text() -> str:
            return " | ".join(self._texts_of_tasks.get((found["task"], found["item"]), []))

        return HOLDS.format(found["task"]), f"{found['share']:.0%} of item {found['item']}", text

    @cached_property
    def _texts_of_tasks(self) -> dict[tuple[str, str], list[str]]:
        """The texts of items, for the few that are shown."""
        from components.records import iterate_records

        found = {}
        for name in self.source.decontaminate.tasks:
            task = self.library.read("task", name)
            for item, texts in modality(task.modality).task_texts(task, iterate_records):
                found[name, item] = [one_line(text, SHOWN_CHARS) for text in texts]
        return found

    # ---- rows ----

    def _step(self, reason: str, name: str, rule: str) -> None:
        self.steps[reason] = _Step(name, rule)

    def _gone(self, record: dict[str, Any], reason: str, cause: str, other: Callable[[], str]) -> Row:
        step, text = self.steps[reason], self._text(record)
        step.removed += 1
        if len(step.sample) < NUM_SAMPLES:
            step.sample.append(
                {"record": record["id"], "text": one_line(text, SHOWN_CHARS), "cause": cause, "other": other()}
            )
        return Row(f"{self.source.corpus}:{record['id']}", None, reason, text[:1000])

    def _text(self, record: dict[str, Any]) -> str:
        own = modality(MODALITY)
        return " | ".join(text for key, each in self.own.columns.items() for text in own.texts_of(record[key], each))

    def _made(self, _chunk: list[dict[str, Any]], _tell: Callable[[str], None]) -> dict[str, Any]:
        return {}

    def _row(self, record: dict[str, Any], _made: dict[str, Any]) -> Row:
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        return Row(f"{self.source.corpus}:{record['id']}", fields | taken_over(record, self.corpus.columns))

    def details(self) -> dict[str, Any]:
        """For the manifest: by which rules, and how many went by each."""
        counts = {step.name: step.removed for step in self.steps.values()}
        return {"cleaning": {**self.source.model_dump(mode="json"), "removed": counts}, "engines": {}}

    def report(self) -> dict[str, Any]:
        """For the report: each step with its counts and a sample of what it took out."""
        left, steps = self.read["records"], []
        for step in self.steps.values():
            steps.append(
                {"name": step.name, "rule": step.rule, "records": left, "removed": step.removed, "sample": step.sample}
            )
            left -= step.removed
        return {"cleaning": {"corpus": self.source.corpus, "steps": steps}}


def _text_at(compared: Compared, part: int, place: int) -> str:
    """The beginning of the text of one record."""
    for number, record in enumerate(compared.parts.records(part, list(compared.columns))):
        if number == place:
            own = modality(MODALITY)
            texts = [text for key, each in compared.columns.items() for text in own.texts_of(record[key], each)]
            return one_line(" | ".join(texts), SHOWN_CHARS)
    return ""
