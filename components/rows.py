"""A raw row of a source: what every format gives and `ingest` takes."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One raw row, or why there is none."""

    where: str
    """`path:line` of its first line; for Parquet the number of the row. Both count from 1."""
    fields: dict[str, Any] | None
    problem: str = ""
    """Why `fields` is None, in words that are equal for equal reasons."""
    excerpt: str = ""
    """The beginning of what could not be read."""
    file: str = ""
    """The path of the file that it brought along, as its table names it."""

    @property
    def place(self) -> str:
        """Where a person finds it: the row, and its file if it has one."""
        return f"{self.where} ({self.file})" if self.file else self.where
