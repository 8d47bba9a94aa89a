"""The trainer of every family: Lightning around an objective, resumed bit for bit from wherever it was killed.

One batch of Lightning is one optimiser step: `training_step` cuts it into micro-batches itself. So the number of steps
done is the global batch number, a checkpoint never falls between micro-batches, and the loss is the mean over the whole
batch. Learning rates are a function of the step, the order of samples one of (seed, epoch, position); with weights,
optimiser and generators in the checkpoint nothing else needs to be remembered.

It needs torch, lightning, numpy and the files beside it, so it runs on a bare GPU machine.
"""

import logging
import math
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from components import randomness
from components.batches import BatchPlan, batch_loader
from components.checkpoints import Checkpoints
from components.devices import bf16_instructions, set_threads, uses_gpu
from components.journal import Journal
from components.modalities import Samples
from components.optimizers import learning_rate, make_optimizer
from components.outcomes import Refused, Stopped
from components.progress import Progress
from components.settings import settings
from components.stopping import StopSignal
from models.objective import Objective

CHECKPOINT_BYTES = 12
"""Bytes of a checkpoint for each parameter: the weight itself and AdamW's two moments, all in fp32."""


@dataclass(frozen=True)
class Job:
    """What is to be trained."""

    training: Any
    """The recipe's section, a `components.recipes.Training`."""
    network: nn.Module
    """On the CPU, with its initial weights; trained in place."""
    objective: Objective
    train_samples: Samples
    valid_samples: Samples
    encoder: Any
    """What made the samples, a `components.modalities.Encoder`."""
    preview: Callable[[], str]
    """Markdown for a person who wonders how the network is doing; empty if there is nothing to show."""


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves besides the weights."""

    num_steps: int
    num_items: int
    points: list[dict[str, Any]]
    """The journal's points from the first step on, over all runs."""
    previews: list[str]


def micro_batches(batch: dict[str, Tensor], num_samples: int) -> Iterator[dict[str, Tensor]]:
    """A batch in parts of so many samples, the last one with what is left."""
    total = len(next(iter(batch.values())))
    for start in range(0, total, num_samples):
        yield {key: value[start : start + num_samples] for key, value in batch.items()}


def valid_batches(training: Any, samples: Samples) -> Iterator[dict[str, Tensor]]:
    """The held-out samples of every validation, the same ones each time, as micro-batches.

    Spread evenly over all there are, so that each part of a mixture has its share.
    """
    size, count = training.samples.micro_batch_samples, min(training.valid_samples, len(samples))
    numbers = np.arange(count) * len(samples) // count
    for start in range(0, count, size):
        yield samples.batch(numbers[start : start + size], 0)


class TrainingModule(pl.LightningModule):
    """An objective under Lightning: optimiser steps, and at their ends points, validation and checkpoints."""

    def __init__(self, job: Job, checkpoints: Checkpoints, journal: Journal, progress: Progress) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = job.network
        self.job, self.training_section = job, job.training
        self.checkpoints, self.journal, self.progress = checkpoints, journal, progress
        self.step, self.num_items, self.previews = 0, 0, list[str]()
        self.generators: dict[str, Any] | None = None
        self.optimizer_state: dict[str, Any] | None = None
        self.units = Counter[str]()
        for batch in valid_batches(job.training, job.valid_samples):
            self.units.update(job.objective.units(batch, job.encoder))
        self.stop = StopSignal()
        self.values: dict[str, float] = {}

    # ---- state -------------------------------------------------------------------------------------------------------

    def resume(self, step: int, state: dict[str, Any]) -> None:
        """Take up a checkpoint's state; call before `fit`."""
        self.step, self.num_items, self.previews = step, state["num_items"], state["previews"]
        self.network.load_state_dict(state["weights"])
        self.optimizer_state, self.generators = state["optimizer"], state["generators"]
        self.journal.rewrite(state["points"])

    def save(self) -> None:
        """Write a checkpoint of what is now."""
        self.checkpoints.save(
            self.step,
            {
                "weights": self.network.state_dict(),
                "optimizer": self._optimizer().state_dict(),
                "generators": randomness.capture(),
                "num_items": self.num_items,
                "points": self.journal.points,
                "previews": self.previews,
            },
        )
        self.saved_at = time.monotonic()

    def _optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)  # noqa: S101 - one is configured
        return optimizer

    # ---- Lightning's hooks -------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, with the checkpoint's moments when there is one."""
        optimizer = make_optimizer(self.training_section, self.network)
        if self.optimizer_state is not None:
            optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        return optimizer

    def on_train_start(self) -> None:
        """From here on a signal waits for the end of its step; Lightning's own handlers would end within one."""
        self.stop.install()
        self.saved_at = self.logged_at = time.monotonic()
        self.items_since_log = 0
        self.network.train()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Put the generators in place at the first batch: starting the loader has drawn from them."""
        if self.generators is not None:
            randomness.restore(self.generators)
            self.generators = None
        elif self.step == 0:
            randomness.seed_everything(self.training_section.seed)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """One optimiser step over all micro-batches of a batch."""
        optimizer = self._optimizer()
        rate = learning_rate(self.training_section, self.step + 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        objective, num_items = self.job.objective, self.job.objective.num_items(batch)
        sums: dict[str, Tensor] = {}
        for part in micro_batches(batch, self.training_section.samples.micro_batch_samples):
            loss = objective(part)
            share = objective.num_items(part) / num_items
            self.manual_backward(loss.total * share)
            for key, value in {"loss": loss.total.detach(), **loss.parts}.items():
                sums[key] = sums.get(key, 0.0) + value * share
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.training_section.optimizer.clip_norm)
        self.values = {key: float(value) for key, value in sums.items()}
        self.values |= {"gradient_norm": float(norm), "learning_rate": rate}
        self._refuse_non_finite()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.num_items += num_items
        self.items_since_log += num_items

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Log, validate, save and stop, whatever is due."""
        section, is_last = self.training_section, self.step == self.training_section.num_steps
        if self.step % section.log_every_steps == 0 or self.step == 1 or is_last:
            self._log()
        paused_at = time.monotonic()
        if self.step % section.validate_every_steps == 0 or is_last:
            self._validate()
        is_due = time.monotonic() - self.saved_at >= settings().checkpoint_every_seconds
        if is_due or is_last or self.stop.received:
            self.save()
        self.logged_at += time.monotonic() - paused_at  # speed is that of training alone
        if self.stop.received:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Give the signals back."""
        self.stop.uninstall()

    # ---- the end of a step -------------------------------------------------------------------------------------------

    def _refuse_non_finite(self) -> None:
        bad = {key: value for key, value in self.values.items() if not math.isfinite(value)}
        if bad:
            found = ", ".join(f"{key} {value}" for key, value in bad.items())
            raise Refused(
                f"Step {self.step + 1} (batch number {self.step}) has {found}. The weights of step {self.step} are "
                "untouched. Lower optimizer.learning_rate or lengthen learning_rate.warmup_steps; with precision bf16, "
                "try fp32."
            )

    def _log(self) -> None:
        item = self.job.objective.item
        speed = self.items_since_log / (time.monotonic() - self.logged_at)
        self.values |= {f"{item}_per_second": speed, f"{item}_seen": self.num_items}
        self.journal.metrics(self.step, **self.values)
        self.logged_at, self.items_since_log = time.monotonic(), 0
        loss, rate = self.values["loss"], self.values["learning_rate"]
        self.progress.update(self.step, f"loss {loss:.4f}  lr {rate:.2e}  {speed:,.0f} {item}/s")

    def _validate(self) -> None:
        """Measure the held-out loss and continue the preview's texts; no generator is moved by it."""
        objective = self.job.objective
        total, num_items = 0.0, 0
        self.network.eval()
        with torch.no_grad(), self.trainer.precision_plugin.val_step_context():
            for batch in valid_batches(self.training_section, self.job.valid_samples):
                items = objective.num_items(batch)
                total += float(objective(self.trainer.strategy.batch_to_device(batch)).total) * items
                num_items += items
        loss = total / num_items
        measures = {"loss": loss, **objective.measures(loss, self.units)}
        self.journal.metrics(self.step, **{f"valid_{key}": value for key, value in measures.items()})
        told = "  ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in measures.items())
        self.progress.say(f"step {self.step:,}: valid {told}")
        if text := self.job.preview():
            self.previews.append(f"## Step {self.step:,}\n\n{text}\n")
            self.journal.note("previews.md", "\n".join(reversed(self.previews)))
        self.network.train()


