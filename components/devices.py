"""What this machine computes on."""

import os
from pathlib import Path

from components.outcomes import Refused
from components.settings import settings


def uses_gpu() -> bool:
    """Whether networks run on a GPU here, as the settings wish.

    Raises:
        Refused: they ask for a GPU and there is none.
    """
    import torch

    wanted, there = settings().accelerator, torch.cuda.is_available()
    if wanted == "gpu" and not there:
        raise Refused("HIRAKU_ACCELERATOR is 'gpu', but torch finds no GPU here. Unset it, or install a driver.")
    return wanted != "cpu" and there


def set_threads() -> None:
    """Give torch as many threads as the settings say; by default one per core that this process may use."""
    import torch

    # Only Linux tells which cores a process may use.
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(settings().num_threads or num_cores)


def bf16_instructions() -> list[str]:
    """The CPU's own instructions for bf16; without any, it is more than ten times slower than fp32.

    Linux tells (`avx512_bf16` and `amx_bf16` on x86, `bf16` on ARM); elsewhere there are none known.
    """
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return sorted({"avx512_bf16", "amx_bf16", "bf16"}.intersection(words))
