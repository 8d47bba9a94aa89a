"""The manifest by which a state describes itself, and the one way to write a state.

Following `parents` from a package to the raw bytes is the lineage. What differs from run to run (times, run ids, git
revision) stands in the journal, outside the content hash.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import paths
from components.outcomes import Refused

MANIFEST_NAME = "manifest.json"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hash(path: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files (a single file: of its bytes), as hex."""
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
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

    The folder lies beside the place, so the rename is atomic and a half-made state is never seen under its name. On
    any exception the partial folder is removed and the place stays as it was.

    Raises:
        Refused: the disk is full; the message says how much was written and how much is free.
    """
    place = paths.state(manifest.verb, manifest.name)
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}")
    place.parent.mkdir(parents=True, exist_ok=True)
    for left_over in place.parent.glob(f".{place.name}.partial-*"):
        shutil.rmtree(left_over)
    partial.mkdir()
    try:
        yield partial
        inner = paths.PAYLOAD[manifest.verb]
        manifest.payload_hash = tree_hash(partial / inner) if inner else tree_hash(partial)
        manifest.save(partial)
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
    except BaseException as error:
        written = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(place.parent).free
            raise Refused(
                f"The disk is full: {place} needs more than the {written:,} bytes that were written, and {free:,} are "
                f"free now that they are removed. Free some, or move the project to a larger disk."
            ) from error
        raise
