"""Alignment beside TRL: what makes two sides comparable, and ours in miniature."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks import our_alignment
from benchmarks.alignment_project import Rounds, write_alignment
from benchmarks.alignment_speed import (
    Comparison,
    Run,
    check_same_losses,
    check_same_rounds,
    measure_ppo,
    measure_sft,
    one_run,
)
from benchmarks.figures import Spread
from benchmarks.project import Schedule, Shape
from benchmarks.sides import our_command, peer_command
from components.outcomes import Refused
from tests.benchmarks.test_training_speed import settings_of_a_run  # noqa: F401 - a fixture
from tests.conftest import ROOT

TINY = Shape(1, 32, 2, 64, vocab_size=300, window_tokens=200, batch_windows=8)
ROUNDS = Rounds(num_prompts=4, mini_batch_samples=2, answer_tokens=5, num_epochs=2)
SCHEDULE = Schedule(num_steps=2, warmup_steps=1, valid_windows=8)
FIRST = {"loss": 9.0, "answer_tokens": 53.0, "entropy": 10.0}
OURS = Run("Hiraku", (10.0, 20.0), FIRST, FIRST, 1_000_000)
THEIRS = Run("another", (20.0, 30.0), FIRST, FIRST, 2_000_000)


def test_speeds_are_items_over_seconds_of_cpu_time() -> None:
    slower = replace(OURS, steady=(12.5, 12.5))
    rows = Comparison("fp32", "samples", 64, [OURS, slower, OURS], [THEIRS] * 3, 1.5).rows()
    assert rows[0].ours == Spread(6.4, 5.12, 6.4)
    assert rows[0].ratio == Spread(2.0, pytest.approx(1.6), 2.0)
    assert rows[0].verdict == "at least 1.5: yes"
    assert rows[1].ratio == Spread(0.5, 0.5, 0.5)


@pytest.mark.parametrize("place", ["first", "last"])
def test_sides_that_do_other_work_are_refused(place: str) -> None:
    def other(**values: float) -> Run:
        return replace(THEIRS, **{place: FIRST | values})

    check_same_losses(OURS, other(loss=9.0005), "fp32")
    check_same_rounds(OURS, other(entropy=10.1))
    with pytest.raises(Refused, match=f"The loss of the {place} step is 9.000000 on our side and 9.010000"):
        check_same_losses(OURS, other(loss=9.01), "fp32")
    for key, value in (("entropy", 10.5), ("answer_tokens", 52.0), ("answer_tokens", float("nan"))):
        with pytest.raises(Refused, match=f"In the {place} round '{key}'"):
            check_same_rounds(OURS, other(**{key: value}))


@pytest.mark.parametrize("measure", [measure_sft, measure_ppo])
def test_steps_of_which_none_is_measured_are_refused(measure: Any) -> None:
    with pytest.raises(Refused, match="expected 1 or more and below num_steps 2"):
        measure(num_steps=2, warmup_steps=2)


def test_our_side_reports_both_alignments_and_peers_are_given_what_they_read(
    settings_of_a_run: None,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder, outcome = tmp_path / "project", tmp_path / "outcome.json"
    num_tokens = write_alignment(folder, TINY, SCHEDULE, ROUNDS, micro_windows=4)
    rows = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    assert sum(len(row["input_ids"]) for row in rows) == num_tokens
    assert 0.9 < num_tokens / (8 * 201) <= 1
    found = {}
    for name in ("sft-fp32", "ppo-shared-fp32", "ppo-separate-fp32"):
        our_alignment.run(folder, name, outcome)
        found[name] = json.loads(outcome.read_text(encoding="utf-8"))
        assert min(found[name]["steady"]) >= 0
    # The peer's conversations and weights give the loss of our first step, so it is given the same work.
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    assert found["sft-fp32"]["first"]["loss"] == pytest.approx(_plain_loss(folder / work["start"], rows), rel=1e-5)
    assert found["sft-fp32"]["last"]["loss"] != found["sft-fp32"]["first"]["loss"]
    for name in ("ppo-shared-fp32", "ppo-separate-fp32"):
        assert found[name]["first"]["answer_tokens"] == found[name]["last"]["answer_tokens"] == 5
        assert found[name]["first"]["updates"] == 4
        assert found[name]["first"]["kl_per_answer"] == pytest.approx(0.0, abs=1e-5)


def _plain_loss(start: Path, rows: list[dict[str, Any]]) -> float:
    """The mean cross-entropy of all answers' tokens, each conversation by itself."""
    network, losses = AutoModelForCausalLM.from_pretrained(start), []
    for row in rows:
        ids, wanted = torch.tensor([row["input_ids"]]), np.array(row["completion_mask"][1:], bool)
        with torch.no_grad():
            logits = network(input_ids=ids).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits[wanted], ids[0, 1:][wanted], reduction="none"))
    return float(torch.cat(losses).mean())


@pytest.mark.slow
def test_both_sides_in_miniature_do_the_same_work(tmp_path: Path) -> None:
    peer = ROOT / ".bench" / "trl" / "bin" / "python"
    if not peer.exists():
        pytest.skip("the peer's environment is made by `make bench`")
    folder = tmp_path / "project"
    # Their entropies are those of sampled tokens, so there must be some.
    write_alignment(folder, TINY, SCHEDULE, replace(ROUNDS, num_prompts=32, mini_batch_samples=16, answer_tokens=30), 4)
    ours = our_command("benchmarks.our_alignment")
    check_same_losses(
        one_run(ours, folder, "sft-fp32"), one_run(peer_command(peer, "trl_sft.py"), folder, "fp32"), "fp32"
    )
    check_same_rounds(
        one_run(ours, folder, "ppo-separate-fp32"), one_run(peer_command(peer, "trl_ppo.py"), folder, "fp32")
    )