def make_trainer(training: Any, num_steps: int) -> pl.Trainer:
    """Lightning with everything off that this module does itself; it makes `num_steps` optimiser steps.

    Raises:
        Refused: the settings ask for a GPU and there is none.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for harmless in (".*does not have many workers.*", ".*LeafSpec.*is deprecated.*"):
        warnings.filterwarnings("ignore", message=harmless)
    on_gpu = uses_gpu()
    set_threads()
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
        max_steps=num_steps,
        max_epochs=-1,
        # On a GPU only: on a CPU every operation used here is deterministic, and the flag costs a fill of each tensor.
        deterministic=True if on_gpu else None,
        benchmark=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )


def train(job: Job, checkpoints: Checkpoints, journal: Journal) -> Trained:
    """Train a network in place, from the newest checkpoint if there is one. The caller holds the checkpoints.

    Raises:
        Refused: too few samples, no room for checkpoints, or a loss that is not finite.
        Stopped: a signal asked for the end; the checkpoint of the last step is saved.
    """
    section = job.training
    if len(job.train_samples) < section.samples.batch_samples or not len(job.valid_samples):
        raise Refused(
            f"The shards give {len(job.train_samples)} samples to train on and {len(job.valid_samples)} to validate, "
            f"expected at least {section.samples.batch_samples} (one batch) and 1. "
            "Make the batch or the samples smaller (the recipe's section 'samples'), or add data."
        )
    found = checkpoints.load()
    if not found or found[0] < section.num_steps:
        checkpoints.require_space(CHECKPOINT_BYTES * sum(each.numel() for each in job.network.parameters()))
    plan = BatchPlan(len(job.train_samples), section.samples.batch_samples, section.seed)
    with Progress(f"{checkpoints.verb} {checkpoints.name}", section.num_steps, found[0] if found else 0) as progress:
        module = TrainingModule(job, checkpoints, journal, progress)
        if found:
            module.resume(*found)
            progress.say(f"going on after step {module.step:,}, from {checkpoints.folder}")
        if module.step < section.num_steps:
            trainer = make_trainer(section, section.num_steps - module.step)
            on_cpu = trainer.strategy.root_device.type == "cpu"
            if on_cpu and section.precision == "bf16" and not bf16_instructions():
                progress.say("bf16 is more than ten times slower than fp32 on this CPU: set precision: fp32")
            loader = batch_loader(job.train_samples, plan, module.step, settings().num_workers, not on_cpu)
            trainer.fit(module, train_dataloaders=loader)
        if module.step < section.num_steps:
            name = signal.Signals(module.stop.received).name
            raise Stopped(f"Stopped by {name} after step {module.step:,}; the next run goes on from there.")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    journal.metrics(module.step, peak_memory_bytes=memory)
    return Trained(module.step, module.num_items, journal.points, module.previews)
