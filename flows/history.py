"""The raw data's version moves forward with the releases, though nobody commits for a scheduled worker.

Every release's run carries `data.dvc`, and as a tag the versions that it came from. A checkout whose own version is one
of those is older, and takes what that run carries: a fast-forward, as git calls it. A checkout with a version of its
own, which no release came from, keeps it: nothing that it recorded is ever lost.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components import tracking
from components.graph import Stage
from components.outcomes import Refused
from components.recipes import Library
from components.settings import STATE
from components.wording import one_line
from flows import collect, raw_data, workspace

PASSED = STATE / "data-passed.json"
"""Versions of `data.dvc` that this checkout has gone through, oldest first."""
ANCESTORS = "data_ancestors"
"""Tag of a release's run: versions that its data came from, separated by spaces."""
VERSION = "data data"
"""Tag of a release's run: the hash that its `data.dvc` names."""
MOST_PASSED = 100
"""A tag holds no more."""
MOST_RUNS = 200

Say = Callable[[str], None]


def version() -> str:
    """The hash that `data.dvc` names; empty if there is none."""
    return "".join(workspace.data_hashes().values())


def passed() -> list[str]:
    """Versions that this checkout's data came from, oldest first, the committed one among them."""
    known = json.loads(PASSED.read_text(encoding="utf-8")) if PASSED.is_file() else []
    committed = raw_data.committed_hash()
    return list(dict.fromkeys([*([committed] if committed else []), *known]))[-MOST_PASSED:]


def note(*versions: str) -> None:
    """Remember versions that this checkout has gone through."""
    PASSED.parent.mkdir(parents=True, exist_ok=True)
    partial = PASSED.with_suffix(".partial")
    kept = list(dict.fromkeys([*passed(), *(each for each in versions if each)]))[-MOST_PASSED:]
    partial.write_text(json.dumps(kept), encoding="utf-8")
    partial.replace(PASSED)


def data_tags() -> dict[str, str]:
    """Tags of a run that say which raw data it took."""
    return {f"data {path}": digest for path, digest in workspace.data_hashes().items()}


def ancestors() -> str:
    """The versions that this checkout's data came from, as the tag `ANCESTORS` holds them."""
    return " ".join(each for each in passed() if each != version())


def catch_up(library: Library, stages: list[Stage], repo: Any, say: Say) -> bool:
    """Take the raw data's version of the newest release that came from ours; call it under `follow.data_held`.

    Args:
        library: what can be made.
        stages: of the recipe; what the newest release knows of them goes into `dvc.lock`.
        repo: DVC's view of the project.
        say: receives what was done.

    Returns:
        Whether anything was taken.

    Raises:
        Busy: another process holds DVC's lock.
        Refused: the release's data are neither in the cache nor in the remote.
    """
    mine = version()
    run = next((each for each in tracking.release_runs(MOST_RUNS) if mine in _ancestors(each)), None)
    text = tracking.kept_text(run.run_id, f"versions/{workspace.DATA_FILE}") if run and mine else None
    if run is None or text is None:
        _require_all(library, stages, repo)
        return False
    before = workspace.DATA_FILE.read_text(encoding="utf-8")
    workspace.DATA_FILE.write_text(text, encoding="utf-8")
    try:
        theirs = raw_data.listing(repo)
        if theirs is None:
            raise Refused(
                f"The release of run {run.run_id} has newer raw data, whose list is neither "
                "in the DVC cache nor in its remote. Push them where they are: dvc push data.dvc"
            )
        _fetch(library, stages, repo, theirs)
    except BaseException:
        workspace.DATA_FILE.write_text(before, encoding="utf-8")
        raise
    note(*_ancestors(run), mine, version())
    lock = tracking.kept_text(run.run_id, f"versions/{workspace.LOCK_FILE}")
    if lock:
        raw_data.take_lock(repo, lock, [stage.key for stage in stages])
    say(f"{workspace.DATA_FILE} was brought forward to that of run {run.run_id}.")
    return True


def _ancestors(run: "tracking.KeptRun") -> list[str]:
    return [each for each in run.tags.get(ANCESTORS, "").split() if each != run.tags.get(VERSION)]


def _places(library: Library, stages: list[Stage]) -> list[Path]:
    """Raw paths that the recipe reads, and those of other corpora of which something is here."""
    needed = {stage.name for stage in stages if stage.verb == "ingest"}
    found: list[Path] = []
    for name in library.files["corpus"]:
        raw = collect.raw_paths(library.read("corpus", name))
        found += [path for path in raw if name in needed or path.exists()]
    return found


def _fetch(library: Library, stages: list[Stage], repo: Any, theirs: dict[Path, str]) -> None:
    """Have on the disk what a version of the data names, as far as this checkout works with it."""
    places = _places(library, stages)
    wanted = [path for path in theirs if any(path.is_relative_to(place) for place in places)]
    if wanted and not raw_data.bring_data(repo, wanted):
        raise Refused(
            "The newest release's raw data are neither all in the DVC cache nor in its remote. Push them where they "
            "are: dvc push data.dvc"
        )


def _require_all(library: Library, stages: list[Stage], repo: Any) -> None:
    """Bring the files of corpora that are here in part: a stage would take the rest for all."""
    known = raw_data.listing(repo) if workspace.DATA_FILE.is_file() else None
    if known is None:
        return
    corpora = [library.read("corpus", stage.name) for stage in stages if stage.verb == "ingest"]
    places = [path for corpus in corpora for path in collect.raw_paths(corpus) if path.is_dir()]
    gone = [path for path in known if not path.is_file() and any(path.is_relative_to(place) for place in places)]
    if gone and not raw_data.bring_data(repo, gone):
        names = one_line(", ".join(map(str, gone)), 300)
        raise Refused(
            f"{workspace.DATA_FILE} names {names}, which is neither here nor in DVC's cache or remote. Put it back, or "
            f"record that it is gone: dvc add {places[0]}"
        )
