"""The harness benchmark: what is taken for work, which sides agree, and which items are ties."""

import pytest

from benchmarks.harness import _agreement, _num_items, _sections, work_of
from components.outcomes import Refused


def side(nats: float, acc: float, exact: float = 1.0, *, is_cut: bool = False) -> dict:
    item = {"item": 0, "is_cut": is_cut}
    return {
        "seconds": {"jnli": 5.0, "jsquad": 4.0},
        "answers": {
            "jnli": [{**item, "answers": [[[nats, False]], [[-2.0, True]]], "metrics": {"acc": acc}}],
            "jsquad": [{**item, "answers": [["東京"]], "metrics": {"exact_match": exact}}],
        },
    }


def test_work_is_the_time_of_all_tasks() -> None:
    assert work_of(side(-1.0, 1.0)) == 5.0 + 4.0


def test_sides_that_agree_are_told_of_with_the_largest_gap() -> None:
    [told] = _agreement("GPT-2", side(-1.0, 1.0), side(-1.00001, 1.0))
    assert "2 items have the same metrics" in told
    assert "1.0e-05 nats" in told


def test_a_tie_is_listed() -> None:
    [told] = _agreement("GPT-2", side(-1.99995, 1.0), side(-2.00002, 0.0))
    assert "but for ties at jnli/0" in told


def test_metrics_that_differ_without_a_tie_are_refused() -> None:
    with pytest.raises(Refused, match=r"metrics of jnli/0 differ, and no two of its choices are within 0\.0002"):
        _agreement("GPT-2", side(-1.0, 1.0), side(-1.0, 0.0))


def test_texts_that_differ_and_contexts_that_are_cut_are_told_apart_from_ties() -> None:
    [told] = _agreement("GPT-2", side(-1.0, 1.0), side(-1.0, 1.0, exact=0.0))
    assert "but for texts that go on otherwise at jsquad/0" in told
    [told] = _agreement("GPT-2", side(-1.0, 1.0, is_cut=True), side(-3.0, 0.0))
    assert (
        "but for contexts that do not fit, of which ours leaves examples out and lm-eval the beginning, at jnli/0"
        in told
    )


def test_sides_that_do_not_agree_are_refused() -> None:
    with pytest.raises(Refused, match=r"differ by up to 1\.00e-03 nats"):
        _agreement("GPT-2", side(-1.0, 1.0), side(-1.001, 1.0))


def test_tasks_are_those_whose_folder_is_there_or_a_stand_in_for_it(tmp_path) -> None:
    for name in ("jnli", "marc_ja_standin_jrte", "something"):
        (tmp_path / name).mkdir()
    found = {each["task"]: each["data"] for each in _sections(tmp_path)}
    assert found == {"jnli": str(tmp_path / "jnli"), "marc-ja": str(tmp_path / "marc_ja_standin_jrte")}


def test_items_are_counted_of_the_split_that_the_task_scores(tmp_path) -> None:
    for name in ("jnli", "xlsum_ja"):
        (tmp_path / name).mkdir()
        for split, number in (("train", 7), ("validation", 5), ("test", 3)):
            (tmp_path / name / f"{split}.jsonl").write_text("{}\n" * number)
    assert {each["task"]: _num_items(each) for each in _sections(tmp_path)} == {"jnli": 5, "xlsum-ja": 3}
