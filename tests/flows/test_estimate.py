"""The tables of `hiraku doctor RECIPE`, and what it says of a training that does not fit."""

import re
from pathlib import Path

import psutil
import pytest

from components.cost import MEMORY_SHARE, cost_of
from components.recipes import Library
from flows import command_line, doctor, estimate
from flows.command_line import REFUSED, run
from tests.conftest import ROOT
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
    for words in ("single, ddp", "fsdp2 of 8", "MB on each GPU", "gradients", "or recomputed", "host memory"):
        assert words in said
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    # A share of a GPU's peak says nothing of a network of 49,056 parameters.
    assert "this CPU" in said
    assert "V100" not in said
    assert not re.search(r"\b0\.00", said)


@pytest.mark.parametrize(("name", "is_told"), [("japanese-stable-diffusion", False), ("japanese-gpt2-medium", True)])
def test_the_tables_tell_of_shares_only_where_a_family_trains_in_shares(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, is_told: bool
) -> None:
    monkeypatch.setattr(command_line.console, "width", 80)
    estimate.print_estimate(Library(ROOT / "recipes"), name, command_line.console)
    assert ("fsdp2" in capsys.readouterr().out) == is_told


WIDER = {
    "hidden_size: 32": "hidden_size: 1024",
    "num_heads: 2": "num_heads: 16",
    "num_layers: 1": "num_layers: 12",
    "num_steps: 20": "num_steps: 9000\n  {more}",
}


def write_wider(project: Project, more: str) -> None:
    """The smoke recipe with a network that fills a GPU."""
    text = (project.folder / "recipes" / f"{RECIPE}.yaml").read_text()
    for old, new in WIDER.items():
        assert old in text
        text = text.replace(old, new.format(more=more))
    Path(f"recipes/{RECIPE}.yaml").write_text(text)


@pytest.mark.parametrize(
    ("more", "row", "column"),
    [
        ("strategy: ddp", "sum", [0]),
        ("strategy: ddp\n  activation_checkpointing: true", "sum recomputed", [0]),
        ("strategy: fsdp2\n  activation_checkpointing: true", "sum recomputed", [1, 2, 3, 4]),
    ],
)
def test_the_sums_of_the_recipe_as_it_stands_are_marked(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: str, row: str,
    column: list[int],
) -> None:  # fmt: skip
    write_wider(project, more)
    said = said_by(monkeypatch, capsys, RECIPE)
    rows = [re.split(r"  +", line) for line in said.splitlines() if line.startswith("sum")]
    assert [label for label, *_ in rows] == ["sum", "sum recomputed"]
    for label, *cells in rows:
        marked = [place for place, cell in enumerate(cells) if cell.startswith("*")]
        assert marked == (column if label == row else [])
    assert "* as the recipe stands" in said
    assert max(map(len, said.splitlines())) <= 80


def test_time_can_be_worked_out_from_what_is_printed(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wider(project, "strategy: ddp\n  activation_checkpointing: true")
    said = " ".join(said_by(monkeypatch, capsys, RECIPE).split())
    flops, again = re.findall(r"([\d.]+e\d+) FLOP and ([\d.]+e\d+) for activations computed again", said)[0]
    teraflops, minutes = re.findall(r"V100 32 (\d+) 1 ([\d.]+) min", said)[0]
    assert "At 40% of peak, fp32" in said
    seconds = (float(flops) + float(again)) / (0.4 * float(teraflops) * 1e12)
    assert 60 * float(minutes) == pytest.approx(seconds, rel=0.05)
    assert "those that compute activations again among them" in said


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
        (1000, "Ways out: another machine (see the table below)", "micro_batch_tokens"),
        # 16 bytes for each of 49,056 parameters fit, and nothing else; one layer that is computed again saves nothing.
        (1_000_000, "Ways out: a smaller samples.micro_batch_tokens or another machine", "checkpointing"),
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


def test_activation_checkpointing_is_a_way_out_if_it_fits(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wider(project, "strategy: single")
    cost = cost_of(Library(), RECIPE, on_gpu=False, is_compiled=False)
    assert cost is not None
    fixed = 16 * cost.num_parameters + cost.loss_bytes
    between = fixed + (cost.activation_bytes + cost.recomputing_activation_bytes) // 2
    memory = type("Memory", (), {"available": between / MEMORY_SHARE})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    (finding,) = doctor._training(Library(), RECIPE)
    less = estimate.size(fixed + cost.recomputing_activation_bytes)
    ways = f"a smaller samples.micro_batch_tokens, activation_checkpointing: true ({less}) or another machine"
    assert (finding.level, ways in finding.text) == ("bad", True)


def test_a_training_of_years_on_this_cpu_is_not_called_good(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LONG_SECONDS", 1e-9)
    monkeypatch.setattr(estimate, "on_this_cpu", lambda *_: estimate.OnCpu("fp32", 1e11, 22 * 365.25 * 86_400))
    (finding,) = doctor._training(Library(), RECIPE)
    assert finding.level == "note"
    assert "it would take 22 years" in finding.text


def test_a_trial_step_is_printed_and_needs_a_recipe(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line.console, "width", 200)
    estimate.print_trial(Library(), RECIPE, 64, command_line.console)
    said = " ".join(capsys.readouterr().out.split())
    assert f"One optimiser step of {RECIPE} on 64 random tokens in fp32, eager layers" in said
    assert re.search(r"up to [\d.]+ MB of memory \([\d.]+ MB estimated\)", said)
    assert "a gradient in 16 of 16 tensors, every weight is a number" in said
    assert run(["doctor", "--step", "64"]) == REFUSED
    assert "hiraku doctor RECIPE --step TOKENS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(30, "30.0 s"), (7000, "116.7 min"), (90_000, "25.0 hours"), (1e7, "115.7 days"), (1e9, "32 years")],
)
def test_times_are_told_in_units_of_their_size(seconds: float, words: str) -> None:
    assert estimate.duration(seconds) == words


@pytest.mark.parametrize("tokens", ["0", "-5"])
def test_a_step_of_nothing_is_refused_before_anything_is_printed(
    project: Project, capsys: pytest.CaptureFixture[str], tokens: str
) -> None:
    assert run(["doctor", RECIPE, "--step", tokens]) == REFUSED
    said = capsys.readouterr()
    assert f"--step is {tokens}, expected at least 1" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (93_000, "0.09 MB"),
        (9.3e6, "9.3 MB"),
        (4.2e8, "0.42 GB"),
        (1.56e10, "15.6 GB"),
        (5.2e11, "520 GB"),
        (2.69e13, "26.9 TB"),
    ],
)
def test_bytes_are_told_in_units_of_their_size(num_bytes: float, words: str) -> None:
    assert estimate.size(num_bytes) == words
