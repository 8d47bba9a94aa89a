"""What this machine computes on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.locks import held
from components.outcomes import Refused
from components.settings import settings

GPU_LOCK = Path("/tmp/hiraku-gpu.lock")  # noqa: S108 - one path for all users, whatever TMPDIR a job has of its own
"""One for all projects and users of a machine. Not /var/lock, which only root can write to on some systems."""


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


def num_devices() -> int:
    """Devices of this machine that a training may share: as many as the settings say, or every GPU, or one CPU.

    Raises:
        Refused: the settings want more GPUs than there are.
    """
    wanted = settings().num_devices
    if not uses_gpu():
        return wanted or 1
    import torch

    found = torch.cuda.device_count()
    if wanted > found:
        raise Refused(f"HIRAKU_NUM_DEVICES is {wanted}, but this machine has {found} GPUs. Lower or unset it.")
    return wanted or found


def compiles_layers(on_gpu: bool) -> bool:
    """Whether the settings want layers compiled there; `components.blocks.Compiled` does it."""
    wanted = settings().compile
    return wanted == "on" or (wanted == "auto" and on_gpu)


def num_threads(num_processes: int = 1) -> int:
    """Threads for each of some processes on the CPU: as the settings say, or one per core that they may use."""
    # Only Linux tells which cores a process may use.
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings().num_threads or max(1, num_cores // num_processes)


def set_threads(num_processes: int = 1) -> None:
    """Give torch as many threads as `num_threads` says."""
    import torch

    torch.set_num_threads(num_threads(num_processes))


@contextmanager
def gpu_held() -> Iterator[None]:
    """Hold this machine's GPUs against every other stage; on a CPU there is nothing to hold.

    Prefect's own limits count slots across machines, and lose them when a server is killed; the kernel does not.

    Raises:
        Busy: another stage computes on them.
        Refused: as `components.locks.lock`.
    """
    if not uses_gpu():
        yield
        return
    with held(GPU_LOCK, is_for_all=True):
        yield


def bf16_instructions() -> list[str]:
    """The CPU's own instructions for bf16; without any, it is more than ten times slower than fp32.

    Linux tells (`avx512_bf16` and `amx_bf16` on x86, `bf16` on ARM); elsewhere there are none known.
    """
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return sorted({"avx512_bf16", "amx_bf16", "bf16"}.intersection(words))
