"""Time and memory of a training, as they are told."""

import mmap
import sys
import time

import psutil
import pytest
import torch

from components.meters import Clock, forget_peak_memory, peak_memory

HELD = 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a process's peak")
def test_the_peak_counts_what_was_held_for_a_moment_and_can_be_forgotten() -> None:
    forget_peak_memory()
    before = psutil.Process().memory_info().rss
    with mmap.mmap(-1, HELD) as held:  # pages of its own, whatever the process has freed
        held.write(bytes(1) * HELD)
    assert peak_memory()["peak_memory_bytes"] >= before + HELD * 0.9
    forget_peak_memory()
    assert peak_memory()["peak_memory_bytes"] < before + HELD * 0.9


def test_time_belongs_to_the_part_that_was_named_last() -> None:
    clock = Clock(torch.device("cpu"))
    for part in ("data", "forward", "data", ""):
        clock.mark(part)
        time.sleep(0.02)
    seconds = clock.split()
    assert seconds.keys() == {"data", "forward"}
    assert seconds["data"] >= 0.04
    assert seconds["forward"] >= 0.02
    assert clock.split() == {}
