"""DVC's side of a project: what is stale, one stage run, results fetched from and pushed to the remote.

Only this module, `flows.pipeline_file` and `flows.raw_data` import dvc, and `flows.launch` its exceptions. DVC asks the
run cache of the remote before a stage runs, and what the stage leaves is pushed after, so any other clone gets it
instead of making it again.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.outcomes import Busy, Outcome, Refused
from components.wording import one_line

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

DATA_FILE = Path("data.dvc")
LOCK_FILE = Path("dvc.lock")
NO_REMOTE = (
    "No DVC remote is configured, so results stay on this machine: another clone makes them again. "
    "To share them: dvc remote add --default shared PATH_OR_URL"
)


# ---- the project -----------------------------------------------------------------------------------------------------


def require_project() -> None:
    """Refuse a folder in which no stage could run.

    Raises:
        Refused: no git repository, or DVC is not set up in it; the message names the command.
    """
    here = Path.cwd()
    if shutil.which("git") is None:
        raise Refused("There is no git on this machine, and DVC and the lineage need it. Install git.")
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        raise Refused(f"{here} is not in a git repository, which DVC needs. Run: git init && dvc init")
    if not (here / ".dvc" / "config").is_file():
        raise Refused(
            f"{here} has no .dvc/config, so DVC keeps nothing here. Go to the project's root, or run: dvc init"
        )


@contextmanager
def open_repo(waits: bool = False) -> "Iterator[Repo]":
    """DVC's view of the current folder, without its chatter.

    Args:
        waits: for DVC's lock as long as it takes, and not for three seconds.
    """
    from dvc.repo import Repo

    from flows.pipeline_file import KeptStages

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with Repo(_wait_for_lock=waits) as repo:
        repo.stage = KeptStages(repo)
        yield repo


@dataclass(frozen=True)
class Revision:
    """Where the code stands."""

    commit: str
    """Empty before the first commit."""
    is_dirty: bool


def git_revision() -> Revision:
    """The commit of the current folder, and whether files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    # dvc.lock is written by runs and never committed, so it says nothing about the code.
    changed = [line for line in git("status", "--porcelain").splitlines() if not line.endswith(str(LOCK_FILE))]
    return Revision(git("rev-parse", "--verify", "--quiet", "HEAD"), bool(changed))


# ---- stages ----------------------------------------------------------------------------------------------------------


