"""The trainer, against loops written out by hand."""

import gzip
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel

from components import randomness, training
from components.batches import BatchPlan, micro_batches, valid_batches
from components.checkpoints import Checkpoints
from components.guard import Guard
from components.job import Job, batch_plan
from components.journal import Journal
from components.optimizers import average_decay, learning_rate, make_optimizer
from components.outcomes import Refused, Stopped
from components.settings import settings
from components.training import train
from components.training_schema import Guard as GuardSection
from components.training_schema import LearningRate, Optimizer, Training
from models.gpt.network import blocks, build
from models.gpt.objectives import NextTokenLoss
from models.gpt.schema import GPT2, NextToken, Samples
from models.objective import Collapsed, Loss
from tests.components.small_pretraining import Windows

FACTS = {"vocab_size": 50, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
SHAPE = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": 8}


class Spelled:
    """An encoder of one letter a token."""

    facts = FACTS

    def decode(self, ids: list[int]) -> str:
        return "a" * len(ids)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRAKU_NUM_THREADS", "1")
    return tmp_path


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
    def made() -> torch.nn.Module:
        randomness.seed_everything(part.seed)
        return build(GPT2(architecture="gpt2", dropout=dropout, **SHAPE), FACTS)

    network = made()
    windows = [Windows(num_samples=20, window_tokens=8, vocab_size=50) for _ in range(2)]
    return Job(
        part, NextTokenLoss(network), made, blocks(network), windows[0], windows[1], Spelled(), lambda step: preview()
    )


def run(given: Job, name: str = "tiny") -> training.Trained:
    checkpoints = Checkpoints("pretrain", name, "0" * 64)
    with checkpoints.held():
        return train(given, checkpoints, Journal("pretrain", name))


def weights(given: Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in given.objective.network.state_dict().items()}


def assert_equal_weights(first: Job, second: Job) -> None:
    ours, theirs = weights(first), weights(second)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def by_hand(given: Job) -> list[float]:
    """A bare loop over whole batches, with torch's own loss."""
    part, plan, losses = given.training, BatchPlan(20, 8, given.training.seed), []
    optimizer = make_optimizer(part, given.objective.network)
    given.objective.network.train()
    for step in range(part.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(part, step + 1)
        epoch, indices = plan.indices(step)
        ids = given.train_samples.batch(indices, epoch)["input_ids"]
        logits = given.objective.network(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 50), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(given.objective.network.parameters(), part.optimizer.clip_norm)
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
        schedule = LearningRate(kind=kind, warmup_steps=2, **changes)
        part = section(num_steps=6, optimizer=Optimizer(learning_rate=1.0), learning_rate=schedule)
        return [learning_rate(part, step) for step in range(1, 7)]

    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * way)) for way in (0.25, 0.5, 0.75, 1)]
    assert rates("cosine") == pytest.approx([0.5, 1.0, *cosine])
    assert rates("linear") == pytest.approx([0.5, 1.0, 0.775, 0.55, 0.325, 0.1])
    assert rates("constant") == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert rates("wsd", decay_steps=2, final_share=0.2) == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.6, 0.2])
    # Up from 0.01, level for a step, and down by the same factor in each of three steps.
    stages = rates("tri-stage", hold_steps=1, final_share=0.008)
    assert stages == pytest.approx([0.505, 1.0, 1.0, 0.2, 0.04, 0.008])
    assert rates("tri-stage", initial_share=0.5, final_share=0.0625) == pytest.approx(
        [0.75, 1.0, 0.5, 0.25, 0.125, 0.0625]
    )


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"kind": "wsd"}, "'decay_steps' belongs to kind 'wsd', which needs it"),
        ({"kind": "cosine", "decay_steps": 5}, "'decay_steps' belongs to kind 'wsd'"),
        ({"kind": "cosine", "hold_steps": 5}, "'hold_steps' belongs to kind 'tri-stage'"),
        ({"kind": "tri-stage", "final_share": 0.0}, "'final_share' is 0, which no exponential reaches"),
        ({"kind": "constant", "final_share": 0.1}, "'final_share' does nothing with kind 'constant'"),
    ],
)
def test_a_schedule_with_a_key_that_would_do_nothing_is_refused(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LearningRate(**section)


def test_only_matrices_and_embeddings_decay() -> None:
    given = job(section())
    names = {parameter: name for name, parameter in given.objective.network.named_parameters()}
    decayed, kept = make_optimizer(given.training, given.objective.network).param_groups
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
        "pretrain/valid_bits_per_byte", "pretrain/peak_memory_bytes", "pretrain/utilisation_share",
    } <= keys  # fmt: skip


