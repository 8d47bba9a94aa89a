"""What families do alike when they package."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from models.foreign import copy_files
from models.objective import Mismatch


def layout_problems(package: Any, known: Collection[str]) -> list[str]:
    """Layouts that a family has not, in words; that there is none, if so."""
    if not package.layouts:
        return [f"package.layouts is empty, expected one or more of {', '.join(known)}. Fill the key or remove it."]
    return [
        f"package.layouts has '{layout}', expected one or more of {', '.join(known)}. Change the key."
        for layout in package.layouts
        if layout not in known
    ]


def useless_keys(package: Any, keys: Iterable[str], why: str) -> list[str]:
    """Keys that are set and that a family does nothing with, in words."""
    return [f"package.{key} is set, but {why}. Remove the key." for key in keys if getattr(package, key, None)]


def copy_encoder(source: Path, files: Collection[str], kind: str, folder: Path) -> None:
    """Copy the files of a fitted encoder.

    Args:
        source: its folder.
        files: their names.
        kind: of encoder that has them, for the message.
        folder: receives them; made if missing.

    Raises:
        Mismatch: one is missing.
    """
    for name in files:
        if not (source / name).is_file():
            raise Mismatch(f"{source} has no {name}, expected the folder of an encoder of kind '{kind}'.")
    copy_files(source, files, folder)
