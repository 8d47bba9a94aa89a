"""Locks between processes: files that the kernel frees when their holder ends, in whatever way."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.outcomes import Busy


def lock(path: Path) -> int:
    """Take a lock; the descriptor to close when it is done with.

    A POSIX record lock: a forked child does not inherit it, and it reaches over NFS. A process takes a file once:
    closing any other descriptor of it would free the lock.

    Raises:
        Busy: another process holds it; the message names that process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs.

    Raises:
        Busy: as `lock`.
    """
    descriptor = lock(path)
    try:
        yield
    finally:
        os.close(descriptor)
