"""The process of one DVC stage, in a session of its own, so that nothing is left when it or we are killed.

    flow ── launcher (`python -m flows.launch`, DVC inside) ── shell ── stage (`python -m components VERB NAME`)

Whoever is killed, even with -9, the rest ends within seconds:
    flow      the kernel sends the launcher SIGTERM, which lets the stage save its checkpoint and ends it
    launcher  the kernel ends the stage with it; the flow ends whatever is left of the process group and tries again
    stage     DVC sees the exit, the flow tries again

DVC runs inside the launcher and not as a command, so that "busy" and "cannot be done" are told apart by exception and
not by a message's wording, and so that it holds its lock until the stage has really ended: no second one can start.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import psutil

from components import paths
from components.checkpoints import discard
from components.lifeline import SHELLS, bound_environment
from components.outcomes import Kind, Outcome, read_outcome
from components.wording import ending

GRACE_SECONDS = 60.0
"""How long a stage may take to save its checkpoint after SIGTERM before it is killed."""
LEFT_OVER_SECONDS = 5.0
"""How long what survived its launcher may take to end; the kernel has told it already."""
NICE = 10
"""By how much a stage beside another gives way: of a core that both want it gets about a tenth."""
LEAST_NICE = 19
"""The end of the scale, nice(2)."""
TERMINATED = 143
"""Exit code after SIGTERM: 128 + SIGTERM."""
NOTHING_TO_DO = 10
"""Exit code of a launcher whose stage was found fresh, such as after waiting for another process that made it."""
BUSY = 75
"""EX_TEMPFAIL of sysexits.h: another process holds what the stage needs."""
KINDS: dict[int, Kind] = {BUSY: "busy", 65: "refused", 70: "failed"}
"""Exit codes of a launcher whose stage did not come to its end; 65 and 70 are EX_DATAERR and EX_SOFTWARE."""
TRAINED = frozenset({"pretrain", "align"})
"""Verbs that save a checkpoint when they are asked to end."""
REASON = "\x1ehiraku-reason "
"""Begins the line by which a launcher says why."""
CLOCK_SECONDS = 0.05
"""Times of files come from a coarser clock than ours."""


class StageFailed(RuntimeError):
    """A stage that may succeed when it is tried again."""


class StageStopped(StageFailed):
    """A stage that was asked to end; whoever asked does not want it to begin again by itself."""


How = Literal["ran", "restored", "ready"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Launched:
    """How a stage's process ended."""

    outcome: Outcome
    how: How
    """`ran` did the work, `restored` took it from the run cache, `ready` found nothing to do."""
    has_spoken: bool = False
    """Whether the stage has said the reason of the outcome itself, as its last words."""


# ---- the side of the flow --------------------------------------------------------------------------------------------


class Launches:
    """The launchers that this process waits for, so that an interruption ends all of them."""

    def __init__(self) -> None:
        self.is_ending = False
        """Whether those at work were asked to end."""
        self._lock = threading.Lock()
        self._words: dict[subprocess.Popen[str], tuple[str, str]] = {}
        self._closed = threading.Event()

    def open(self) -> None:
        """Let launchers begin, for another flow of this process."""
        self.is_ending = False
        self._closed.clear()

    def close(self) -> None:
        """Let nothing more begin, in whichever thread, and end every `pause`; what is at work goes on."""
        with self._lock:
            self._closed.set()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            StageStopped: nothing more may begin.
        """
        if self._closed.wait(seconds):
            raise StageStopped("It has not begun, as the flow ends.")

    def start(self, verb: str, name: str, address: str, errors: int | None) -> "subprocess.Popen[str]":
        """A launcher in a session of its own, its standard output a pipe and its standard error as given.

        Raises:
            StageStopped: nothing more may begin.
        """
        with self._lock:
            self.pause(0.0)
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.launch", address],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=stage_environment(),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            self._words[process] = (verb, name)
        return process

    def forget(self, process: "subprocess.Popen[str]") -> None:
        """A launcher has ended."""
        with self._lock:
            self._words.pop(process, None)

    def end(self, say: Say, why: BaseException) -> None:
        """Let each launcher end its stage; a second interruption ends the waiting, and their groups are killed."""
        with self._lock:
            self.is_ending = True
            self._closed.set()
            living = {process: words for process, words in self._words.items() if process.poll() is None}
        deadline = time.monotonic() + GRACE_SECONDS + LEFT_OVER_SECONDS
        try:
            for process in living:
                process.terminate()
            for verb, name in living.values():
                ends = "saves its checkpoint" if verb in TRAINED else "comes to its end"
                hint = "; Ctrl-C again ends it at once" if isinstance(why, KeyboardInterrupt) else ""
                tell(say, f"Stopping: {verb} {name} {ends}{hint}.")
            for process in living:
                process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            left = [process for process in living if process.poll() is None]
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            for process in left:
                process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


LAUNCHES = Launches()
"""Of this process, which runs one flow at a time."""


def launch(verb: str, name: str, address: str, say: Say, is_beside: bool = False) -> Launched:
    """Run one stage through DVC; return when no process of it is left.

    Args:
        verb: what the stage does.
        name: what it works on.
        address: what DVC knows it by, such as `dvc.yaml:fit-demo-spm`.
        say: receives each line that the stage prints, from a thread. A progress bar is no line: when standard error
            is a terminal, the stage inherits it and draws there.
        is_beside: whether it runs beside another stage, to which it leaves the terminal and, where both want one, the
            core.

    Raises:
        StageStopped: the flow has been asked to end meanwhile, and nothing was started.
        whatever interrupts it (Ctrl-C, SIGTERM, cancellation), after the whole process group has ended.
    """
    began = time.time()
    draws = sys.stderr.isatty() and not is_beside
    process = LAUNCHES.start(verb, name, address, None if draws else subprocess.STDOUT)
    said: deque[str] = deque(maxlen=1)
    reader = threading.Thread(target=_stream, args=(process, say, said), daemon=True)
    try:
        if is_beside:
            _give_way(process.pid)
        reader.start()
        code = process.wait()
    except BaseException as error:
        LAUNCHES.end(say, error)
        raise
    finally:
        # Nothing is left after an orderly end; after a kill -9 of the launcher its stage may be about to end.
        end_group(process.pid, LEFT_OVER_SECONDS)
        if reader.ident is not None:
            reader.join(timeout=LEFT_OVER_SECONDS)
        LAUNCHES.forget(process)
    return _launched(_own_outcome(verb, name, began), code, said[-1] if said else "")


def _give_way(process: int) -> None:
    """Let the processes that this one will start have what others leave of the cores.

    Linux may share cores out among sessions first, and ours begin one each: then the session's own value counts,
    sched(7).
    """
    with contextlib.suppress(psutil.Error):
        launcher = psutil.Process(process)
        launcher.nice(min(launcher.nice() + NICE, LEAST_NICE))
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(NICE), encoding="ascii")


def stage_environment() -> dict[str, str]:
    """Our environment, in which `python` of a stage's command is the interpreter that runs us."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    return bound_environment() | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def _stream(process: "subprocess.Popen[str]", say: Say, said: "deque[str]") -> None:
    assert process.stdout is not None  # noqa: S101 (we asked for a pipe)
    with contextlib.suppress(ValueError):  # the pipe is closed while we read: the process has ended
        for line in process.stdout:
            line = line.rstrip("\n")
            if line.startswith(REASON):
                said.append(line.removeprefix(REASON))
            else:
                tell(say, line)


