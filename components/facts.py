"""Facts about the records of a corpus: one row a record, in a SQLite file, so that memory does not grow with them.

Great Expectations asks it by SQL, the profile reads it sorted by one column at a time. On disk a record of text takes
about 400 bytes while `validate` runs.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLE = "facts"
CACHE_KIB = 64 << 10
CHUNK_ROWS = 2_000
TYPES = {bool: "INTEGER", int: "INTEGER", float: "REAL"}
"""Type of a value -> type of its column; anything else is text."""


def quoted(name: str) -> str:
    """A name of a column as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


class FactTable:
    """Rows of facts, added once and then only read.

    Args:
        path: of the file; whoever made the table removes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            self.file.execute(f"PRAGMA {setting}")
        self.kinds: dict[str, type] = {}
        """Column -> type of its values: bool, int, float or str."""
        self.num_rows = 0
        self.waiting: list[tuple[Any, ...]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; all rows have the same keys, and None where a record has no such fact."""
        if row.keys() != self.kinds.keys():
            self._widen(row)
        for name, value in row.items():
            if self.kinds[name] is int and type(value) is float:
                self.kinds[name] = float
        self.waiting.append(tuple(row.get(name) for name in self.kinds))
        self.num_rows += 1
        if len(self.waiting) >= CHUNK_ROWS:
            self._flush()

    def _widen(self, row: dict[str, Any]) -> None:
        """Have a column for every key; earlier rows have none of the new ones."""
        self._flush()
        for name, value in row.items():
            if name in self.kinds:
                continue
            kind = next((each for each in (bool, int, float) if isinstance(value, each)), str)
            # Without a type of its own SQLite keeps each value as it came, also a number after a None.
            column = f"{quoted(name)} {TYPES.get(kind, '' if value is None else 'TEXT')}"
            if self.kinds:
                self.file.execute(f"ALTER TABLE {TABLE} ADD COLUMN {column}")
            else:
                self.file.execute(f"CREATE TABLE {TABLE} ({column})")
            self.kinds[name] = kind

    def _flush(self) -> None:
        if self.waiting:
            marks = ", ".join("?" * len(self.waiting[0]))
            names = ", ".join(map(quoted, list(self.kinds)[: len(self.waiting[0])]))
            self.file.execute("BEGIN")
            # S608: names are of columns, quoted; values are bound.
            self.file.executemany(f"INSERT INTO {TABLE} ({names}) VALUES ({marks})", self.waiting)  # noqa: S608
            self.file.execute("COMMIT")
            self.waiting = []

    def index(self, *names: str) -> None:
        """Make rows be found by columns."""
        self._flush()
        columns = ", ".join(map(quoted, names))
        self.file.execute(f"CREATE INDEX {quoted('by ' + ' '.join(names))} ON {TABLE} ({columns})")

    def add_constant(self, name: str, value: float) -> None:
        """Add a column that has one value in every row."""
        self._flush()
        self.file.execute(f"ALTER TABLE {TABLE} ADD COLUMN {quoted(name)} REAL DEFAULT {float(value)!r}")
        self.kinds[name] = float

    def count_splits(self, group: str, name: str) -> None:
        """Add a column with the number of splits in which the rows of one group stand; 1 where a row is in no group."""
        self.index(group, "split")
        self.file.execute(f"ALTER TABLE {TABLE} ADD COLUMN {quoted(name)} INTEGER DEFAULT 1")
        many = (
            f"SELECT {quoted(group)} AS g, count(DISTINCT split) AS n FROM {TABLE} "  # noqa: S608
            f"WHERE {quoted(group)} IS NOT NULL GROUP BY {quoted(group)} HAVING n > 1"
        )
        self.file.execute(
            f"UPDATE {TABLE} SET {quoted(name)} = many.n FROM ({many}) AS many WHERE {quoted(group)} = many.g"  # noqa: S608
        )
        self.kinds[name] = int

    # ---- reading -----------------------------------------------------------------------------------------------------

    def is_empty(self, name: str) -> bool:
        """Whether no row has a value in a column."""
        self._flush()
        return self._one(f"SELECT 1 FROM {TABLE} WHERE {quoted(name)} IS NOT NULL LIMIT 1") is None  # noqa: S608

    def counts(self, name: str) -> Iterator[tuple[Any, int]]:
        """The values of a column with how many rows have each, in the order of the values."""
        self._flush()
        column = quoted(name)
        yield from self.file.execute(
            f"SELECT {column}, count(*) FROM {TABLE} WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 1"  # noqa: S608
        )

    def range_of(self, name: str) -> tuple[float, float, float, int]:
        """Least, greatest and sum of a column's numbers, and how many there are; zeros where there are none."""
        self._flush()
        column = quoted(name)
        query = f"SELECT min({column}), max({column}), sum({column}), count({column}) FROM {TABLE}"  # noqa: S608
        low, high, total, count = self._one(query)
        return (low, high, total, count) if count else (0, 0, 0, 0)

    def most_frequent(self, name: str, most: int) -> list[tuple[Any, int]]:
        """The values of a column that most rows have, equal ones by value, None among them."""
        self._flush()
        found = self.file.execute(
            f"SELECT {quoted(name)}, count(*) FROM {TABLE} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {int(most)}"  # noqa: S608
        )
        return list(found)

    def rows(self, *names: str, order: str = "rowid") -> Iterator[tuple[Any, ...]]:
        """Some columns of every row, in the order of the records or of a column."""
        self._flush()
        columns = ", ".join(map(quoted, names))
        by = order if order == "rowid" else quoted(order)
        yield from self.file.execute(f"SELECT {columns} FROM {TABLE} ORDER BY {by}")  # noqa: S608

    def _one(self, query: str) -> Any:
        return self.file.execute(query).fetchone()

    def close(self) -> None:
        """Close the file."""
        self._flush()
        self.file.close()
