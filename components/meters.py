"""Where a training's time goes, and how much of the machine it uses."""

import contextlib
import resource
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import torch

from components.peaks import gpu_peak_flops
from models.heap import give_back_freed

PROBE_SIZE = 1024
"""Rows and columns of the matrices that a CPU's peak is measured with: 2.1 GFLOP each, out of every cache."""
PROBES = 4
ON_LINUX = sys.platform == "linux"


class Clock:
    """Time split into named parts: what passes between two marks belongs to the part the first one names.

    On a GPU the marks are events in its queue, so that nobody waits for it; they are read when the split is asked for.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.marks: list[tuple[str, Any]] = []

    def mark(self, part: str) -> None:
        """End the part before, and begin this one; `""` begins nothing that counts."""
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((part, event))
        else:
            self.marks.append((part, time.perf_counter()))

    def split(self) -> dict[str, float]:
        """Seconds of each part since the last call."""
        self.mark("")
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds: Counter[str] = Counter()
        for (part, begin), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            seconds[part] += begin.elapsed_time(end) / 1000 if self.on_gpu else end - begin
        self.marks = []
        return {part: value for part, value in seconds.items() if part}


@cache
def peak_flops(device: torch.device, precision: str) -> float | None:
    """The most that a device computes in a second: a GPU's from its vendor's table, a CPU's measured.

    The CPU's is the best of a few matrix products with the threads of this process.

    Returns:
        FLOP/s; None for a GPU that the table does not know.
    """
    if device.type == "cuda":
        return gpu_peak_flops(torch.cuda.get_device_name(device), precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(PROBES):
        began = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - began)
    return 2 * PROBE_SIZE**3 / best


def forget_peak_memory() -> None:
    """Let the peaks count from here on, where the system can."""
    if ON_LINUX:
        give_back_freed()  # freed blocks that glibc keeps would hide what is taken from here on
        with contextlib.suppress(OSError):  # not every container may
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_process_memory() -> int:
    """The most bytes of the machine's memory that this process has held at once.

    Linux's own figure for the process: the one of getrusage begins with that of the process which started it.
    """
    if ON_LINUX:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory() -> dict[str, int]:
    """The most bytes that this process has held so far: of the machine's memory, and of a GPU's."""
    found = {"peak_memory_bytes": peak_process_memory()}
    if torch.cuda.is_available():
        found["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return found