def is_fresh(repo: "Repo", address: str) -> bool:
    """Whether a stage's inputs, command and outputs are those of its last run; about 0.05 s.

    False also while another process holds what it would read: the launcher finds that out and waits.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    try:
        with lock_repo(repo):
            return not stage_of(repo, address).changed()
    except LockError:
        return False
    except DvcException as error:
        raise Refused(f"DVC cannot read {address}: {causes(error)}") from error


def input_key(repo: "Repo", address: str) -> str:
    """A hash of all that a stage reads (files and parameters, not paths of this machine): the name of its inputs.

    A run that was stopped is gone on with only if this is unchanged.

    Raises:
        Busy: another process holds DVC's lock.
    """
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    try:
        with lock_repo(repo):
            stage = stage_of(repo, address)
            stage.save_deps(allow_missing=True)
            inputs = {"cmd": stage.cmd, "deps": [dep.dumpd() for dep in stage.deps]}
    except LockError as error:
        raise Busy(one_line(causes(error), 400)) from error
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def stage_of(repo: "Repo", address: str) -> "DvcStage":
    """The stage of an address, or of a `.dvc` file."""
    (stage,) = repo.stage.collect(address)
    return stage


def reproduce(address: str) -> bool:
    """Run one stage, or take its result from the run cache here or in the remote; push the result.

    Called in the launcher's process. No other stage is touched.

    Returns:
        Whether anything was done.

    Raises:
        dvc.exceptions.DvcException: see `explain`.
    """
    # A stage that has worked for days must not be lost because another one's result is being pushed when it ends.
    with open_repo(waits=True) as repo:
        is_shared = remote_answers(repo)
        _keep_uncached(repo, address)
        # `pull` asks the remote's run cache; `single_item` leaves all other stages alone.
        done = repo.reproduce(address, single_item=True, pull=is_shared)
        if done and is_shared:
            push(repo, [address])
        return bool(done)


def _keep_uncached(repo: "Repo", address: str) -> None:
    """Put outputs back into the cache that are what the lock says while the cache was cleared; nothing need run."""
    from dvc.repo import lock_repo

    with lock_repo(repo):
        stage = stage_of(repo, address)
        is_there = all(out.exists for out in stage.outs)
        if is_there and stage.changed() and not stage.changed(allow_missing=True):
            stage.commit()


def explain(error: Exception) -> Outcome:
    """An outcome for an exception of DVC: busy, refused, or failed."""
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.lock import LockError
    from dvc.stage.exceptions import StageCmdFailedError

    chain = list(_chain(error))
    if any(isinstance(each, LockError) for each in chain):
        return Outcome("busy", one_line(causes(error), 400))
    if any(isinstance(each, StageCmdFailedError) for each in chain):
        return Outcome("failed", _died(chain))
    if any(isinstance(each, DependencyDoesNotExistError) for each in chain):
        return Outcome("refused", f"An input is missing: {one_line(causes(error), 400)}")
    if any(isinstance(each, OSError) for each in chain):
        return Outcome("failed", one_line(causes(error), 400))
    return Outcome("refused", f"DVC cannot run it: {one_line(causes(error), 400)}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def causes(error: BaseException) -> str:
    """The words of an error and of what it came from."""
    return ": ".join(dict.fromkeys(str(each) for each in _chain(error) if str(each)))


def _died(chain: list[BaseException]) -> str:
    message = str(chain[-1])
    code = message.rpartition(" ")[2]
    if code in ("-9", "137"):
        return "The process of the stage was killed (by a person, or by the kernel for want of memory)."
    return f"The process of the stage ended with exit code {code} and left no reason; its last lines say more."


# ---- the remote ------------------------------------------------------------------------------------------------------


def has_remote(repo: "Repo") -> bool:
    """Whether a default remote is configured."""
    return bool(repo.config["core"].get("remote"))


def remote_answers(repo: "Repo") -> bool:
    """Whether results can be fetched and pushed now; a remote that does not answer is a warning, never the end."""
    from dvc.exceptions import DvcException

    if not has_remote(repo):
        return False
    try:
        odb = repo.cloud.get_remote_odb(None, "fetch", hash_name="md5-dos2unix")
        odb.fs.exists(odb.path)
    except (DvcException, OSError) as error:
        warn(f"The DVC remote does not answer, so results stay on this machine: {one_line(error)}")
        return False
    return True


def push(repo: "Repo", targets: list[str]) -> None:
    """Send results to the remote; what it does not take is a warning."""
    from dvc.exceptions import DvcException

    try:
        repo.push(targets, run_cache=True)
    except (DvcException, OSError) as error:
        warn(f"The result could not be pushed to the DVC remote: {one_line(error)}. Later: dvc push --run-cache")


def warn(text: str) -> None:
    """A line that is no reason to stop."""
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def data_hashes() -> dict[str, str]:
    """The content hash of everything that `data.dvc` names: (path -> md5)."""
    import yaml

    if not DATA_FILE.is_file():
        return {}
    read: dict[str, Any] = yaml.safe_load(DATA_FILE.read_text(encoding="utf-8")) or {}
    return {out["path"]: out["md5"] for out in read.get("outs", []) if "md5" in out}


def stale_graph() -> dict[Path, str]:
    """The rendered files that differ from what the recipes say: path -> what they should hold."""
    from components.graph import render
    from components.recipes import Library

    rendered = render(Library())
    return {path: text for path, text in rendered.items() if not path.is_file() or path.read_text("utf-8") != text}


def rendered_again() -> list[Path]:
    """Render the graph where it differs from what the recipes say; return the files that were written."""
    stale = stale_graph()
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return list(stale)
