"""DVC's side of raw data: which files `data.dvc` stands for, brought to the disk, added, and kept from two at once.

`data.dvc` owns `data/`. Only the paths named here are touched, so data of other corpora that is not on this machine
stays in it.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from components.outcomes import Busy, Refused
from components.wording import one_line
from flows.workspace import DATA_FILE, LOCK_FILE, causes, push, remote_answers, stage_of, warn

if TYPE_CHECKING:
    from dvc.repo import Repo


def pull(repo: "Repo", targets: list[Path]) -> bool:
    """Bring raw data that `data.dvc` names from the remote; False if there is none or it has not all of them.

    Raises:
        Busy: another process holds DVC's lock, or reads them.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    if not targets or not DATA_FILE.is_file() or not remote_answers(repo):
        return False
    try:
        repo.pull([path.as_posix() for path in targets])
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
    except (DvcException, OSError) as error:
        warn(f"The DVC remote does not have {', '.join(map(str, targets))}: {one_line(error)}")
        return False
    return True


def listed_data(repo: "Repo") -> set[Path] | None:
    """The files that `data.dvc` stands for; None if neither the cache nor the remote has their list.

    Raises:
        Refused: another process holds DVC's lock, or `data.dvc` is broken.
    """
    try:
        found = listing(repo)
    except Busy as busy:
        raise Refused(
            f"Another process holds DVC's lock of this project (.dvc/tmp/lock), so {DATA_FILE} cannot be read now. "
            "When it has ended, run the same command again."
        ) from busy
    return None if found is None else set(found)


def listing(repo: "Repo") -> dict[Path, str] | None:
    """The files that `data.dvc` stands for -> their hashes; None if neither the cache nor the remote has their list.

    Raises:
        Busy: another process holds DVC's lock.
        Refused: `data.dvc` is broken.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    try:
        with lock_repo(repo):
            out = stage_of(repo, str(DATA_FILE)).outs[0]
            if not out.hash_info:
                return {}
            try:
                tree = out.get_dir_cache()
            except (DvcException, OSError):
                return None
            return None if tree is None else {Path(out.def_path, *key): info.value for key, _, info in tree}
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
    except DvcException as error:
        raise Refused(f"DVC cannot read {DATA_FILE}: {causes(error)}") from error


@contextmanager
def held(repo: "Repo", targets: list[Path]) -> Iterator[None]:
    """Keep stages from reading some raw data while the block changes them, and wait for none that does.

    It is DVC's own lock of paths, so a stage that another process runs holds what it reads.

    Raises:
        Busy: a stage reads them.
    """
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    places = [str(target.resolve()) for target in targets]
    hardlink = repo.config["core"].get("hardlink_lock", False)
    try:
        with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], places, hardlink):
            yield
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error


def add(repo: "Repo", targets: list[Path]) -> None:
    """Record files or folders below `data/` in `data.dvc`, put them into the cache and push them.

    Raises:
        Busy: another process holds DVC's lock, or reads them.
        Refused: DVC cannot; the message says why.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        repo.add([path.as_posix() for path in targets])
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
    except DvcException as error:
        raise Refused(f"DVC cannot record {', '.join(map(str, targets))}: {causes(error)}") from error
    if remote_answers(repo):
        push(repo, [path.as_posix() for path in targets])


def bring_data(repo: "Repo", files: list[Path]) -> bool:
    """Have files on the disk as `data.dvc` names them, from the cache or the remote; False if neither has them all.

    Raises:
        Busy: another process holds DVC's lock, or reads them.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    if pull(repo, files):
        return True
    try:
        repo.checkout([path.as_posix() for path in files], force=True)
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
    except (DvcException, OSError):
        return False
    return True


def committed_hash() -> str:
    """The hash that the committed `data.dvc` names; empty if none is committed."""
    shown = subprocess.run(["git", "show", f"HEAD:./{DATA_FILE}"], capture_output=True, text=True, check=False)
    read = yaml.safe_load(shown.stdout) if shown.returncode == 0 else None
    return "".join(out["md5"] for out in (read or {}).get("outs", []) if "md5" in out)


def take_lock(repo: "Repo", text: str, keys: list[str]) -> None:
    """Let `dvc.lock` know what another one knows of some stages; the others stay.

    Raises:
        Busy: another process holds DVC's lock.
    """
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    theirs = (yaml.safe_load(text) or {}).get("stages", {})
    try:
        with lock_repo(repo):
            there = yaml.safe_load(LOCK_FILE.read_text(encoding="utf-8")) if LOCK_FILE.is_file() else None
            merged = there or {"schema": "2.0", "stages": {}}
            merged["stages"] |= {key: theirs[key] for key in keys if key in theirs}
            partial = LOCK_FILE.with_suffix(".partial")
            partial.write_text(yaml.safe_dump(merged, sort_keys=True), encoding="utf-8")
            partial.replace(LOCK_FILE)
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
