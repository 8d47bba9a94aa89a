"""A published release in a folder of this machine: whole or not there, and never in the place of somebody else's files.

A hidden file beside the release's own says what was put there, so that a folder which a person has changed is known.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from components import paths
from components.hub import LocalFile, local_files
from components.outcomes import Refused

MARK = ".hiraku.json"


def write(
    name: str, version: str, source: Path, files: list[LocalFile], place: Path, check: Callable[[Path], None]
) -> bool:
    """Have a folder hold exactly a release's files; return whether they were written.

    Args:
        name: the recipe.
        version: its version in the registry.
        source: the folder that is copied.
        files: what is in it.
        place: the folder that is to be there.
        check: raises if the copy does not do what the release does; the place stays as it was then.

    Raises:
        Refused: what stands there was not put there by us or was changed since, or the place is one of the project's.
    """
    if _is_inside(place, paths.ARTIFACTS) or _is_inside(place, paths.DATA):
        raise Refused(
            f"{place} lies under {paths.ARTIFACTS} or {paths.DATA}, which stages own. Name a folder elsewhere."
        )
    wanted = {"recipe": name, "version": version, "files": {file.path: file.sha256 for file in files}}
    found = _require_ours(place, name)
    if found == wanted:
        return False
    place = place.resolve()  # a link stays one
    place.parent.mkdir(parents=True, exist_ok=True)
    partial, aside = (place.with_name(f".{place.name}.{word}-{os.getpid()}") for word in ("partial", "old"))
    try:
        shutil.copytree(source, partial)
        check(partial)
        text = json.dumps(wanted, ensure_ascii=False, indent=1, sort_keys=True)
        (partial / MARK).write_text(text + "\n", encoding="utf-8")
        if place.exists():
            place.rename(aside)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if aside.exists() and not place.exists():
            aside.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _is_inside(place: Path, root: Path) -> bool:
    return root.resolve() in (place.resolve(), *place.resolve().parents)


def _require_ours(place: Path, name: str) -> dict[str, object] | None:
    """What we have put into a folder; None if it is empty or not there."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    way_out = "It stays as it is. Name another folder, or move what is there elsewhere."
    if not (place / MARK).is_file():
        raise Refused(f"{place} holds what no 'hiraku publish {name}' has put there. {way_out}")
    mark: dict[str, object] = json.loads((place / MARK).read_text(encoding="utf-8"))
    if mark.get("recipe") != name:
        raise Refused(f"{place} holds a release of '{mark.get('recipe')}', expected one of '{name}'. {way_out}")
    there = {file.path: file.sha256 for file in local_files(place) if file.path != MARK}
    if there != mark.get("files"):
        raise Refused(f"{place} was changed after 'hiraku publish {name}' had written it. {way_out}")
    return mark
