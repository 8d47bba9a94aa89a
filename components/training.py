"""The trainer of every family: Lightning around an objective, on one device or several, from the newest checkpoint on.

It knows no orchestrator, no tracking server and no data versions, so it runs on a bare GPU machine.
"""

import itertools
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from components import ranks
from components.blocks import recompute
from components.checkpoints import Checkpoints, checkpoint_bytes
from components.devices import bf16_instructions, num_devices, set_threads, uses_gpu
from components.job import Job
from components.journal import Journal
from components.memory import explained
from components.meters import peak_memory
from components.outcomes import Refused, Stopped
from components.progress import Progress
from components.strategies import is_sharded, load_weights, make_strategy
from components.training_module import TrainingModule


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves."""

    network: nn.Module
    """Whole, with the weights to release: the last ones, or their average where the recipe keeps one."""
    num_steps: int
    item: str
    """What a loss is the mean over, in the plural."""
    num_items: int
    skipped: list[int]
    """Numbers of the batches that the guard left out."""
    points: list[dict[str, Any]]
    """The journal's points from the first step on, over all runs."""
    previews: list[str]


def _refuse_what_cannot_be_shared(job: Job, count: int) -> None:
    """Sizes that do not fit each other, before long work."""
    batch, found = job.training.samples.batch_samples, len(job.train_samples)
    if found < batch or not len(job.valid_samples):
        raise Refused(
            f"The shards give {found} samples to train on and {len(job.valid_samples)} to validate, expected at least "
            f"{batch} (one batch) and 1. "
            "Make the batch or the samples smaller (the recipe's section 'samples'), or add data."
        )
    if count > 1 and job.training.strategy == "single":
        raise Refused(
            f"{count} processes were started for a training with strategy 'single', which takes one device. Set the "
            "recipe's key 'strategy' to ddp or fsdp2, or start one process."
        )
    if batch % count:
        raise Refused(
            f"A batch has {batch} samples, which {count} devices cannot share evenly. Make the batch a multiple of "
            f"{count} samples (the recipe's section 'samples'), or set HIRAKU_NUM_DEVICES to a number that divides "
            f"{batch}."
        )


def make_trainer(training: Any, leaves_out: bool = False) -> pl.Trainer:
    """Lightning with everything off that this module does itself; its loop ends when the module says so.

    Args:
        training: the recipe's section.
        leaves_out: whether a step may give some parameters no gradient.

    Raises:
        Refused: the settings ask for a GPU and there is none.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # A policy stays without dropout on purpose.
    known = (
        ".*does not have many workers.*",
        ".*LeafSpec.*is deprecated.*",
        ".*in eval mode at the start of training.*",
    )
    for harmless in known:
        warnings.filterwarnings("ignore", message=harmless)
    on_gpu = uses_gpu()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # all is written before it is read
    set_threads(ranks.num_local_ranks())
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=ranks.num_local_ranks(),
        num_nodes=ranks.num_ranks() // ranks.num_local_ranks(),
        strategy=make_strategy(training.strategy, leaves_out),
        plugins=[LightningEnvironment()],  # ours are the ranks, also within an allocation of SLURM
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
        max_steps=-1,
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


class _Turns:
    """What Lightning's loop counts; the module feeds itself, so that it can go back."""

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def train(job: Job, checkpoints: Checkpoints, journal: Journal) -> Trained:
    """Train a network, from the newest checkpoint if there is one. The caller holds the checkpoints.

    With a strategy for several devices, this process becomes rank 0 and starts the stage once more for each other one.

    Raises:
        Refused: too few samples, a batch that the ranks cannot share, no room for checkpoints, no memory for the first
            step, or more bad batches than the recipe allows.
        Stopped: a signal asked for the end; the checkpoint of the last step is saved.
    """
    section = job.training
    count = ranks.num_ranks() if ranks.are_given() or section.strategy == "single" else num_devices()
    _refuse_what_cannot_be_shared(job, count)
    found = checkpoints.load()
    begin = found[0] if found else 0
    label = f"{checkpoints.verb} {checkpoints.name}"
    with Progress(label, section.num_steps, begin, is_silent=not ranks.is_main()) as progress:
        if found:
            progress.say(f"going on after step {begin:,}, from {checkpoints.folder}")
        for what, samples in (("training", job.train_samples), ("validation", job.valid_samples)):
            if left_out := getattr(samples, "left_out", ""):
                progress.say(f"{what}: {left_out}")
        if found is None or begin < section.num_steps:
            if ranks.is_main():
                num_parameters = sum(each.numel() for each in job.objective.network.parameters())
                checkpoints.require_space(checkpoint_bytes(num_parameters, section))
            others = ranks.started(checkpoints.verb, checkpoints.name, count) if count > ranks.num_ranks() else None
            with others or nullcontext():
                module = TrainingModule(job, checkpoints, found, journal, progress)
                found = None  # the checkpoint's file keeps its room on the disk as long as anybody knows its tensors
                found = _fit(module)
    step, state = found
    journal.rewrite(state["points"])
    network = job.build() if is_sharded(job.objective) else job.objective.network
    load_weights(network.state_dict(), state["weights"])
    if state["average"]:
        learnt = {name: each.data for name, each in network.named_parameters() if name in state["average"]}
        load_weights(learnt, state["average"])
    journal.metrics(step, **peak_memory())
    return Trained(
        network,
        step,
        job.objective.item,
        state["num_items"],
        sorted(state["guard"]["skipped"]),
        journal.points,
        state["previews"],
    )


def _fit(module: TrainingModule) -> tuple[int, dict[str, Any]]:
    """Train to the last step; its number and state.

    Raises:
        SystemExit: this is not rank 0, and has nothing to give back.
    """
    section, progress = module.section, module.progress
    trainer = make_trainer(section, getattr(module.objective, "leaves_out_parameters", False))
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and section.precision == "bf16" and not bf16_instructions():
        progress.say("bf16 is more than ten times slower than fp32 on this CPU: set precision: fp32")
    if section.activation_checkpointing:
        recompute(module.job.blocks)
    if ranks.num_ranks() > 1:
        # Lightning tells its ranks of a signal in every turn, through the device; ours agree about it by themselves.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign] # noqa: SLF001
    with explained(section, module.job.can_be_shared, lambda: module.step == module.first_step):
        trainer.fit(module, train_dataloaders=_Turns())
    if module.step < section.num_steps:
        name = signal.Signals(module.stop.received or signal.SIGTERM).name
        raise Stopped(f"Stopped by {name} after step {module.step:,}; the next run goes on from there.")
    if not ranks.is_main():
        raise SystemExit(0)
    return module.last
