from pathlib import Path

import pytest

from components.journal import Follower, Journal


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.chdir(tmp_path)
    made = Journal("pretrain", "followed")
    for step in range(6):
        made.metrics(step, loss=1.0)
    return made


def steps(follower: Follower) -> list[int]:
    return [point["step"] for point in follower.new_points()]


def test_a_follower_reads_each_point_once_and_a_half_written_line_when_it_is_whole(journal: Journal) -> None:
    follower = Follower(journal.points_path)
    assert steps(follower) == [0, 1, 2, 3, 4, 5]
    assert steps(follower) == []
    with journal.points_path.open("a") as stream:
        stream.write('{"step": 6, "time": 1.0,')
        stream.flush()
        assert steps(follower) == []
        stream.write(' "metrics": {}}\n')
    assert steps(follower) == [6]
    follower.close()


@pytest.mark.parametrize("times", range(1, 5))
def test_a_follower_notices_a_rewritten_journal_however_often_its_file_was_replaced(
    journal: Journal, times: int
) -> None:
    follower = Follower(journal.points_path)
    follower.new_points()
    for _ in range(times - 1):
        journal.rewrite([])
    journal.rewrite([{"step": step, "time": 1.0, "metrics": {}} for step in range(5)])
    journal.metrics(5, loss=1.0)
    journal.metrics(6, loss=1.0)
    assert steps(follower) == [0, 1, 2, 3, 4, 5, 6]
    follower.close()