def tell(say: Say, line: str) -> None:
    """Say a line, whatever has become of the listener: a pipe that nobody empties stops the stage when it is full."""
    with contextlib.suppress(Exception):
        say(line)


def _own_outcome(verb: str, name: str, began: float) -> Outcome | None:
    """The outcome, if it was written since then; an older one stays, since its own launcher may be about to read it."""
    path = paths.outcome(verb, name)
    if not path.is_file() or path.stat().st_mtime < began - CLOCK_SECONDS:
        return None
    return read_outcome(verb, name)


def _launched(outcome: Outcome | None, code: int, reason: str) -> Launched:
    """What an exit code, the stage's outcome and the launcher's reason mean together."""
    if code == NOTHING_TO_DO:
        return Launched(Outcome("done"), "ready")
    if code == TERMINATED:  # otherwise a stage that stopped has been ended by us, since its launcher was killed
        is_told = outcome is not None and outcome.kind == "stopped"
        reason = outcome.reason if outcome and is_told else "Somebody asked it to end, and it has."
        return Launched(Outcome("stopped", reason), "ran", is_told)
    if code == 0:
        return Launched(outcome or Outcome("done"), "ran" if outcome else "restored")
    if code in KINDS and reason:
        # A stage that ran has said itself why it failed.
        has_spoken = outcome is not None and outcome.kind != "done" and code != BUSY
        return Launched(outcome if outcome and has_spoken else Outcome(KINDS[code], reason), "ran", has_spoken)
    return Launched(Outcome("failed", f"the process of the stage {ending(code)} and left no reason"), "ran")


# ---- process groups --------------------------------------------------------------------------------------------------


def _members(group: int) -> Iterator[psutil.Process]:
    """The living processes of a group, ourselves left out."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if pid != os.getpid() and os.getpgid(pid) == group:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process


def end_group(group: int, grace_seconds: float) -> None:
    """End what is left of a group: SIGTERM, and after a grace SIGKILL.

    Shells get no SIGTERM: a stage that asked to die with its parent would die with its shell before it could save.
    """
    told: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    while members := list(_members(group)):
        is_late = time.monotonic() > deadline
        for process in members:
            with contextlib.suppress(psutil.Error):
                if is_late:
                    process.kill()
                elif process.pid not in told and process.name() not in SHELLS:
                    told.add(process.pid)
                    process.terminate()
        time.sleep(0.05)


# ---- the side of the stage: `python -m flows.launch ADDRESS` -----------------------------------------------


def terminated(_number: int, _frame: FrameType | None) -> None:
    """Answer SIGTERM by unwinding, so that everything is closed on the way."""
    raise SystemExit(TERMINATED)


def _end_stage(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_group(os.getpgrp(), GRACE_SECONDS)
    terminated(number, frame)  # through DVC, which gives its locks back


def main(arguments: list[str]) -> int:
    """Reproduce one stage through DVC; the exit code and a line say how it ended if the stage itself could not."""
    from components.lifeline import die_with_parent

    signal.signal(signal.SIGTERM, _end_stage)
    die_with_parent(signal.SIGTERM)
    (address,) = arguments
    began = time.time()

    from dvc.exceptions import DvcException

    from flows import workspace

    try:
        is_done = workspace.reproduce(address)
    except DvcException as error:
        outcome = workspace.explain(error)
        print(REASON + " ".join(outcome.reason.split()), flush=True)
        return next(code for code, kind in KINDS.items() if kind == outcome.kind)
    _clear_scratch(address, began)
    return 0 if is_done else NOTHING_TO_DO


def _clear_scratch(address: str, began: float) -> None:
    """Remove the partial work that a stage left for this launch's result, which DVC has recorded by now."""
    verb, _, name = address.rpartition(":")[2].partition("-")
    outcome = _own_outcome(verb, name, began)
    if outcome and outcome.kind == "done" and outcome.scratch:
        discard(Path(outcome.scratch))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
