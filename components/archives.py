"""Rows of WebDataset tars: members of one name but for their ending, one after another, are one row.

A row has `key`, that name; `txt`, `cls` and others by their endings as text; of a `.json` its own keys; and `image`,
the bytes of whatever picture there is. Grouping is the webdataset library's. Reading is not, since its reader does not
say which member fails, and reads members of any size into memory.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.attached import MAX_FILE_BYTES
from components.outcomes import Refused
from components.rows import Row
from components.wording import one_line

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
TEXTS = ("txt", "text", "cls", "caption")
IMAGE, KEY = "image", "key"


class Unfit(Exception):
    """A member that cannot be read; the message is the reason, in words that are equal for equal reasons."""


def archive_rows(path: Path) -> Iterator[Row]:
    """Rows of a tar, plain or with gzip, in order; memory holds one.

    Raises:
        Refused: the tar is broken or ends early, or names a member twice in one row.
    """
    from webdataset.tariterators import group_by_keys

    members = ({"fname": name, "data": data, "__url__": path.as_posix()} for name, data in _members(path))
    try:
        for sample in group_by_keys(members):
            yield _row(path, sample)
    except ValueError as error:
        raise Refused(f"{path} has a row with a member twice: {one_line(error.args[0])}. Mend the tar.") from error


def _members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """(name, bytes) of every file in a tar; None in place of more bytes than memory should hold."""
    last = "its beginning"
    try:
        with tarfile.open(path, "r|gz" if path.name.endswith("gz") else "r|") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it remembers every one
                if not member.isreg():
                    continue
                last = f"member '{one_line(member.name, 120)}'"
                file = tar.extractfile(member)
                yield member.name, file.read() if file and member.size <= MAX_FILE_BYTES else None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise Refused(
            f"{path} is not a whole tar: {one_line(error)}, at or after {last}. Bring the file again."
        ) from error


def _row(path: Path, sample: dict[str, Any]) -> Row:
    key = sample["__key__"]
    where = f"{path.as_posix()}:{key}"
    fields: dict[str, Any] = {KEY: key}
    try:
        for ending, data in sample.items():
            if not ending.startswith("__"):
                _take(fields, ending, data)
    except Unfit as unfit:
        return Row(where, None, str(unfit), one_line(", ".join(each for each in sample if not each.startswith("__"))))
    return Row(where, fields)


def _take(fields: dict[str, Any], ending: str, data: bytes | None) -> None:
    """Put what a member says into the fields of its row."""
    if data is None:
        raise Unfit(f"its .{ending} is larger than {MAX_FILE_BYTES >> 20} MiB")
    if ending in PICTURES:
        if IMAGE in fields:
            raise Unfit("two pictures in one row")
        fields[IMAGE] = data
    elif ending == "json":
        fields.update({name: value for name, value in _mapping(data).items() if name not in fields})
    elif ending in TEXTS:
        try:
            fields[ending] = data.decode("utf-8")
        except UnicodeDecodeError:
            raise Unfit(f"its .{ending} is not UTF-8") from None
    else:
        fields.setdefault(ending, data)


def _mapping(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Unfit("its .json is not JSON") from None
    if not isinstance(found, dict):
        raise Unfit("its .json is no object with keys")
    return found
