"""Files that a run which was stopped goes on writing, and the note in their folder of how far they are."""

import json
import os
from pathlib import Path
from typing import IO, Any

WRITE_BYTES = 1 << 20
PLACE_NAME = "place.json"
"""How far the files of a folder have come; gone when all is written."""


def opened(path: Path, num_bytes: int) -> IO[bytes]:
    """A file to write on after so many bytes, of which it has at least as many."""
    if not num_bytes:
        return path.open("wb", buffering=WRITE_BYTES)
    stream = path.open("r+b", buffering=WRITE_BYTES)
    stream.truncate(num_bytes)
    stream.seek(num_bytes)
    return stream


def flush(stream: IO[bytes]) -> None:
    """Have on the disk what was written so far."""
    stream.flush()
    os.fsync(stream.fileno())


def note_place(folder: Path, place: dict[str, Any]) -> None:
    """Note how far the files are; what the note tells of has to be on the disk already."""
    partial = folder / f"{PLACE_NAME}.partial"
    with partial.open("wb") as stream:
        stream.write(json.dumps(place).encode())
        flush(stream)
    partial.replace(folder / PLACE_NAME)


def place_of(folder: Path) -> dict[str, Any] | None:
    """What was noted; None if nothing was."""
    path = folder / PLACE_NAME
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def forget_place(folder: Path) -> None:
    """Take the note away: all is written."""
    for left_over in folder.glob(f"{PLACE_NAME}*"):
        left_over.unlink()
