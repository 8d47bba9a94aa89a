"""The tables of `hiraku doctor RECIPE`, and what it says of a training that does not fit."""

import psutil
import pytest

from components.recipes import Library
from flows import command_line, doctor, estimate
from flows.command_line import REFUSED, run
from tests.flows.conftest import RECIPE, Project


def said_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> str:
    monkeypatch.setattr(command_line.console, "width", 80)
    estimate.print_estimate(Library(), name, command_line.console)
    return capsys.readouterr().out


def test_the_tables_name_parameters_strategies_and_times_within_eighty_columns(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_by(monkeypatch, capsys, RECIPE)
    assert "49,056 parameters; fp32, single" in said
    assert "20 steps of 512 tokens, 256 at a time on a device" in said
    for words in ("single, ddp", "fsdp2 of 8", "gradients", "or recomputed", "this CPU", "V100"):
        assert words in said
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_recipe_that_trains_nothing_has_no_tables(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = "{family: gpt, description: d, language: ja, licence: MIT, source: 'path:there'}"
    (project.folder / "recipes" / "theirs.yaml").write_text(theirs)
    assert said_by(monkeypatch, capsys, "theirs") == ""
    assert list(doctor._training(Library(), "theirs")) == []


@pytest.mark.parametrize(
    ("memory", "said", "unsaid"),
    [
        (1000, "another machine (see the table below)", "micro_batch_tokens"),
        # 16 bytes for each of 49,056 parameters fit, and nothing else.
        (1_000_000, "a smaller samples.micro_batch_tokens, activation_checkpointing: true (", "GPUs"),
    ],
)
def test_a_training_larger_than_the_memory_is_bad_and_ways_out_are_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, memory: int, said: str, unsaid: str
) -> None:
    (finding,) = doctor._training(Library(), RECIPE)
    assert finding.level == "good"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": memory}))
    (finding,) = doctor._training(Library(), RECIPE)
    assert finding.level == "bad"
    assert said in finding.text
    assert unsaid not in finding.text


def test_raw_data_that_are_not_here_are_named_beside_the_disk_they_will_need(project: Project) -> None:
    (project.folder / "data" / "smoke" / "a.jsonl").unlink()
    (project.folder / "data" / "smoke").rmdir()
    (finding,) = doctor._disk(Library(), RECIPE)
    assert "raw data of smoke-text are not here: add 4 times their size" in finding.text


def test_a_trial_step_is_printed_and_needs_a_recipe(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line.console, "width", 200)
    estimate.print_trial(Library(), RECIPE, 64, command_line.console)
    assert f"One optimiser step of {RECIPE} on 64 random items in fp32" in capsys.readouterr().out
    assert run(["doctor", "--step", "64"]) == REFUSED
    assert "hiraku doctor RECIPE --step TOKENS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(30, "30.0 s"), (7000, "116.7 min"), (90_000, "25.0 hours"), (1e7, "115.7 days"), (1e9, "32 years")],
)
def test_times_are_told_in_units_of_their_size(seconds: float, words: str) -> None:
    assert estimate._duration(seconds) == words
