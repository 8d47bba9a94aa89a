"""Captions that pass in chunks give the loss of all at once, and take a part of the memory."""

import pytest

from benchmarks import contrast_step
from benchmarks.contrast_memory import check_same_work
from tests.conftest import ROOT


def test_chunks_take_a_part_of_the_memory_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    chunked, at_once = (contrast_step._in_fresh_process(chunk, 1_024) for chunk in (64, None))
    check_same_work("a step", chunked, at_once)
    assert chunked.step_bytes < 0.5 * at_once.step_bytes
