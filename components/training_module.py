"""An objective under Lightning, resumed bit for bit from wherever it was killed.

One batch is one optimiser step: `training_step` cuts it into micro-batches itself. So a checkpoint never falls between
micro-batches, and the loss is the mean over the whole batch. Learning rates are a function of the step, random numbers
one of (seed, step, rank), the order of samples one of (seed, epoch, position); with weights, moments and the number of
the next batch in the checkpoint nothing else needs to be remembered. Checkpoints hold whole tensors, so any number of
ranks goes on from those of any other.

A step reads no number back from its device. What it left is looked at when something is to be logged, measured or
saved; if a loss turns out bad, the training goes back to the last good checkpoint and leaves that batch out.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from components import randomness, ranks
from components.batches import Batch, Feed, counted, micro_batches, prepared, valid_batches
from components.blocks import Compiled, CompileError
from components.checkpoints import Checkpoints, kept_in_words
from components.guard import Guard, listed
from components.job import Job, batch_plan
from components.journal import Journal
from components.meters import Clock, peak_flops, peak_memory
from components.optimizers import Ema, learning_rate, make_optimizer
from components.outcomes import Refused
from components.profiling import Profiler
from components.progress import Progress
from components.rounds import begin_step, play_round
from components.settings import settings
from components.stopping import StopSignal
from components.strategies import accumulating, clip_gradients, is_sharded, load_optimizer, load_weights, shard, whole
from models.objective import Loss


class TrainingModule(pl.LightningModule):
    """Optimiser steps, and at their ends points, validation and checkpoints."""

    def __init__(
        self, job: Job, checkpoints: Checkpoints, found: tuple[int, dict[str, Any]] | None, journal: Journal,
        progress: Progress,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.objective = job.objective
        self.job, self.section = job, job.training
        self.checkpoints, self.found, self.journal, self.progress = checkpoints, found, journal, progress
        self.step = self.first_step = found[0] if found else 0
        self.num_items, self.previews = 0, list[str]()
        self.guard, self.stop = Guard(self.section.guard), StopSignal()
        self.pending: list[tuple[int, dict[str, Tensor], Tensor]] = []
        self.good_step, self.went_back_to = self.step, -1
        self.units = Counter[str]()
        for batch in valid_batches(job.training, job.valid_samples):
            self.units.update(job.objective.units(batch, job.encoder))
        self.profiler = Profiler(journal)

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self.objective.network

    # ---- state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that decides how the training goes on, whole; of several ranks, all must ask for it."""
        return {
            "weights": whole(self.network.state_dict()),
            "optimizer": whole(self._optimizer().state_dict()),
            "average": whole(self.ema.averages) if self.ema else {},
            "guard": self.guard.state(),
            "next_batch": self.next_batch,
            "num_items": self.num_items,
            "points": self.journal.points,
            "previews": self.previews,
            "objective": self.objective.state() if hasattr(self.objective, "state") else {},
        }

    def restore(self, step: int, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step, self.num_items, self.previews = step, state["num_items"], list(state["previews"])
        load_weights(self.network.state_dict(), state["weights"])
        load_optimizer(self._optimizer(), state["optimizer"])
        if self.ema:
            load_weights(self.ema.averages, state["average"])
        self.guard.restore(state["guard"])
        self._restore_objective(state["objective"])
        self.journal.rewrite(state["points"])
        self._go_on_from(state["next_batch"])

    def begin_again(self) -> None:
        """Go back to step 0, when there is no checkpoint."""
        self.step, self.num_items, self.previews = 0, 0, []
        load_weights(self.network.state_dict(), self.job.build().state_dict())
        self._optimizer().state.clear()
        self._begin_average()
        self.guard.restore({"losses": [], "skipped": []})
        self._restore_objective({})
        self.journal.rewrite([])
        self._go_on_from(0)
        self._preview_start()

    def _restore_objective(self, state: dict[str, Any]) -> None:
        if hasattr(self.objective, "restore"):
            self.objective.restore(state)

    def _begin_average(self) -> None:
        decay = self.section.ema_decay
        self.ema = Ema(self.network, decay) if decay else None

    def _go_on_from(self, number: int) -> None:
        self.next_batch = number
        self.feed.go_to(number, self.guard.skipped)
        self.pending = []
        self._measure_from_here()

    def save(self) -> None:
        """Write a checkpoint of what is now."""
        state = self.state()
        if ranks.is_main():
            self.checkpoints.save(self.step, state)
            if self.step == self.section.num_steps:
                self.last = self.step, state
        self.saved_at, self.good_step = time.monotonic(), self.step

    def _require_one_checkpoint(self, found: tuple[int, dict[str, Any]] | None) -> None:
        """Let no rank go on from another step than the others.

        Raises:
            Refused: they have found different checkpoints.
        """
        steps = [int(step) for step in ranks.values(float(found[0] if found else 0))]
        if len(set(steps)) > 1:
            raise Refused(
                f"The ranks found checkpoints of the steps {', '.join(map(str, steps))}, expected one and the same. "
                "Set HIRAKU_CHECKPOINT_ROOT to one folder for all of them, on a disk that all machines share."
            )

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)  # noqa: S101 - one is configured
        return optimizer.optimizer

    # ---- Lightning's hooks -------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Split the network where the strategy wants it."""
        if self.section.strategy == "fsdp2" and ranks.num_ranks() > 1 and not is_sharded(self.objective):
            shard(self.objective, self.job.blocks, self.device_mesh, self.section.precision)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, whose rate each step sets."""
        return make_optimizer(self.section, self.network)

    def on_train_start(self) -> None:
        """Take up the checkpoint. From here on a signal waits for the end of its step."""
        self.stop.install()
        num_workers, on_gpu = settings().num_workers, self.device.type == "cuda"
        self.feed = Feed(self.job.train_samples, batch_plan(self.job), num_workers, on_gpu)
        self.clock = Clock(self.device)
        self.peak = peak_flops(self.device, self.section.precision)
        self.saved_at = time.monotonic()
        self._begin_average()
        self._require_one_checkpoint(self.found)
        if self.found:
            self.restore(*self.found)
            self.found = None
        else:
            self._go_on_from(0)
            self._preview_start()
        self.compiled = Compiled(self.job.blocks, self.device)
        self.network.train()

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """One step on the next batch; Lightning's own is a turn of its loop only."""
        self.clock.mark("data")
        begin_step(self.objective, self.section.seed, self.step)
        number, ours = self.feed.next()
        if hasattr(self.objective, "collect"):
            ours = self.trainer.strategy.batch_to_device(ours)
            size = self.section.samples.micro_batch_samples
            sums, norm = play_round(self.objective, ours, size, self._step_on, self.checkpoints)
        else:
            sums, norm = self._step_on(ours)
        self.pending.append((number, sums, norm))
        self.next_batch = number + 1
        self.step += 1

    def _step_on(self, ours: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """One optimiser update over all micro-batches of a batch: the means of loss and parts, the gradient's norm."""
        self.clock.mark("")
        parts = prepared(self.objective, micro_batches(ours, self.section.samples.micro_batch_samples))
        num_items, num_flops = map(int, ranks.add_up([float(each) for each in counted(self.objective, parts)]))
        self.clock.mark("data")
        sums: dict[str, Tensor] = {}
        for place, part in enumerate(parts, start=1):
            share = self.objective.num_items(part) / num_items
            part = self.trainer.strategy.batch_to_device(part)
            self.clock.mark("forward")
            with accumulating(self.trainer.strategy, self.objective, place == len(parts)):
                loss = self._forward(part)
                self.clock.mark("backward")
                # Ranks average their gradients, and each has only its share of the items.
                self.manual_backward(loss.total * (share * ranks.num_ranks()))
            self.clock.mark("data")
            for key, value in {"loss": loss.total.detach(), **loss.parts}.items():
                sums[key] = sums.get(key, 0.0) + value * share
        self.clock.mark("optimizer")
        norm = self._update()
        self.clock.mark("")
        self.num_items += num_items
        self.items_since_log += num_items
        self.flops_since_log += num_flops
        return sums, norm

    def _forward(self, part: dict[str, Tensor]) -> Loss:
        """The loss of a micro-batch; compiled code that cannot be made is done without."""
        if not self.compiled.is_on:
            return self.objective(part)
        before = randomness.states(self.device)
        try:
            return self.objective(part)
        except CompileError as error:
            self.progress.say(f"torch.compile failed, going on without it: {str(error).splitlines()[0]}")
            self.compiled.undo()
            randomness.restore(self.device, before)  # the attempt has drawn numbers
            return self.objective(part)

    def _update(self) -> Tensor:
        optimizer = self._optimizer()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.section, self.step + 1)
        norm = clip_gradients(self.network, self.section.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.step)
        return norm

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Log, validate, save and stop, whatever is due, if the steps since the last look were good."""
        section, is_last = self.section, self.step == self.section.num_steps
        self.profiler.step(self.step - self.first_step)
        is_logging = self.step % section.log_every_steps == 0 or self.step == 1 or is_last
        is_validating = self.step % section.validate_every_steps == 0 or is_last
        # The answers that a round begins with, of a policy that a bad step broke, would end the training for good.
        if (is_logging or is_validating or hasattr(self.objective, "collect")) and not self._settle():
            return
        if is_logging:
            self._log()
        if is_validating:
            with self._paused():
                self._validate()
        is_due = ranks.is_main() and time.monotonic() - self.saved_at >= settings().checkpoint_every_seconds
        is_due, is_stopping = map(bool, ranks.add_up([float(is_due), float(self.stop.received)]))
        if is_due or is_stopping or is_last:
            if not self._settle():
                return
            with self._paused():
                self.save()
        if is_last or is_stopping:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Give the signals back."""
        self.stop.uninstall()
        self.profiler.finish()

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Keep the block's time out of the speed, which is that of training alone."""
        began = time.monotonic()
        yield
        self.logged_at += time.monotonic() - began

    # ---- the end of a step -------------------------------------------------------------------------------------------

    def _settle(self) -> bool:
        """Look at the steps since the last look; False if one was bad, and the training has gone back."""
        keys = list(self.pending[0][1]) if self.pending else []
        rows = [torch.stack([sums[key].float() for key in keys] + [norm.float()]) for _, sums, norm in self.pending]
        found = torch.stack(rows).tolist() if rows else []
        totals = ranks.add_up([value for row in found for value in row[:-1]])
        for place, (number, _, _) in enumerate(self.pending):
            values = dict(zip(keys, totals[place * len(keys) :], strict=False))
            fault = self.guard.fault(values["loss"], found[place][-1])
            if fault:
                self._go_back(self.step - len(self.pending) + place + 1, number, fault)
                return False
            self.values = values | {"gradient_norm": found[place][-1]}
        self.pending = []
        return True

    def _go_back(self, step: int, number: int, fault: str) -> None:
        """Leave out a batch, and go on from the last good checkpoint.

        Raises:
            Refused: there are more bad batches than the recipe allows.
        """
        what = f"step {step:,} (batch number {number}) has {fault}"
        is_allowed = self.guard.skip(number)
        self.profiler.finish()
        if self.went_back_to == self.good_step and ranks.is_main():
            # Two bad batches after one checkpoint: it may have been saved after the step that did the harm.
            self.checkpoints.set_newest_aside()
        ranks.add_up([0.0])  # until then the others wait
        found = self.checkpoints.load()
        self._require_one_checkpoint(found)
        self.went_back_to = self.good_step = found[0] if found else 0
        if not is_allowed:
            raise Refused(
                f"{what}. That is one more than guard.max_skipped_batches, {self.section.guard.max_skipped_batches}, "
                f"allows: batches {listed(self.guard.skipped)} were bad. Lower optimizer.learning_rate or lengthen "
                f"learning_rate.warmup_steps; with precision bf16, try fp32. Run: hiraku batch {self.checkpoints.name} "
                f"{number} to see it. " + kept_in_words(found)
            )
        if found:
            self.restore(*found)
        else:
            self.begin_again()
        self.progress.say(f"{what}: back to step {self.step:,}, and on without that batch")

    def _measure_from_here(self) -> None:
        self.clock.split()
        self.logged_at, self.items_since_log, self.flops_since_log, self.logged_step = time.monotonic(), 0, 0, self.step

    def _log(self) -> None:
        item, seconds = self.objective.item, time.monotonic() - self.logged_at
        num_steps = max(1, self.step - self.logged_step)
        speed, flops = self.items_since_log / seconds, self.flops_since_log / seconds
        rate = learning_rate(self.section, self.step)
        self.values |= {"learning_rate": rate, f"{item}_per_second": speed, f"{item}_seen": self.num_items}
        self.values |= {f"{part}_seconds": value / num_steps for part, value in self.clock.split().items()}
        # Those that lie behind: how far the training went back does not show in the curve.
        num_skipped = sum(number < self.next_batch for number in self.guard.skipped)
        self.values |= peak_memory() | {"flops_per_second": flops, "skipped_batches": num_skipped}
        told = f"loss {self.values['loss']:.4f}  lr {rate:.2e}  {speed:,.0f} {item}/s"
        if self.peak:
            utilisation = flops / (self.peak * ranks.num_ranks())
            self.values["utilisation_share"] = utilisation
            told += f"  {utilisation:.0%} of peak"
        self.journal.metrics(self.step, **self.values)
        self.progress.update(self.step, told)
        self._measure_from_here()

    def _validate(self) -> None:
        """Measure the held-out loss and continue the preview's texts; no weight is moved by it."""
        self.network.eval()
        with self.ema.in_place() if self.ema else nullcontext():
            found = self._held_out()
            measures = {**found, **self.objective.measures(found["loss"], self.units)}
            self._keep_preview(self._preview())
        self.network.train()
        seen = {f"{self.objective.item}_seen": self.num_items}  # so that this curve too can be drawn over them
        self.journal.metrics(self.step, **{f"valid_{key}": value for key, value in measures.items()}, **seen)
        told = "  ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in measures.items())
        self.progress.say(f"step {self.step:,}: valid {told}")

    def _preview(self) -> str:
        """What the network says now; of a network in shares no rank alone can draw."""
        return self.job.preview(self.step) if ranks.is_main() and not is_sharded(self.objective) else ""

    def _preview_start(self) -> None:
        """Keep what a network that others have trained says before its first step, to be compared with the last."""
        if self.job.starts_trained:
            self._keep_preview(self._preview())

    def _keep_preview(self, text: str) -> None:
        if text:
            self.previews.append(f"## Step {self.step:,}\n\n{text}\n")
            self.journal.note("previews.md", "\n".join(reversed(self.previews)))

    def _held_out(self) -> dict[str, float]:
        """Loss and parts, means over the held-out samples; each rank takes its share of them."""
        totals, num_items = dict[str, float](), 0
        batches = prepared(self.objective, valid_batches(self.section, self.job.valid_samples))
        rounds = -(-len(batches) // ranks.num_ranks())
        context: AbstractContextManager[Any] = self.trainer.precision_plugin.val_step_context()
        with torch.no_grad(), context:
            for place in range(rounds):
                turn = place * ranks.num_ranks() + ranks.rank()
                # A rank without a batch goes along: a network in shares needs them all.
                batch = batches[min(turn, len(batches) - 1)]
                items = self.objective.num_items(batch) if turn < len(batches) else 0
                loss = self.objective(self.trainer.strategy.batch_to_device(batch))
                for key, value in {"loss": loss.total, **loss.parts}.items():
                    totals[key] = totals.get(key, 0.0) + float(value) * items
                num_items += items
        if is_sharded(self.objective):
            # Without gradients the root stays gathered, and the next step would compute with these weights.
            self.objective.reshard()  # type: ignore[attr-defined]
        *sums, count = ranks.add_up([*totals.values(), float(num_items)])
        return {key: value / count for key, value in zip(totals, sums, strict=True)}
