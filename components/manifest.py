"""The manifest by which a state describes itself, and the one way to write a state.

Following `parents` from a package to the raw bytes is the lineage. What differs from run to run (times, run ids, git
revision) stands in the journal, outside the content hash.
"""

import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import paths
from components.outcomes import Refused

MANIFEST_NAME = "manifest.json"
FULL_DISK_BYTES = 64 << 10
"""With less room than this, an error while writing is taken for a full disk whatever its words."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hash(path: Path, without: str = "", only: Collection[str] | None = None) -> str:
    """SHA-256 over the names and bytes of a folder's files (a single file: of its bytes), as hex.

    Args:
        path: the folder or file.
        without: a file of the folder that does not count; the hash is as if it were not there.
        only: the files of the folder that count, by their paths in it; None counts all.
    """
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p != path / without):
        name = file.relative_to(path).as_posix()
        if only is None or name in only:
            digest.update(f"{name}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


@dataclass
class Manifest:
    """What a state is, in words that are the same on every machine."""

    verb: str
    name: str
    revisions: dict[str, int]
    """REVISION of every module whose code decides the output, by module name."""
    parents: dict[str, str] = field(default_factory=dict)
    """Path of each input (payload of a state, raw file, recipe section) -> content hash."""
    counts: dict[str, int | float] = field(default_factory=dict)
    licence: str = ""
    """Of a corpus and of a package; states between them carry none of their own, `components.lineage` finds it."""
    details: dict[str, Any] = field(default_factory=dict)
    """Whatever else a reader of this state needs: dtype, vocabulary size, formats."""
    payload_hash: str = ""

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into a state's folder."""
        text = json.dumps(vars(self), ensure_ascii=False, indent=1, sort_keys=True)
        (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(verb: str, name: str) -> Manifest:
    """The manifest of a finished state.

    Raises:
        Refused: the state is not there; the message names the command that makes it.
    """
    path = paths.state(verb, name) / MANIFEST_NAME
    if not path.is_file():
        raise Refused(
            f"{path.parent} has no {MANIFEST_NAME}, so nothing can be read from it. Run: hiraku {verb} {name}"
        )
    return Manifest(**json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def writing(manifest: Manifest) -> Iterator[Path]:
    """Give a folder to fill; on success hash its payload, add the manifest and rename it into the state's place.

    The folder lies beside the place, so the rename is atomic and a half-made state is never seen under its name. The
    old state is renamed aside first and deleted last, so a state that is half deleted is not seen either. On any
    exception the partial folder is removed and the place stays as it was.

    Raises:
        Refused: the disk is full; the message says how much was written and how much is free.
    """
    place = paths.state(manifest.verb, manifest.name)
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}")
    aside = place.with_name(f".{place.name}.old-{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_left_overs(place)
        partial.mkdir()
        yield partial
        inner = paths.PAYLOAD[manifest.verb]
        payload = partial / inner if inner else partial
        manifest.payload_hash = tree_hash(payload)
        manifest.save(partial)
        _flush_tree(payload)
        flush(partial / MANIFEST_NAME)
        flush(partial)
        if place.exists():
            place.rename(aside)
        partial.rename(place)
        flush(place.parent)
    except BaseException as error:
        written = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        is_full = isinstance(error, Exception) and _is_disk_full(error, place.parent)
        shutil.rmtree(partial, ignore_errors=True)
        if aside.exists() and not place.exists():
            aside.rename(place)
        if is_full:
            free = shutil.disk_usage(_existing(place.parent)).free
            raise Refused(
                f"The disk is full: {place} needs more than the {written:,} bytes that were written, and {free:,} are "
                f"free now that they are removed. Free some, or move the project to a larger disk."
            ) from error
        raise
    shutil.rmtree(aside, ignore_errors=True)  # the new state stands; what cannot be deleted is tried again next time


def _is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or what it came from, is a full disk in the words of whatever library wrote.

    safetensors (SafetensorError) and others written in Rust or C++ raise no OSError, but keep the system's words.
    """
    if isinstance(error, Refused):
        return False
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)
    return any(_tells_full_disk(each) for each in chain) or shutil.disk_usage(_existing(folder)).free < FULL_DISK_BYTES


def _tells_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _clear_left_overs(place: Path) -> None:
    """Delete what killed runs left beside a state; a folder whose process still runs is its own."""
    for left_over in [*place.parent.glob(f".{place.name}.partial-*"), *place.parent.glob(f".{place.name}.old-*")]:
        pid = left_over.name.rpartition("-")[2]
        if not (pid.isdecimal() and _is_other_process(int(pid))):
            shutil.rmtree(left_over, ignore_errors=True)


def _is_other_process(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _flush_tree(place: Path) -> None:
    """Have a payload on the disk before the manifest that vouches for it."""
    inside = [file for file in place.rglob("*") if not file.is_symlink()] if place.is_dir() else []
    for each in [*inside, place]:
        flush(each)


def flush(place: Path) -> None:
    """Have a file's bytes, or the names in a folder, on the disk: after a power cut they are there."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
