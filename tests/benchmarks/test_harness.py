"""The harness benchmark: what is taken for work, which sides agree, and which items are ties."""

import pytest

from benchmarks.harness import _agreement, _sections, work_of
from components.outcomes import Refused


def side(nats: float, acc: float, text: str = "東京") -> dict:
    return {
        "seconds": {"jnli": 5.0, "jsquad": 4.0},
        "answers": {
            "jnli": [{"item": 0, "answers": [[[nats, False]], [[-2.0, True]]], "metrics": {"acc": acc}}],
            "jsquad": [{"item": 0, "answers": [[text]], "metrics": {"exact_match": 1.0}}],
        },
    }


def test_work_is_the_time_of_all_tasks() -> None:
    assert work_of(side(-1.0, 1.0)) == 5.0 + 4.0


def test_sides_that_agree_are_told_of_with_the_largest_gap() -> None:
    [told] = _agreement("GPT-2", side(-1.0, 1.0), side(-1.00001, 1.0))
    assert "2 items have the same metrics" in told
    assert "1.0e-05 nats" in told


def test_a_tie_is_listed() -> None:
    [told] = _agreement("GPT-2", side(-1.0, 1.0), side(-1.0, 0.0))
    assert "but for ties at jnli/0" in told


def test_sides_that_do_not_agree_are_refused() -> None:
    with pytest.raises(Refused, match=r"differ by up to 1\.00e-03 nats"):
        _agreement("GPT-2", side(-1.0, 1.0), side(-1.001, 1.0))


def test_tasks_are_those_whose_folder_is_there_or_a_stand_in_for_it(tmp_path) -> None:
    for name in ("jnli", "marc_ja_standin_jrte", "something"):
        (tmp_path / name).mkdir()
    found = {each["task"]: each["data"] for each in _sections(tmp_path)}
    assert found == {"jnli": str(tmp_path / "jnli"), "marc-ja": str(tmp_path / "marc_ja_standin_jrte")}
