"""Steps with each loss do the same work; one that does not is found out."""

from dataclasses import replace

import pytest

from benchmarks import cross_entropy_memory
from benchmarks.cross_entropy_memory import LOSSES, Step, check_same_work, take_step
from benchmarks.project import Shape
from components.outcomes import Refused

SHAPE = Shape(1, 32, 2, 64, vocab_size=500, window_tokens=16, batch_windows=2)


def test_all_losses_give_the_same_loss_and_gradient():
    steps = {loss: take_step(loss, SHAPE) for loss in LOSSES}
    check_same_work(steps)
    assert all(step.peak_bytes >= step.before_bytes > 0 for step in steps.values())


def test_a_step_needs_what_it_held_above_what_was_there():
    assert Step(before_bytes=300, peak_bytes=1000, loss=1.0, gradient_norm=1.0).step_bytes == 700


@pytest.mark.parametrize("key", ["loss", "gradient_norm"])
def test_other_work_is_refused(key):
    step = Step(300, 1000, 6.2, 1.1)
    with pytest.raises(Refused, match=f"{key} is .* with the loss 'ours'"):
        check_same_work({"plain": step, "ours": replace(step, **{key: 6.3})})


def test_the_row_of_the_step_asks_for_half(monkeypatch):
    steps = {"ours": [Step(100, 350, 1, 1)], "plain": [Step(100, 1100, 1, 1)], "transformers": [Step(100, 1600, 1, 1)]}
    monkeypatch.setattr(cross_entropy_memory, "compare", lambda shape, repeats: steps)
    result = cross_entropy_memory.measure(repeats=1)
    assert [row.ratio.median for row in result.rows] == pytest.approx([0.25, 350 / 1100, 250 / 1500, 350 / 1600])
    assert [row.verdict for row in result.rows] == ["at most 0.5: yes", "", "at most 0.5: yes", ""]


@pytest.mark.slow
def test_a_step_with_a_large_vocabulary_needs_at_most_half_of_the_plain_losss_memory():
    (ours,), (plain,), _ = cross_entropy_memory.compare(cross_entropy_memory.SHAPE, 1).values()
    assert ours.step_bytes <= plain.step_bytes / 2
