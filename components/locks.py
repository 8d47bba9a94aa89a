"""Locks between processes: files that the kernel frees when their holder ends, in whatever way."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.outcomes import Busy, Refused


def lock(path: Path, is_for_all: bool = False) -> int:
    """Take a lock; the descriptor to close when it is done with.

    A POSIX record lock: a forked child does not inherit it, and it reaches over NFS. A process takes a file once:
    closing any other descriptor of it would free the lock.

    Args:
        path: the file, made if it is missing.
        is_for_all: whether every user of the machine may take the lock, whoever has made the file.

    Raises:
        Busy: another process holds it; the message names that process.
        Refused: the file is somebody else's, who lets nobody write to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = _opened(path, is_for_all)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise Busy(f"{holder} holds {path}.") from error
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        os.close(descriptor)  # its last holder removed it while this process waited to open it
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


def _opened(path: Path, is_for_all: bool) -> int:
    """A descriptor of a lock's file, which is made if it is missing."""
    try:
        while True:
            # Linux refuses O_CREAT for another user's file in /tmp (fs.protected_regular), even one all may write to.
            with suppress(FileNotFoundError):
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            with suppress(FileExistsError):  # another process has made it meanwhile
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                if is_for_all:
                    with suppress(OSError):
                        os.fchmod(descriptor, 0o666)  # the umask has taken the right to write from others
                return descriptor
    except PermissionError as error:
        raise Refused(
            f"{path} cannot be written to by this user ({error.strerror}), and a stage has to lock it. "
            f"Run as the user who made it, or let that user or root run: chmod a+rw {path}"
        ) from error


@contextmanager
def held(path: Path, is_for_all: bool = False) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: as `lock`.
        is_for_all: as `lock`.

    Raises:
        Busy: as `lock`.
        Refused: as `lock`.
    """
    descriptor = lock(path, is_for_all)
    try:
        yield
    finally:
        os.close(descriptor)
