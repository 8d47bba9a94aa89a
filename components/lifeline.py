"""No process outlives what started it: a cancelled or killed flow leaves no trainer running."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from components.settings import settings

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox"}
WATCH_SECONDS = 1.0
OUTLIVE = "HIRAKU_OUTLIVE_PARENT"


def bound_environment() -> dict[str, str]:
    """Our environment without HIRAKU_OUTLIVE_PARENT: what a flow starts ends with it, whatever a person has set."""
    return {key: value for key, value in os.environ.items() if key.upper() != OUTLIVE}


def die_with_parent(sent: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when the one that started it dies, however it dies.

    SIGKILL and not SIGTERM by default: a trainer that finished its step first would still hold the checkpoint's lock
    when the next one starts, and its last checkpoint is good by construction. DVC starts a stage through a shell.
    bash and zsh replace themselves by the command; for one that stays, as dash does, its own parent is watched too,
    once a second.

    Linux only: macOS and Windows have no such request, and there the launcher's end of the process group must do. With
    HIRAKU_OUTLIVE_PARENT=1 it does nothing, for a person who starts a stage with nohup and logs out.
    """
    if sys.platform != "linux" or settings().outlive_parent:
        return
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sent), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), sent)
    if _name_of(parent) in SHELLS and (grandparent := _parent_of(parent)) is not None:
        threading.Thread(target=_watch, args=(parent, grandparent, sent), name="lifeline", daemon=True).start()


def _watch(shell: int, grandparent: int, sent: int) -> None:
    """Kill this process once a shell, while it lives, has lost the process that started it."""
    while (found := _parent_of(shell)) == grandparent:
        time.sleep(WATCH_SECONDS)
    if found is not None:  # else the shell itself is gone, which the kernel sees to
        os.kill(os.getpid(), sent)


def _name_of(process: int) -> str:
    """The name of a process's program; empty if it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _parent_of(process: int) -> int | None:
    """The parent of a process; None if it is gone."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[1])
