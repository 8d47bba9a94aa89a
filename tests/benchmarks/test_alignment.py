"""Wins are counted question by question, and nothing is measured where nothing was made."""

from pathlib import Path

import pytest

from benchmarks.alignment import measure, wins
from components.outcomes import Refused


def test_ties_count_half_and_the_bound_lies_below_the_rate() -> None:
    theirs = {str(number): 0.5 for number in range(400)}
    ours = {name: 1.0 if int(name) < 240 else 0.5 if int(name) < 300 else 0.0 for name in theirs}
    found = wins(ours, theirs)
    assert found.num_items == 400
    assert found.rate == pytest.approx((240 + 60 / 2) / 400)
    # a mean of 400 values in {0, 1/2, 1} with this spread: 1.645 standard errors below
    spread = ((240 * 1.0 + 60 * 0.25) / 400 - found.rate**2) ** 0.5
    assert found.lower == pytest.approx(found.rate - 1.645 * spread / 20, abs=0.005)


def test_of_equal_answers_nobody_wins() -> None:
    found = wins({"a": 0.4, "b": 1.0}, {"b": 1.0, "a": 0.4})
    assert (found.rate, found.lower) == (0.5, 0.5)


def test_without_the_demos_models_the_command_that_makes_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="hiraku release gpt-demo-ppo"):
        measure()
