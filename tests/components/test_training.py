"""The trainer, against loops written out by hand."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from components import randomness, training
from components.batches import BatchPlan
from components.checkpoints import Checkpoints
from components.journal import Journal
from components.optimizers import learning_rate, make_optimizer
from components.outcomes import Refused, Stopped
from components.recipes import LearningRate, Optimizer, Training
from components.settings import settings
from components.training import Job, micro_batches, train
from models.gpt.network import build
from models.gpt.objectives import NextTokenLoss
from models.gpt.schema import GPT2, NextToken, Samples
from models.objective import Loss
from tests.components.small_pretraining import Windows

FACTS = {"vocab_size": 50, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
SHAPE = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": 8}


class Spelled:
    """An encoder of one letter a token."""

    facts = FACTS

    def decode(self, ids: list[int]) -> str:
        return "a" * len(ids)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRAKU_NUM_THREADS", "1")
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def section(micro_samples: int = 4, **changes: Any) -> Training:
    values: dict[str, Any] = {
        "shards": [{"shards": "a+b"}],
        "num_steps": 6,
        "optimizer": Optimizer(learning_rate=0.01),
        "learning_rate": LearningRate(kind="cosine", warmup_steps=2),
        "objective": NextToken(kind="next-token"),
        "samples": Samples(window_tokens=8, batch_tokens=64, micro_batch_tokens=8 * micro_samples),
        "preview": None,
        "valid_samples": 6,
        "validate_every_steps": 4,
        "log_every_steps": 1,
    }
    return Training(**(values | changes))


def job(part: Training, dropout: float = 0.0, preview: Callable[[], str] = lambda: "") -> Job:
    randomness.seed_everything(part.seed)
    network = build(GPT2(architecture="gpt2", dropout=dropout, **SHAPE), FACTS)
    windows = [Windows(num_samples=20, window_tokens=8, vocab_size=50) for _ in range(2)]
    return Job(part, network, NextTokenLoss(network), windows[0], windows[1], Spelled(), preview)


def run(given: Job, name: str = "tiny") -> training.Trained:
    checkpoints = Checkpoints("pretrain", name, "0" * 64)
    with checkpoints.held():
        return train(given, checkpoints, Journal("pretrain", name))


def weights(given: Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in given.network.state_dict().items()}


def assert_equal_weights(first: Job, second: Job) -> None:
    ours, theirs = weights(first), weights(second)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def by_hand(given: Job) -> list[float]:
    """A bare loop over whole batches, with torch's own loss."""
    part, plan, losses = given.training, BatchPlan(20, 8, given.training.seed), []
    optimizer = make_optimizer(part, given.network)
    given.network.train()
    for step in range(part.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(part, step + 1)
        epoch, indices = plan.indices(step)
        ids = given.train_samples.batch(indices, epoch)["input_ids"]
        logits = given.network(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 50), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(given.network.parameters(), part.optimizer.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_it_trains_as_a_loop_by_hand_does_in_whole_batches_and_in_micro_batches() -> None:
    # The bias of the keys has no gradient but rounding, which a smaller epsilon would blow up to a whole step.
    optimizer = Optimizer(learning_rate=0.01, epsilon=1e-3)
    loop = job(section(optimizer=optimizer))
    losses = by_hand(loop)
    for micro_samples in (8, 4, 1):
        given = job(section(micro_samples, optimizer=optimizer))
        trained = run(given, f"micro-{micro_samples}")
        found = [point["metrics"]["pretrain/loss"] for point in trained.points if "pretrain/loss" in point["metrics"]]
        assert found == pytest.approx(losses, abs=1e-5)
        for name, value in weights(loop).items():
            torch.testing.assert_close(weights(given)[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_the_learning_rate_follows_its_schedule_in_optimiser_steps() -> None:
    def rates(kind: str, **changes: Any) -> list[float]:
        schedule = LearningRate(kind=kind, warmup_steps=2, final_share=0.1)
        part = section(num_steps=6, optimizer=Optimizer(learning_rate=1.0), learning_rate=schedule)
        return [learning_rate(part, step) for step in range(1, 7)]

    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * way)) for way in (0.25, 0.5, 0.75, 1)]
    assert rates("cosine") == pytest.approx([0.5, 1.0, *cosine])
    assert rates("linear") == pytest.approx([0.5, 1.0, 0.775, 0.55, 0.325, 0.1])
    assert rates("constant") == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_only_matrices_and_embeddings_decay() -> None:
    given = job(section())
    names = {parameter: name for name, parameter in given.network.named_parameters()}
    decayed, kept = make_optimizer(given.training, given.network).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {"transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"} <= {names[p] for p in decayed["params"]}
    assert all("ln_" in names[each] or names[each].endswith("bias") for each in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_validation_and_previews_change_no_bit_of_the_weights() -> None:
    def draw() -> str:
        with torch.random.fork_rng(devices=[]):
            return f"{torch.rand(1).item()}"

    often, never = section(validate_every_steps=1), section(validate_every_steps=100)
    first, second = job(often, dropout=0.2, preview=draw), job(never, dropout=0.2)
    trained = run(first, "often")
    run(second, "never")
    assert_equal_weights(first, second)
    assert len(trained.previews) == 6
    assert Path("artifacts/journals/pretrain/often/previews.md").is_file()


def test_a_stop_signal_ends_after_its_step_and_the_next_run_gets_the_same_bits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    part = section(num_steps=9)
    whole = job(part, dropout=0.2)
    expected = run(whole, "whole")

    def stop() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "stop"

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="Stopped by SIGTERM after step 4; the next run goes on"):
        run(job(part, dropout=0.2, preview=stop), "stopped")  # at the validation of step 4
    assert signal.getsignal(signal.SIGTERM) == before
    resumed = job(part, dropout=0.2)
    found = run(resumed, "stopped")
    assert "going on after step 4" in capsys.readouterr().err
    assert_equal_weights(whole, resumed)

    def losses(trained: training.Trained) -> list[Any]:
        return [(point["step"], point["metrics"].get("pretrain/loss")) for point in trained.points]

    assert losses(found) == losses(expected)
    assert found.num_items == expected.num_items == 9 * 64


def test_a_finished_training_whose_state_was_not_written_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    part = section()
    first, again = job(part), job(part)
    run(first, "same")
    again.train_samples.batch = None  # type: ignore[method-assign, assignment]
    # Nor is room asked for what will not be saved.
    monkeypatch.setattr(Checkpoints, "require_space", None)
    run(again, "same")
    assert_equal_weights(first, again)


def test_the_journal_of_a_resumed_run_repeats_no_step() -> None:
    points = run(job(section(num_steps=5)), "journal").points
    steps = [point["step"] for point in points if "pretrain/loss" in point["metrics"]]
    assert steps == [1, 2, 3, 4, 5]
    keys = {key for point in points for key in point["metrics"]}
    assert {
        "pretrain/loss", "pretrain/gradient_norm", "pretrain/learning_rate", "pretrain/tokens_per_second",
        "pretrain/tokens_seen", "pretrain/valid_loss", "pretrain/valid_bits_per_character",
        "pretrain/valid_bits_per_byte", "pretrain/peak_memory_bytes",
    } <= keys  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_with_its_step_and_leaves_the_weights(value: float) -> None:
    given = job(section())
    right, count = given.objective, [0]

    class Breaking(NextTokenLoss):
        def __call__(self, batch: dict[str, torch.Tensor]) -> Loss:
            count[0] += 1
            loss = right(batch)
            return Loss(loss.total * value) if count[0] == 6 else loss  # two micro-batches a step: step 3

    broken = Job(**{**vars(given), "objective": Breaking(given.network)})
    with pytest.raises(Refused, match=r"Step 3 \(batch number 2\) has loss (nan|inf).*optimizer.learning_rate"):
        run(broken, "broken")
    assert all(torch.isfinite(value).all() for value in weights(broken).values())


def test_too_few_samples_are_refused_before_any_step() -> None:
    given = job(section())
    few = Job(**{**vars(given), "train_samples": Windows(7, 8, 50)})
    with pytest.raises(Refused, match=r"give 7 samples to train on.*expected at least 8"):
        run(few, "few")


@pytest.mark.parametrize(("wanted", "numbers"), [(5, [0, 4, 8, 12, 16]), (6, [0, 3, 6, 10, 13, 16]), (99, range(20))])
def test_held_out_samples_are_spread_over_all_there_are(wanted: int, numbers: list[int]) -> None:
    samples = Windows(num_samples=20, window_tokens=8, vocab_size=50)
    batches = list(training.valid_batches(section(valid_samples=wanted), samples))
    assert [len(batch["input_ids"]) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    found = torch.cat([batch["input_ids"] for batch in batches])
    assert torch.equal(found, samples.batch(list(numbers), 0)["input_ids"])


def test_micro_batches_cover_a_batch_in_order() -> None:
    batch = {"input_ids": torch.arange(10).reshape(5, 2), "weights": torch.arange(5)}
    parts = list(micro_batches(batch, 2))
    assert [len(part["weights"]) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part["input_ids"] for part in parts]), batch["input_ids"])


def test_bf16_on_a_cpu_without_it_is_named_as_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "bf16_instructions", list)
    monkeypatch.setenv("HIRAKU_ACCELERATOR", "cpu")
    settings.cache_clear()
    run(job(section(num_steps=1, precision="bf16")), "slow")
    assert "more than ten times slower than fp32 on this CPU" in capsys.readouterr().err


def test_generators_come_back_to_where_they_were() -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        return [torch.rand(1).item(), np.random.rand(), random.random(), np.random.randn()]

    randomness.seed_everything(5)
    np.random.randn()  # leaves half a pair behind, which is state too
    states = randomness.capture()
    first = draw()
    assert draw() != first
    randomness.restore(states)
    assert draw() == first
