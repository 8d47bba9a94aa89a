"""A corpus that is another one without the pairs that a pair of towers finds far apart.

All pairs are scored first, and what is scored is kept by content; then the threshold is known, and rows are made.
"""

import hashlib
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from components import paths
from components.calibration import Calibration
from components.derived import Derived, column_of, require_same_columns, taken_over
from components.kept import Kept
from components.manifest import read_manifest
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Corpus, Foreign, Library
from components.records import iterate_records
from components.rows import Row
from components.weights import package_hash
from models import FAMILIES

MODALITY = "image"
FAR = "no caption near enough to its picture (source.keep_share, source.min_score)"


class Filtering(Derived):
    """The rows of one filtered corpus.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.filtering_schema.Filtered`.

    Raises:
        Refused: the other corpus or the model is not ready, or has not what is needed.
    """

    CHUNK_RECORDS = 256
    computes = True

    def __init__(self, name: str, corpus: Corpus) -> None:
        library = Library()
        forms = {form: column_of(library, name, corpus, form) for form in ("picture", "captions", "score")}
        self.picture, self.captions, self.score = forms.values()
        self.taken = {column: each for column, each in corpus.columns.items() if column != self.score}
        require_same_columns(library, name, corpus, self.taken, "takes over")
        super().__init__(name, corpus)
        self.recipe = library.read("recipe", self.source.model)
        own = self.recipe.layout if isinstance(self.recipe, Foreign) else self.recipe.package.layouts[0]
        self.folder = paths.layout(self.source.model, own)
        self.content_hash = package_hash(library, self.source.model)
        versions = {each: version(each) for each in ("torch", "transformers")}
        self.computed: Any = None
        if self.source.features is not None:
            opened = modality(MODALITY).open_computed  # type: ignore[attr-defined]
            self.computed = opened(self.source.features, "source.features")
        facts = {"features": self.computed.facts} if self.computed else {}
        self.kept: Kept[str] = Kept("scores", {"content_hash": self.content_hash, **versions, **facts})
        self.pair: Any = None
        self.calibration = Calibration(self.source.keep_share, self.source.min_score)
        self.numbers = array("q", [0])
        """Where the scores of each record begin."""

    @property
    def revisions(self) -> dict[str, int]:
        """That of the family whose network judges."""
        module = FAMILIES[self.recipe.family]
        return {module: import_module(module).REVISION}

    @property
    def parents(self) -> dict[str, str]:
        """The other corpus, and the model."""
        features = [("shard", name)] if (name := self.source.features) else []
        hashes = {paths.payload(*node).as_posix(): read_manifest(*node).payload_hash for node in features}
        return super().parents | hashes | {self.folder.as_posix(): self.content_hash}

    def _columns(self) -> list[str]:
        return [*self.taken, "licence", "source"]

    def rows(self, tell: Callable[[int, str], None]) -> Iterator[tuple[int, Path, Row]]:
        """Every row with how many records are done, after all pairs are scored.

        Raises:
            Refused: the other corpus has no pair.
        """
        columns = [self.picture, self.captions, "source"]
        records = itertools.islice(iterate_records(self.source.corpus, columns), self.num_steps)
        done, counts = 0, Counter[str]()
        while chunk := list(itertools.islice(records, self.CHUNK_RECORDS)):
            for record in chunk:
                record["number"] = counts[record["split"]]
                counts[record["split"]] += 1
            for record, (scores, other) in zip(chunk, self._scored(chunk), strict=True):
                lengths = [len(text) for text in self._texts(record)]
                self.calibration.add(scores, lengths, record["source"], other)
                self.numbers.append(self.numbers[-1] + len(scores))
            done += len(chunk)
            tell(0, f"{done:,} of {self.num_steps:,} pictures are scored")
        if not len(self.calibration):
            raise Refused(
                f"corpus '{self.name}': corpus '{self.source.corpus}' has no pair of picture and caption to score. "
                "Change source.corpus."
            )
        self.calibration.settle()
        self.place_of_row = 0
        yield from super().rows(tell)

    def _texts(self, record: dict[str, Any]) -> list[str]:
        return modality(MODALITY).texts_of(record[self.captions], self.corpus.columns[self.captions])

    # ---- scores ----

    def _scored(self, chunk: list[dict[str, Any]]) -> list[tuple[list[float], float | None]]:
        """The cosines of each record's captions, and that of the first caption of the record before in the chunk."""
        texts = [self._texts(record) for record in chunk]
        others = [_stranger(texts, number) for number in range(len(chunk))]
        keys = [
            json.dumps([hashlib.blake2b(record[self.picture], digest_size=16).hexdigest(), own, other])
            for record, own, other in zip(chunk, texts, others, strict=True)
        ]
        known = self.kept.recall(keys)
        missing = [number for number, key in enumerate(keys) if key not in known]
        for start in range(0, len(missing), self.source.batch_pictures):
            part = missing[start : start + self.source.batch_pictures]
            wanted = [[*texts[number], *([other] if (other := others[number]) is not None else [])] for number in part]
            found = self._near([chunk[number] for number in part], wanted)
            made = {keys[number]: json.dumps(each) for number, each in zip(part, found, strict=True)}
            self.kept.keep(made)
            known |= made
        rows: list[tuple[list[float], float | None]] = []
        for key, own in zip(keys, texts, strict=True):
            scores = json.loads(known[key])
            rows.append((scores[: len(own)], scores[len(own)] if len(scores) > len(own) else None))
        return rows

    def _near(self, records: list[dict[str, Any]], texts: list[list[str]]) -> list[list[float]]:
        """The cosine of each record's picture and its texts, to six digits."""
        if self.pair is None:
            self.pair = modality(MODALITY).open_pair(  # type: ignore[attr-defined]
                self.recipe.family, self.folder, self.source.batch_pictures
            )
        seen = self._seen(records)
        said = iter(self.pair.of_texts([text for own in texts for text in own]))
        return [[round(float(next(said) @ row), 6) for _ in own] for row, own in zip(seen, texts, strict=True)]

    def _seen(self, records: list[dict[str, Any]]) -> Any:
        """What the pair makes of pictures, [records, projection]: of them, or of their features."""
        if self.computed is None:
            return self.pair.of_pictures([record[self.picture] for record in records])
        rows: list[Any] = [None] * len(records)
        for split in dict.fromkeys(record["split"] for record in records):
            places = [place for place, record in enumerate(records) if record["split"] == split]
            numbers = np.array([records[place]["number"] for place in places])
            self.computed.require_own(self.pair, split, numbers, [records[place][self.picture] for place in places])
            found = self.pair.of_features(self.computed.features(split, numbers))
            for place, row in zip(places, found, strict=True):
                rows[place] = row
        return rows

    # ---- rows ----

    def _looked_at(self, record: dict[str, Any]) -> tuple[bytes, list[str]]:
        section = self.corpus.columns[self.picture]
        (picture,) = modality(MODALITY).shown(record[self.picture], section)  # type: ignore[attr-defined]
        return picture, self._texts(record)

    def _made(self, _chunk: list[dict[str, Any]], _tell: Callable[[str], None]) -> dict[str, Any]:
        return {}

    def _row(self, record: dict[str, Any], _made: dict[str, Any]) -> Row:
        start, end = self.numbers[self.place_of_row : self.place_of_row + 2]
        self.calibration.see(start, end, lambda: self._looked_at(record))
        self.place_of_row += 1
        section, own = self.corpus.columns[self.captions], modality(MODALITY)
        kinds = own.kinds_of(record[self.captions])  # type: ignore[attr-defined]
        found: dict[str, list[str]] = {}
        scores: dict[str, list[list[float]]] = {}
        for number, kind, text in zip(range(start, end), kinds, self._texts(record), strict=True):
            score, quantile = self.calibration.judged(number)
            if score >= self.calibration.threshold:
                found.setdefault(kind, []).append(text)
                scores.setdefault(kind, []).append([score, quantile])
        where = f"{self.source.corpus}:{record['id']}"
        if not found:
            return Row(where, None, FAR, " | ".join(own.texts_of(record[self.captions], section))[:1000])
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        fields |= taken_over(record, self.taken) | {self.captions: found}
        judged = {
            "model": self.content_hash,
            "captions": [[kind, *each] for kind, rows in scores.items() for each in rows],
        }
        fields[self.score] = dict.fromkeys(self.corpus.columns[self.score].raw_keys, json.dumps(judged))
        return Row(where, fields)

    def details(self) -> dict[str, Any]:
        """For the manifest: who judged, and by which threshold."""
        return {
            "filter": {
                "corpus": self.source.corpus,
                "model": self.source.model,
                "content_hash": self.content_hash,
                **self.calibration.facts(),
            },
            "engines": {f"judged by {self.source.model}": self.recipe.licence},
        }

    def report(self) -> dict[str, Any]:
        """For the report: the same, with what the scores are worth, and pictures at the threshold."""
        return {
            "filter": self.details()["filter"] | self.calibration.report(),
            "pictures": self.calibration.pictures(),
        }


def _stranger(texts: list[list[str]], number: int) -> str | None:
    """The first caption of the record before, unless it is one of the record's own."""
    other = next(iter(texts[number - 1]), None)
    return None if other in texts[number] else other


def scores_of(value: str) -> list[float]:
    """The cosines of a record's captions, in their order, of a clean value of form `score`."""
    return [float(row[1]) for row in json.loads(value)["captions"]]