# ---- the guard -------------------------------------------------------------------------------------------------------


def breaking(given: Job, bad: dict[int, float]) -> Job:
    """A job whose loss is multiplied in the batches of these numbers, recognised by their content."""
    right, part, plan = given.objective.forward, given.training, batch_plan(given)
    firsts = {}
    for number, factor in bad.items():
        epoch, indices = plan.indices(number)
        firsts[tuple(given.train_samples.batch(indices, epoch)["input_ids"][0].tolist())] = factor

    def broken(batch: dict[str, torch.Tensor]) -> Loss:
        loss = right(batch)
        factor = firsts.get(tuple(batch["input_ids"][0].tolist()), 1.0)
        return Loss(loss.total * factor)

    assert part.samples.micro_batch_samples == part.samples.batch_samples
    given.objective.forward = broken
    return given


@pytest.mark.parametrize("every_seconds", ["0", "1000"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_that_breaks_the_loss_is_left_out_and_the_rest_is_trained_as_if_it_had_never_been(
    value: float, every_seconds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_EVERY_SECONDS", every_seconds)
    part = section(8, num_steps=9, log_every_steps=2)
    given = breaking(job(part, dropout=0.2), {4: value})
    trained = run(given, f"broken-{value}-{every_seconds}")
    assert trained.skipped == [4]
    saved = 4 if every_seconds == "0" else 0
    assert f"step 5 (batch number 4) has loss {value}: back to step {saved}" in capsys.readouterr().err
    logged = [point for point in trained.points if "pretrain/loss" in point["metrics"]]
    counts = {point["step"]: point["metrics"]["pretrain/skipped_batches"] for point in logged}
    assert counts == {1: 0, 2: 0, 4: 0, 6: 1, 8: 1, 9: 1}
    assert trained.num_items == 9 * 64
    # The same by hand: batches 0 to 9 without number 4, the generators of steps 0 to 8.
    loop = job(part, dropout=0.2)
    optimizer = make_optimizer(part, loop.objective.network)
    loop.objective.network.train()
    for step, number in enumerate([0, 1, 2, 3, 5, 6, 7, 8, 9]):
        randomness.seed_step(part.seed, step, 0)
        epoch, indices = batch_plan(loop).indices(number)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(part, step + 1)
        optimizer.zero_grad()
        loop.objective(loop.train_samples.batch(indices, epoch)).total.backward()
        torch.nn.utils.clip_grad_norm_(loop.objective.network.parameters(), part.optimizer.clip_norm)
        optimizer.step()
    for name, weight in weights(loop).items():
        torch.testing.assert_close(weights(given)[name], weight, rtol=0, atol=0, msg=name)


class Rounds(NextTokenLoss):
    """An objective whose data, made from its own batch, are beyond help once a weight is no number."""

    def collect(self, batch: dict[str, torch.Tensor], _part_samples: int) -> dict[str, torch.Tensor]:
        if not all(bool(each.isfinite().all()) for each in self.network.parameters()):
            raise Collapsed("nothing but one token.")
        return batch

    def updates(self, batch: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        yield batch

    def is_far(self, _sums: dict[str, torch.Tensor]) -> bool:
        return False

    def end_round(self) -> dict[str, float]:
        return {}


def test_a_bad_step_is_left_out_before_the_next_round_makes_its_data() -> None:
    part = section(8, num_steps=6, log_every_steps=100, validate_every_steps=100)
    plain = job(part)
    given = breaking(replace(plain, objective=Rounds(plain.objective.network)), {3: math.nan})
    trained = run(given, "rounds")
    assert trained.skipped == [3]
    assert all(bool(each.isfinite().all()) for each in weights(given).values())


def test_a_spike_is_left_out_and_a_run_stopped_after_it_ends_with_the_same_bits() -> None:
    part = section(8, num_steps=12, guard={"spike_ratio": 2.0, "window_steps": 3, "max_skipped_batches": 1})
    whole = breaking(job(part), {6: 2.5})
    trained = run(whole, "spike")
    assert trained.skipped == [6]

    def stop() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return ""

    with pytest.raises(Stopped, match="after step 8"):
        run(breaking(job(part, preview=counted(stop, 3)), {6: 2.5}), "spike-stopped")
    resumed = breaking(job(part), {6: 2.5})
    assert run(resumed, "spike-stopped").skipped == [6]
    assert_equal_weights(whole, resumed)


def counted(action: Callable[[], str], number: int) -> Callable[[], str]:
    """An action that is taken at its call of this number only."""
    calls = [0]

    def wrapped() -> str:
        calls[0] += 1
        return action() if calls[0] == number else ""

    return wrapped


def test_more_bad_batches_than_allowed_are_refused_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_EVERY_SECONDS", "0")
    part = section(8, num_steps=9, guard={"max_skipped_batches": 1})
    with pytest.raises(
        Refused,
        match=r"step 5 \(batch number 5\) has loss nan.*one more than guard.max_skipped_batches, 1, allows: batches 2, "
        r"5 were bad.*optimizer.learning_rate.*hiraku batch refused 5.*The checkpoint of step 4 is kept",
    ):
        run(breaking(job(part), {2: math.nan, 5: math.nan}), "refused")


def test_no_spike_is_seen_before_the_window_is_full_or_where_the_recipe_wants_none() -> None:
    early, never = Guard(GuardSection(window_steps=3)), Guard(GuardSection(window_steps=3, spike_ratio=None))
    assert [early.fault(loss, 1.0) for loss in (1.0, 9.0, 2.0)] == ["", "", ""]
    assert early.fault(7.9, 1.0) == ""
    assert early.fault(13.0, 1.0) == "loss 13.0000, 2.1 times the mean of the 3 steps before"
    assert [never.fault(loss, 1.0) for loss in (1.0, 1.0, 1.0, 50.0)] == [""] * 4
    assert never.fault(1.0, math.inf) == "gradient norm inf"


# ---- averages, memory, figures ---------------------------------------------------------------------------------------


def test_the_average_of_the_weights_is_the_one_of_the_formula_and_is_what_is_released() -> None:
    part, decay = section(8, num_steps=3), 0.2  # which the rising decay reaches at the third step
    steps = []
    for num_steps in (1, 2, 3):
        given = job(section(8, num_steps=num_steps, learning_rate=LearningRate(kind="constant")))
        run(given, f"plain-{num_steps}")
        steps.append(weights(given))
    first = weights(job(part))
    theirs = EMAModel([torch.nn.Parameter(each) for each in first.values()], decay=decay)
    for each in steps:
        theirs.step([torch.nn.Parameter(each[name]) for name in first])
    expected = dict(zip(first, theirs.shadow_params, strict=True))
    averaged = job(section(8, num_steps=3, learning_rate=LearningRate(kind="constant"), ema_decay=decay))
    trained = run(averaged, "averaged")
    for name, value in trained.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    # Again from the finished checkpoint, whose plain weights are others.
    again = run(job(section(8, num_steps=3, learning_rate=LearningRate(kind="constant"), ema_decay=decay)), "averaged")
    assert all(torch.equal(again.network.state_dict()[name], value) for name, value in weights(averaged).items())


def test_an_average_remembers_as_much_as_that_of_diffusers_at_every_step() -> None:
    theirs = EMAModel([torch.nn.Parameter(torch.zeros(1))], decay=0.9999)
    ours = [average_decay(0.9999, step) for step in range(0, 200_000, 37)]
    assert ours == [theirs.get_decay(step + 1) for step in range(0, 200_000, 37)]
    assert ours[0] == 0
    assert ours[-1] == 0.9999


def test_activations_that_are_computed_again_change_no_bit() -> None:
    kept, again = job(section(), dropout=0.2), job(section(activation_checkpointing=True), dropout=0.2)
    run(kept, "kept")
    run(again, "again")
    assert_equal_weights(kept, again)


def test_blocks_that_cannot_be_compiled_are_computed_in_eager(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIRAKU_COMPILE", "on")
    monkeypatch.setenv("CXX", "/no/such/compiler")
    torch._dynamo.reset()
    with torch._inductor.config.patch("cpp.cxx", ("/no/such/compiler",)):
        given, eager = job(section()), job(section())
        run(given, "compiled")
    monkeypatch.setenv("HIRAKU_COMPILE", "off")
    settings.cache_clear()
    run(eager, "eager")
    assert "torch.compile failed, going on without it" in capsys.readouterr().err
    assert_equal_weights(given, eager)


@pytest.mark.parametrize("step", [1, 4])
def test_memory_that_runs_out_is_explained_and_the_checkpoint_is_kept(step: int) -> None:
    part = section(8)
    given, right, calls = job(part), None, [0]
    right = given.objective.forward

    def greedy(batch: dict[str, torch.Tensor]) -> Loss:
        calls[0] += 1
        if calls[0] == step:
            torch.empty(1 << 50, dtype=torch.uint8)  # a pebibyte: torch's own allocator says no
        return right(batch)

    given.objective.forward = greedy
    kind, words = (Refused, "not enough memory for one step") if step == 1 else (MemoryError, "Memory ran out")
    with pytest.raises(kind, match=rf"{words}.*micro_batch_tokens.*activation_checkpointing.*fsdp2"):
        run(given, f"greedy-{step}")
    again = job(part)
    assert run(again, f"greedy-{step}").num_steps == 6


def test_a_profile_on_demand_stands_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRAKU_PROFILE_STEPS", "2")
    run(job(section()), "profiled")
    folder = Path("artifacts/journals/pretrain/profiled")
    assert "aten::addmm" in (folder / "profile.txt").read_text()
    with gzip.open(folder / "trace.json.gz") as trace:
        names = {event.get("name") for event in json.load(trace)["traceEvents"]}
    assert "ProfilerStep#0" not in names
    assert "aten::addmm" in names


def test_the_time_of_a_step_is_split_and_its_flops_are_those_of_the_objective() -> None:
    given = job(section(log_every_steps=3))
    points = run(given, "split").points
    metrics = next(point["metrics"] for point in points if point["step"] == 6 and "pretrain/loss" in point["metrics"])
    parts = [metrics[f"pretrain/{part}_seconds"] for part in ("data", "forward", "backward", "optimizer")]
    assert all(part > 0 for part in parts)
    speed = metrics["pretrain/tokens_per_second"]
    assert sum(parts) <= 64 / speed * 1.05
    flops = given.objective.num_flops(given.train_samples.batch([0], 0)) / 8
    assert metrics["pretrain/flops_per_second"] == pytest.approx(speed * flops, rel=1e-6)
    assert 0 < metrics["pretrain/utilisation_share"] < 1


def test_too_few_samples_are_refused_before_any_step() -> None:
    given = job(section())
    few = Job(**{**vars(given), "train_samples": Windows(7, 8, 50)})
    with pytest.raises(Refused, match=r"give 7 samples to train on.*expected at least 8"):
        run(few, "few")


@pytest.mark.parametrize(("wanted", "numbers"), [(5, [0, 4, 8, 12, 16]), (6, [0, 3, 6, 10, 13, 16]), (99, range(20))])
def test_held_out_samples_are_spread_over_all_there_are(wanted: int, numbers: list[int]) -> None:
    samples = Windows(num_samples=20, window_tokens=8, vocab_size=50)
    batches = list(valid_batches(section(valid_samples=wanted), samples))
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
    run(job(section(num_steps=1, precision="bf16")), "slow")
    assert "more than ten times slower than fp32 on this CPU" in capsys.readouterr().err


def test_a_step_draws_the_same_numbers_whenever_it_comes_and_other_ones_than_every_other() -> None:
    import random

    import numpy as np

    def draw(*place: int) -> list[float]:
        randomness.seed_step(*place)
        return [torch.rand(1).item(), np.random.rand(), random.random(), np.random.randn()]

    first = draw(5, 7, 0)
    assert draw(5, 7, 0) == first
    for other in ((6, 7, 0), (5, 8, 0), (5, 7, 1)):
        assert not set(draw(*other)) & set(first)
