"""The machine that benchmarks run on: what it is, one core alone, its measured peak, and memory of a process."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "bf16")
"""Those that decide how fast matrices are multiplied, as Linux names them for x86 and ARM."""
LIBRARIES = ("torch", "lightning", "transformers")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PEAK_SIZE = {"cpu": 1536, "gpu": 8192}
"""Rows and columns of the square matrices whose product is the measured peak."""
PEAK_PRODUCTS = 5


def describe() -> dict[str, Any]:
    """What figures depend on: processor, memory, GPUs and versions of libraries."""
    import torch

    facts = _processor_facts()
    words = set(facts.get("flags", facts.get("Features", "")).split())
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "num_cores": os.cpu_count(),
        "instructions": [each for each in INSTRUCTIONS if each in words],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "versions": {"Python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES},
    }


def _processor_facts() -> dict[str, str]:
    """What Linux tells of the first processor; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


@contextmanager
def one_core() -> Iterator[None]:
    """Compute with one thread, on one core where the system can do that; processes started within do so too."""
    import torch

    kept = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    num_threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    os.environ |= dict.fromkeys(THREAD_VARIABLES, "1")
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})  # the first one is where interrupts mostly go
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(num_threads)
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measured_peak(precision: str, device: str) -> float:
    """The most FLOP/s that this process reaches: the best of several products of square matrices.

    Args:
        precision: `fp32` or `bf16`.
        device: `cpu`, by this process's CPU time; `gpu`, by wall time.
    """
    import torch

    place = torch.device("cuda" if device == "gpu" else "cpu")
    size, dtype = PEAK_SIZE[device], torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(size, size, dtype=dtype, device=place) for _ in range(2))
    clock = time.perf_counter if device == "gpu" else time.process_time
    best = float("inf")
    for _ in range(PEAK_PRODUCTS):
        began = clock()
        torch.mm(left, right)
        if device == "gpu":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return 2 * size**3 / best


def memory() -> int:
    """The memory that this process holds now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Begin anew with the peak that `peak_memory` tells (proc(5), clear_refs); Linux only."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most memory that this process held, in bytes; what `getrusage` says is that of its parent, if that had more.

    Linux only.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
