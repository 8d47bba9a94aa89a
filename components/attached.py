"""The files that rows of a table bring along, such as pictures or sounds: read one at a time, in place of their paths.

A file that is missing, unreadable or too large makes its row a reject; a path that leads out of its folder refuses the
corpus, since no honest table has one. Paths are judged by their words, not by where links lead: DVC may link raw data
to its cache.
"""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from components import paths
from components.outcomes import Refused
from components.rows import Row
from components.wording import one_line

REVISION = 1

MAX_FILE_BYTES = 1 << 30
"""A larger file is a reject: its bytes are held in memory."""


class Attached:
    """Puts the bytes of files in place of their paths.

    Args:
        corpus: its name, for messages.
        source: `components.source_schema.Files` with `files_field`.
    """

    def __init__(self, corpus: str, source: Any) -> None:
        self.corpus, self.key = corpus, source.files_field
        self.root = paths.DATA / source.files_folder if source.files_folder else None
        self.last: tuple[Path | None, bytes | str] = (None, "")

    def bring(self, row: Row, table: Path) -> Row:
        """A row with the bytes of its file, or with the problem that it has none.

        Raises:
            Refused: the path leads out of the folder.
        """
        if row.fields is None:
            return row
        if self.key not in row.fields:
            return Row(row.where, None, f"no field '{self.key}' (source.files_field)", _keys(row.fields))
        name = row.fields[self.key]
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            kind = "an empty or broken path" if isinstance(name, str) else f"not a path but {type(name).__name__}"
            return Row(row.where, None, f"{kind} (source.files_field)", _keys(row.fields))
        if _leads_out(name):
            raise Refused(
                f"corpus '{self.corpus}': {row.where} names '{one_line(name, 120)}', which leads out of "
                f"{self.root or table.parent}. Give paths below it, or say where they start in source.files_folder."
            )
        content = self._content((self.root or table.parent) / name)
        if isinstance(content, str):
            return Row(row.where, None, content, one_line(name), file=name)
        return replace(row, fields={**row.fields, self.key: content}, file=name)

    def place_of(self, row: Row) -> Path | None:
        """Where the file of a row lies below the folder of all; None where it names none that may be read."""
        name = (row.fields or {}).get(self.key)
        if self.root is None or not isinstance(name, str) or not name.strip() or "\0" in name or _leads_out(name):
            return None
        return self.root / name

    def _content(self, path: Path) -> bytes | str:
        """A file's bytes, or what is wrong with it; rows that follow each other often share one."""
        if path != self.last[0]:
            self.last = (path, _read(path))
        return self.last[1]


def _read(path: Path) -> bytes | str:
    try:
        if not path.is_file():
            return "its file is not there (source.files_field)"
        if path.stat().st_size > MAX_FILE_BYTES:
            return f"its file is larger than {MAX_FILE_BYTES >> 20} MiB"
        return path.read_bytes()
    except OSError as error:
        return f"its file cannot be read: {os.strerror(error.errno or 0)}"


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _keys(fields: dict[str, Any]) -> str:
    return one_line(f"keys: {', '.join(map(str, fields))}")
