"""New files of a followed folder come under `data/` and into `data.dvc` by themselves.

A file comes when it is complete: of a known ending, not written to for `settle_seconds`, and the same after the copy as
before. It is copied beside its place and renamed; only new and changed places are recorded. One flow at a time does so
in a project, and no stage reads the corpus meanwhile. A place is noted before its file is changed, so that a kill
between copy and record loses nothing.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from components import locks
from components.outcomes import Refused
from components.recipes import Corpus, Library
from components.settings import STATE
from components.sources import ANY, endings_of
from flows import collect, raw_data, workspace

LOCK = STATE / "data.lock"
"""Held while `data.dvc` is changed by a flow, so that of two at once neither loses what the other recorded."""
PENDING = STATE / "data-pending.json"
"""Places below `data/` whose files may have changed since `data.dvc` was written."""

Say = Callable[[str], None]


def data_held() -> AbstractContextManager[None]:
    """Hold the project's raw data against every other flow while the block runs.

    Raises:
        Busy: another flow changes them.
    """
    return locks.held(LOCK)


def bring(library: Library, name: str, repo: Any, say: Say) -> list[Path]:
    """Bring the new files of the folder that a corpus follows; call it under `data_held`.

    Returns:
        The places that were recorded in `data.dvc`; empty if the corpus follows nothing or nothing is new.

    Raises:
        Busy: another process holds DVC's lock, or a stage reads the corpus.
        Refused: the folder is not there, or DVC cannot record its files.
    """
    corpus: Corpus = library.read("corpus", name)
    if corpus.follow is None:
        return []
    folder = Path(corpus.follow.folder)
    if not folder.is_dir():
        raise Refused(
            f"Corpus '{name}' follows {folder}, which is not a folder here. Mount it, or change follow.folder in "
            f"{library.path('corpus', name)}."
        )
    targets = collect.raw_paths(corpus)
    _clear_left_overs(targets)
    new = _new_files(name, corpus, folder, targets, repo, say)
    places = sorted({*(place for _, place in new), *_pending(targets)})
    if not places:
        return []
    with raw_data.held(repo, targets):
        _note({*_pending(), *places})
        unsteady = [origin for origin, place in new if not collect.copy_file(origin, place)]
        for origin in unsteady:
            say(f"{origin} changed while it was copied, and is left to the next run.")
        there = [place for place in places if place.is_file()]
        if there:
            collect.record(library, there, say)
        _note({place for place in _pending() if place not in places})
    return there


def _new_files(
    name: str, corpus: Corpus, folder: Path, targets: list[Path], repo: Any, say: Say
) -> list[tuple[Path, Path]]:
    """(file of the folder, its place) of each complete file that is not at its place, or not recorded there."""
    follow = corpus.follow
    assert follow is not None  # noqa: S101 (asked by the caller)
    known = raw_data.listing(repo) if workspace.DATA_FILE.is_file() else {}
    brings_files = bool(corpus.source.files_field)
    endings = tuple(endings_of(ANY if brings_files else corpus.source.format))
    copied = collect.endings_to_copy(corpus)
    found: list[tuple[Path, Path]] = []
    for target in targets:
        if target.name.endswith(collect.KNOWN_ENDINGS) and not (folder / target.name).is_file():
            continue  # a single file that has not come yet
        if len(targets) > 1 and not target.name.endswith(collect.KNOWN_ENDINGS) and not (folder / target.name).is_dir():
            continue
        for origin, place in collect.pairs_of(folder, target, copied, is_only=len(targets) == 1):
            if collect.is_hidden(origin, folder) or not origin.name.endswith(endings):
                continue
            if collect.is_same(origin, place) and (known is None or place in known):
                continue
            if time.time() - origin.stat().st_mtime < follow.settle_seconds:
                say(f"{origin} may not be complete, and is left to the next run of corpus {name}.")
                continue
            found.append((origin, place))
    return found


def _clear_left_overs(targets: list[Path]) -> None:
    """Delete what a killed flow left half copied; the lock says that no other flow copies now."""
    for target in targets:
        for partial in (*target.rglob(".*.partial-*"), *target.parent.glob(f".{target.name}.partial-*")):
            if not psutil.pid_exists(int(partial.name.rpartition("-")[2])):
                partial.unlink(missing_ok=True)


def _pending(targets: list[Path] | None = None) -> list[Path]:
    """Places that a flow began to change and has not recorded, all or those of some raw paths."""
    noted = [Path(each) for each in json.loads(PENDING.read_text(encoding="utf-8"))] if PENDING.is_file() else []
    if targets is None:
        return noted
    return [place for place in noted if place.is_file() and any(place.is_relative_to(target) for target in targets)]


def _note(places: set[Path]) -> None:
    PENDING.parent.mkdir(parents=True, exist_ok=True)
    partial = PENDING.with_suffix(".partial")
    partial.write_text(json.dumps(sorted(place.as_posix() for place in places)), encoding="utf-8")
    partial.replace(PENDING)
