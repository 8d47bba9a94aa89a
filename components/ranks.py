"""The processes of one training, counted from rank 0, each with a device of its own.

torchrun's variables say who is who: RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Where
nobody has set them, the stage's process becomes rank 0 and starts the others by its own command; they die with it, and
it ends when one of them does. So a flow sees one stage whatever the number of ranks, and torchrun works as well.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from components.outcomes import Outcome, Refused, Stopped, write_outcome
from components.wording import ending

GRACE_SECONDS = 10.0
"""How long a process may go on after the death of another, to notice it by itself."""


def rank() -> int:
    """The number of this process over all machines."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """The number of this process, and of its device, on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def num_ranks() -> int:
    """Processes over all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def num_local_ranks() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks()))


def is_main() -> bool:
    """Whether this process writes states, checkpoints and journals."""
    return rank() == 0


def are_given() -> bool:
    """Whether somebody else, such as torchrun, starts the processes."""
    return "WORLD_SIZE" in os.environ


@cache
def _group() -> Any:
    """For numbers that steer the loop: through the CPU, so that no GPU is waited for."""
    import torch

    return torch.distributed.new_group(backend="gloo")


def add_up(values: list[float]) -> list[float]:
    """The sums over all ranks; what a single process gives comes back as it is."""
    if num_ranks() == 1:
        return values
    import torch

    total = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(total, group=_group())
    return total.tolist()


@contextmanager
def started(verb: str, name: str, count: int) -> Iterator[None]:
    """Run the block as rank 0 of `count` processes of this machine; the others run the same stage.

    Raises:
        RuntimeError: another rank ended before its time; it says how.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": f"{count}", "LOCAL_WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": f"{port}", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _loopback())}
    before = dict(os.environ)
    others = _Others(verb, name, count, shared)
    try:
        os.environ.update(shared | {"RANK": "0", "LOCAL_RANK": "0"})
        yield
    except (Refused, Stopped):
        raise
    except Exception as error:
        if reason := others.reason(wait_seconds=1.0):
            raise RuntimeError(reason) from error
        raise
    finally:
        others.end()
        leave()
        os.environ.clear()
        os.environ.update(before)


def leave() -> None:
    """Give up the connection to the other ranks."""
    import torch

    _group.cache_clear()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _loopback() -> str:
    return "lo0" if sys.platform == "darwin" else "lo"


class _Others:
    """The processes that rank 0 has started."""

    def __init__(self, verb: str, name: str, count: int, shared: dict[str, str]) -> None:
        self.verb, self.name = verb, name
        self.is_over = threading.Event()
        command = [sys.executable, "-m", "components", verb, name]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(1, count):
            environment = os.environ | shared | {"RANK": f"{number}", "LOCAL_RANK": f"{number}"}
            self.processes[number] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def reason(self, wait_seconds: float = 0.0) -> str:
        """How a rank ended before its time; empty if none did."""
        self.is_over.wait(wait_seconds)
        for number, process in self.processes.items():
            if process.poll():
                return f"Rank {number} of {self.verb} {self.name} {ending(process.returncode)}."
        return ""

    def _watch(self) -> None:
        """End this process when another rank is dead and the wait for it, such as NCCL's, would last."""
        while not self.is_over.wait(0.5):
            reason = self.reason()
            if reason and not self.is_over.wait(GRACE_SECONDS):
                sys.stderr.write(f"{reason}\n")
                write_outcome(self.verb, self.name, Outcome("failed", reason))
                os._exit(1)

    def end(self) -> None:
        """Wait for the others, which end with the same step; then end who is left."""
        try:
            for process in self.processes.values():
                process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        self.is_over.set()
        for process in self.processes.values():
            process.kill()
            process.wait()
