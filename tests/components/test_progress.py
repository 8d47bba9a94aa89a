"""Progress of long work, in a log and in a terminal."""

import pytest

from components.progress import Progress, duration


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRAKU_PROGRESS", "lines")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min")]
)
def test_a_duration_is_told_in_the_unit_a_person_would_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_log_gets_plain_lines_and_not_one_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("pretrain tiny", total=100, done=40) as progress:
        for step in range(41, 101):
            progress.update(step, f"loss {step}")
        progress.say("a word")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("pretrain tiny: step 41/100  loss 41")
    assert "left" in lines[0]
    assert lines[1:] == ["pretrain tiny: step 100/100  loss 100", "pretrain tiny: a word"]


def test_a_line_says_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("ingest tiny", total=4, unit="files read") as progress:
        progress.update(4, "9 rows")
    assert capsys.readouterr().err == "ingest tiny: files read 4/4  9 rows\n"


def test_time_left_counts_this_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("components.progress.time.monotonic", lambda: now[0])
    with Progress("pretrain tiny", total=100, done=90) as progress:
        assert progress.time_left() == ""
        now[0] += 8
        progress.update(92)
        assert progress.time_left() == "32 s left"  # eight steps at four seconds each


def test_a_terminal_gets_a_bar_with_the_same_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIRAKU_PROGRESS", "bar")
    with Progress("pretrain tiny", total=10) as progress:
        progress.update(10, "loss 1.5")
        progress.say("[not markup]")
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "[not markup]" in shown
