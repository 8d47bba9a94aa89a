"""HuBERT under the trainer: stopped anywhere it ends with the bits of a run never stopped, compiled or not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components import randomness, training
from components.batches import counted, prepared
from components.blocks import CompileError
from components.checkpoints import Checkpoints
from components.job import Job, batch_plan
from components.journal import Journal
from components.optimizers import learning_rate, make_optimizer
from components.outcomes import Stopped
from components.settings import settings
from components.training_schema import LearningRate, Optimizer, Training
from models.hubert.network import begin, blocks
from models.hubert.objectives import objective
from models.hubert.schema import Crops, Ctc, MaskedUnits, Network, Utterances
from models.objective import Setting
from tests.models.hubert_small import PHONEMES, SHAPE, UNITS, crops, utterances


class Groups:
    """One group of recordings a sample, of a length of its own."""

    def __init__(self, is_ctc: bool) -> None:
        self.is_ctc = is_ctc

    def __len__(self) -> int:
        return 7

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        assert len(indices) == 1, "groups differ in shape"
        number = int(indices[0])
        seed = 100 * epoch + number
        return utterances(seed) if self.is_ctc else crops(2 + number % 2, 6_400 + 320 * number, seed)


class Nothing:
    facts: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRAKU_NUM_THREADS", "1")
    monkeypatch.setenv("HIRAKU_CHECKPOINT_EVERY_SECONDS", "0")
    return tmp_path


SIZES = {"waveforms": ["a+w"], "batch_seconds": 5, "batches_per_step": 3, "min_seconds": 0.3, "max_seconds": 4}


def section(is_ctc: bool) -> Training:
    own = Ctc(kind="ctc", freeze_steps=3, channel_mask_channels=4) if is_ctc else MaskedUnits(kind="masked-units")
    return Training(
        shards=[{"shards": "a+b"}],
        num_steps=8,
        optimizer=Optimizer(learning_rate=0.01, beta2=0.98, epsilon=1e-6, weight_decay=0.01, clip_norm=10),
        learning_rate=LearningRate(kind="tri-stage", warmup_steps=2, hold_steps=2, final_share=0.05),
        objective=own,
        samples=Utterances(form="utterances", **SIZES) if is_ctc else Crops(form="crops", **SIZES),
        preview=None,
        valid_samples=2,
        validate_every_steps=4,
        log_every_steps=1,
    )


def job(part: Training, preview: Callable[[], str] = lambda: "") -> Job:
    is_ctc = part.objective.kind == "ctc"
    setting = Setting(PHONEMES if is_ctc else UNITS)

    def made() -> torch.nn.Module:
        randomness.seed_everything(part.seed)
        return begin(Network(**SHAPE, layerdrop=0.3), part.objective, setting)

    network = made()
    own = objective(part.objective, network, setting)
    return Job(part, own, made, blocks(network), Groups(is_ctc), Groups(is_ctc), Nothing(), lambda step: preview())


def run(given: Job, name: str) -> training.Trained:
    checkpoints = Checkpoints("pretrain", name, "0" * 64)
    with checkpoints.held():
        return training.train(given, checkpoints, Journal("pretrain", name))


@pytest.mark.parametrize("is_ctc", [False, True])
def test_it_trains_as_a_loop_by_hand_does_group_by_group(is_ctc: bool) -> None:
    part = section(is_ctc)
    given, loop = job(part), job(part)
    trained = run(given, "tiny")
    optimizer, own, num_items = make_optimizer(part, loop.objective.network), loop.objective, 0
    own.network.train()
    losses = []
    for step in range(part.num_steps):
        randomness.seed_step(part.seed, step, 0)
        if is_ctc:
            own.begin_step(step)  # type: ignore[attr-defined]
        epoch, indices = batch_plan(loop).indices(step)
        parts = prepared(own, [loop.train_samples.batch(indices[place : place + 1], epoch) for place in range(3)])
        items, _ = counted(own, parts)
        num_items += items
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(part, step + 1)
        optimizer.zero_grad(set_to_none=True)
        found = [own(each).total * (own.num_items(each) / items) for each in parts]
        for each in found:
            each.backward()
        losses.append(float(sum(each.detach() for each in found)))
        torch.nn.utils.clip_grad_norm_(own.network.parameters(), part.optimizer.clip_norm)
        optimizer.step()
    logged = [point["metrics"]["pretrain/loss"] for point in trained.points if "pretrain/loss" in point["metrics"]]
    assert logged == pytest.approx(losses, abs=1e-4)
    assert trained.num_items == num_items
    for name, value in own.network.state_dict().items():
        torch.testing.assert_close(given.objective.network.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("is_ctc", [False, True])
def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(is_ctc: bool) -> None:
    part = section(is_ctc)
    whole = run(job(part), "whole")
    stops = [2, 6] if is_ctc else [5]  # before and after the head alone is trained
    for stop in stops:
        given = job(part)
        _stop_after(given, stop)
        with pytest.raises(Stopped, match=f"after step {stop}"):
            run(given, "stopped")
    resumed = run(job(part), "stopped")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name

    def values(trained: training.Trained) -> list[dict[str, float]]:
        return [
            {key: value for key, value in point["metrics"].items() if "loss" in key or "accuracy" in key}
            for point in trained.points
        ]

    assert values(resumed) == values(whole)


def test_a_compilation_that_fails_after_drawing_numbers_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run(job(section(is_ctc=False)), "eager")

    def failing(*_given: Any, **_more: Any) -> None:
        torch.rand(5)
        raise CompileError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda _forward: failing)
    monkeypatch.setenv("HIRAKU_COMPILE", "on")
    settings.cache_clear()
    found = run(job(section(is_ctc=False)), "failing")
    assert "torch.compile failed, going on without it" in capsys.readouterr().err
    for name, value in expected.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name


def _stop_after(given: Job, step: int) -> None:
    """Ask for the end during a step, counted from 1 over all runs of the name `stopped`."""
    own: Any = given.objective
    files = Checkpoints("pretrain", "stopped", "0" * 64).files()
    forward, calls = own.forward, [3 * int(files[0].name.split("-")[1]) if files else 0]

    def watched(batch: Any) -> Any:
        calls[0] += own.network.training
        if calls[0] == 3 * step and own.network.training:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(batch)

    own.forward = watched


def test_a_frozen_network_keeps_its_weights_until_its_time_has_come() -> None:
    part = section(is_ctc=True)
    given = job(part)
    before = {name: value.clone() for name, value in given.objective.network.state_dict().items()}
    _stop_after(given, 3)
    with pytest.raises(Stopped, match="after step 3"):
        run(given, "stopped")
    moved = {n for n, value in given.objective.network.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"lm_head.weight", "lm_head.bias"}
    resumed = job(part)
    run(resumed, "stopped")
    network = resumed.objective.network.state_dict()
    moved = {name for name, value in network.items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if "feature_extractor" in name]
    assert len(moved) > 20
