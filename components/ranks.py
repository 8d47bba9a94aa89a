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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from components.lifeline import bound_environment
from components.outcomes import Outcome, Refused, Stopped, clear_outcome, read_outcome, write_outcome
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


def values(own: float) -> list[float]:
    """What each rank gives, in their order; all must ask."""
    return add_up([own if number == rank() else 0.0 for number in range(num_ranks())])


def outcome_name(name: str, number: int) -> str:
    """Under what name another rank than 0 leaves its outcome."""
    return f"{name}.rank{number}"


@contextmanager
def started(verb: str, name: str, count: int) -> Iterator[None]:
    """Run the block as rank 0 of `count` processes of this machine; the others run the same stage.

    Raises:
        Refused: another rank was refused something; in its words.
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
        found = others.failure(GRACE_SECONDS)
        if found is None:
            raise
        raise (Refused if found.kind == "refused" else RuntimeError)(found.reason) from error
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
            clear_outcome(verb, outcome_name(name, number))
            environment = bound_environment() | shared | {"RANK": f"{number}", "LOCAL_RANK": f"{number}"}
            self.processes[number] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def failure(self, wait_seconds: float = 0.0) -> Outcome | None:
        """How a rank ended before its time; None if none did.

        Args:
            wait_seconds: the longest to wait for it; whoever notices first that a connection is lost is not the cause.
        """
        deadline = time.monotonic() + wait_seconds
        while not (dead := [number for number, each in self.processes.items() if each.poll()]):
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        told = read_outcome(self.verb, outcome_name(self.name, dead[0]))
        if told is not None:
            return Outcome(told.kind, f"Rank {dead[0]}: {told.reason}")
        how = ending(self.processes[dead[0]].returncode)
        return Outcome("failed", f"Rank {dead[0]} of {self.verb} {self.name} {how}.")

    def _watch(self) -> None:
        """End this process when another rank is dead and the wait for it, such as NCCL's, would last."""
        while not self.is_over.wait(0.5):
            found = self.failure()
            if found and not self.is_over.wait(GRACE_SECONDS):
                sys.stderr.write(f"{found.reason}\n")
                write_outcome(self.verb, self.name, found)
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
