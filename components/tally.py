"""What `ingest` has read and what became of it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.records import SPLITS
from components.rows import Row

DUPLICATE = "duplicate of an earlier document"
MAX_SOURCES = 40
NUM_EXAMPLES = 3
"""Places that a report names for each reason."""
EXCERPT_CHARS = 100


@dataclass
class Tally:
    """Counts over all rows, small whatever the corpus: what they grow with are files, reasons and licences."""

    num_rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    """Where records come from, as long as these are a few."""
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    excerpts: dict[str, list[str]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """What readers changed, by column; see `components.modalities`."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    num_ids_from_place: int = 0
    repeated_ids: list[str] = field(default_factory=list)
    """The first ids that came a second time, and what the record is named instead."""
    pictures: dict[str, str] = field(default_factory=dict)
    """What a transformation shows to a person: SVG by the name of a file."""

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> "Tally":
        """The tally whose `vars` were kept as JSON."""
        counters = {"splits", "licences", "origins", "rejects"}
        given: dict[str, Any] = {key: Counter(value) if key in counters else value for key, value in kept.items()}
        return cls(**given)

    def accept(self, record: dict[str, Any], file: Path) -> None:
        """Count a row that became a record."""
        self._count(file)["records"] += 1
        self.splits[record["split"]] += 1
        self.licences[record["licence"]] += 1
        if len(self.origins) <= MAX_SOURCES:
            self.origins[record["source"]] += 1

    def reject(self, reason: str, file: Path, row: Row, excerpt: str) -> str:
        """Count a row that did not; the reason comes back."""
        self._count(file)
        self.rejects[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(row.place)
            self.excerpts.setdefault(reason, []).append(excerpt[:EXCERPT_CHARS])
        return reason

    def _count(self, file: Path) -> dict[str, int]:
        self.num_rows += 1
        counts = self.files.setdefault(file.as_posix(), {"rows": 0, "records": 0})
        counts["rows"] += 1
        return counts

    @property
    def num_records(self) -> int:
        """Rows that became records."""
        return self.splits.total()

    @property
    def num_rejects(self) -> int:
        """Rows that did not."""
        return self.rejects.total()

    def counts(self) -> dict[str, int | float]:
        """The numbers of the manifest."""
        return {
            "num_rows": self.num_rows,
            "num_records": self.num_records,
            "num_rejects": self.num_rejects,
            "num_duplicates": self.rejects[DUPLICATE],
            **{f"num_{split}": self.splits[split] for split in SPLITS},
        }

    def report(self) -> dict[str, Any]:
        """The numbers of the report, with the first places of each reason."""
        return {
            "rows": self.num_rows,
            "records": {split: self.splits[split] for split in SPLITS},
            "rejects": dict(self.rejects.most_common()),
            "reject_examples": self.examples,
            "reject_excerpts": self.excerpts,
            "changes": self.changes,
            "duplicates": self.rejects[DUPLICATE],
            "licences": dict(self.licences.most_common()),
            "ids_from_place": self.num_ids_from_place,
            "repeated_ids": self.repeated_ids,
            "files": self.files,
        }
