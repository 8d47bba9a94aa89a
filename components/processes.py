"""Who is alive: a mark by which a machine finds one of its processes again, or knows that it has ended."""

import hashlib
import os
import socket
from pathlib import Path

import psutil


def tags() -> dict[str, str]:
    """What tells later whether the process that holds a run still lives."""
    return {"hiraku.host": socket.gethostname(), "hiraku.process": mark()}


def mark() -> str:
    """What names this process so that its machine can find it again: MACHINE/BOOT/NAMESPACE/PID@BIRTH."""
    return "/".join([*_place(), f"{os.getpid()}@{_birth(psutil.Process())}"])


def is_dead(mark: str) -> bool:
    """Whether the process of a mark has certainly ended; nothing is certain of one that cannot be seen from here.

    A dead process that nobody has reaped yet, as in a container without an init, has ended.
    """
    parts, (machine, boot, namespace) = mark.split("/"), _place()
    if len(parts) != 4 or parts[0] != machine:
        return False
    if parts[1] != boot:  # this machine has been started anew since
        return True
    return parts[2] == namespace and not _lives(parts[3])


def _place() -> tuple[str, str, str]:
    """The machine, its last start, and the namespace of our process ids; outside Linux the last two are unknown.

    Machines made from one image may share a name, and containers on the host's network share the host's: each has
    process ids of its own.
    """
    # systemd asks to keep the id itself from a network: machine-id(5).
    own = hashlib.sha256(b"hiraku" + _line("/etc/machine-id").encode()).hexdigest()[:8]
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}-{own}", _line("/proc/sys/kernel/random/boot_id"), namespace


def _line(path: str) -> str:
    """What a small file of the system says; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _birth(process: psutil.Process) -> str:
    """When a process started: Linux counts ticks since its own start, so setting the clock moves nothing."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{process.create_time():.2f}"
    return stat.rpartition(")")[2].split()[19]  # starttime, field 22 of proc_pid_stat(5)


def _lives(process: str) -> bool:
    """Whether `PID@BIRTH` is a process here and now; process ids are used again."""
    pid, _, birth = process.partition("@")
    try:
        found = psutil.Process(int(pid))
        return found.status() != psutil.STATUS_ZOMBIE and _birth(found) == birth
    except (psutil.Error, ValueError):
        return False
