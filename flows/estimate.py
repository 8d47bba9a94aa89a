"""What a recipe's training takes, in tables for a person who plans it: `hiraku doctor RECIPE`."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from components import cost as planning
from components.checkpoints import checkpoint_bytes
from components.cost import Held
from components.devices import bf16_instructions
from components.encoders import tokenizer_of
from components.peaks import GPUS
from components.recipes import Library
from models.cost import Cost

CPU_UTILISATION_SHARE = 0.6
"""Of a CPU's measured peak; trainings of a small GPT-2 reached 59 to 77 % of it on one core."""
SHOWN = ("B200", "H200", "H100", "H100 PCIe", "A100", "L40S", "L4", "A10", "RTX 4090", "RTX 3090", "V100")
"""GPUs of the table; `components.peaks` knows more."""
DEVICES = (2, 4, 8, 16)
"""Numbers of devices that share a network in the table."""
MANY = 8
NOTHING = "–"
OURS = "*"
"""Marks what a recipe itself says."""
MEMORY_NOTE = (
    f"{OURS} as the recipe stands. Activations of one micro-batch in compiled layers, after Korthikanti et al. 2022, "
    "section 4.1."
)
SHARED_NOTE = " gathered, and part of the gradients, is what fsdp2 holds whole for a while."
NEEDS_NOTE = (
    "needs: the fewest GPUs that hold the training as the recipe stands, by fsdp2 if there are several; "
    f"{NOTHING} if 64 do not. "
)
WHOLE_NOTE = (
    "needs: 1 if a GPU holds the training as the recipe stands, since each holds the whole network; "
    f"{NOTHING} if it does not. "
)
TIME_NOTE = (
    "Time is all FLOP above, those that compute activations again among them, over TFLOP/s, "
    "GPUs and the share of the peak, which is assumed; what several lose by waiting for each other is left out. The "
    "CPU's peak is measured now."
)
SMALL_NOTE = "The network is too small for a GPU's peak to say how long it takes there. The CPU's peak is measured now."


def print_estimate(library: Library, name: str, console: Console) -> None:
    """Parameters, bytes and time of a recipe's training; nothing for one that trains nothing."""
    cost = planning.cost_of(library, name, on_gpu=True, is_compiled=True)
    if cost is None:
        return
    recipe = library.read("recipe", name)
    training, encoder = planning.training_of(recipe), tokenizer_of(library, recipe.encoder)
    console.print(_facts(name, cost, training, getattr(encoder, "vocab_size", 0)))
    console.print()
    console.print(_memory(cost, training))
    console.print(MEMORY_NOTE + (SHARED_NOTE if cost.can_be_shared else ""), style="dim")
    console.print()
    console.print(_time(cost, training))
    needs = NEEDS_NOTE if cost.can_be_shared else WHOLE_NOTE
    console.print(needs + TIME_NOTE if cost.utilisation_share else SMALL_NOTE, style="dim")


def print_trial(library: Library, name: str, num_items: int, console: Console) -> None:
    """Take optimiser steps with a recipe's network on random numbers, and print what one took.

    Raises:
        Refused: as `components.trial.one_step`.
    """
    from components.trial import STEPS, one_step

    done = one_step(library, name, num_items)
    layers = "compiled" if done.is_compiled else "eager"
    state = "every weight is a number" if done.is_finite else "some weights are no longer numbers"
    console.print(
        f"One optimiser step of {name} on {done.num_items:,} random {done.item} in {done.precision}, {layers} layers: "
        f"{done.step_seconds:.1f} s (step {STEPS} of {STEPS}), up to {size(done.peak_bytes)} of memory "
        f"({size(done.estimated_bytes)} estimated), loss {done.loss:.3f} at first, a gradient in "
        f"{done.num_with_gradient} of {done.num_tensors} tensors, {state}"
    )


def _facts(name: str, cost: Cost, training: Any, vocab_size: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    total, item = training.num_steps * cost.batch_items, cost.item
    checkpoint, weights = checkpoint_bytes(cost.num_parameters, training), 4 * cost.num_parameters
    shards = planning.shard_bytes(cost, training, vocab_size)
    again = ", activations recomputed" if training.activation_checkpointing else ""
    steps = f"{training.num_steps:,} steps of {cost.batch_items:,} {item}"
    work = f"{_short(total)} {item}, {_power(planning.total_flops(cost, training))} FLOP"
    if training.activation_checkpointing:
        work += f" and {_power(planning.recomputed_flops(cost, training))} for activations computed again"
    table.add_row(name, f"{cost.num_parameters:,} parameters; {training.precision}, {training.strategy}{again}")
    table.add_row("training", f"{steps}, {cost.micro_batch_items:,} at a time on a device: {work}")
    table.add_row(
        "on disk",
        f"a checkpoint {size(checkpoint)}, three while one is written; weights {size(weights)}, twice; shards of the "
        f"{item} that are read at most {size(shards)}",
    )
    host = f"{size(weights)} in each process at its start"
    if cost.can_be_shared:
        shared = size(planning.host_bytes(cost, training, "fsdp2"))
        host += f"; {shared} in that of rank 0 while a checkpoint of fsdp2 is written (of single and ddp, one tensor "
        host += "at a time)"
    table.add_row("host memory", host)
    return table


def _memory(cost: Cost, training: Any) -> Table:
    """One column for each way to divide the network; the last rows with activations recomputed."""
    ways = [("single", 1), *(("fsdp2", count) for count in (DEVICES if cost.can_be_shared else ()))]
    kept = [planning.held(cost, training, *way, recompute=False) for way in ways]
    again = [planning.held(cost, training, *way, recompute=True) for way in ways]
    unit, factor = ("GB", 1e9) if kept[0].total >= 1e9 else ("MB", 1e6)
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{unit} on each GPU")
    for strategy, count in ways:
        table.add_column("single, ddp" if strategy == "single" else f"fsdp2 of {count}", justify="right")
    for part in ("weights", "gradients", "moments", "average", "gathered", "frozen", "loss", "activations"):
        values = [getattr(each, part) for each in kept]
        if any(values):
            table.add_row(part, *(_cell(value / factor) for value in values))

    def sums(found: list[Held], is_ours: bool) -> list[str]:
        marked = [is_ours and (strategy == "fsdp2") == (training.strategy == "fsdp2") for strategy, _ in ways]
        return [OURS * mark + _cell(each.total / factor) for mark, each in zip(marked, found, strict=True)]

    table.add_row("sum", *sums(kept, not training.activation_checkpointing))
    table.add_row("or recomputed", *(_cell(each.activations / factor) for each in again))
    table.add_row("sum recomputed", *sums(again, training.activation_checkpointing))
    return table


def _time(cost: Cost, training: Any) -> Table:
    """One row for each kind of GPU, where a share of its peak says something, and one for the CPU here."""
    table = Table(box=None, pad_edge=False)
    share, cpu = cost.utilisation_share, on_this_cpu(cost, training)
    label = f"this CPU, {CPU_UTILISATION_SHARE:.0%}, {cpu.precision}"
    speed, time = f"{cpu.peak_flops / 1e12:.2g}", duration(cpu.seconds)
    table.add_column(f"At {share:.0%} of peak, {training.precision}" if share else "At a share of the peak")
    for title in ("GB", "TFLOP/s", "needs", "time on 1", f"on {MANY}") if share else ("TFLOP/s", "time"):
        table.add_column(title, justify="right")
    if share is None:
        table.add_row(label, speed, time)
        return table
    for gpu in (gpu for gpu in GPUS if gpu.name in SHOWN):
        peak = gpu.peak_flops(training.precision)
        needed = planning.devices_needed(cost, training, gpu.memory_gb * 1e9)
        if peak is None:
            table.add_row(gpu.name, str(gpu.memory_gb), f"no {training.precision}", *[NOTHING] * 3)
            continue
        times = [
            duration(planning.seconds(cost, training, peak * share, count)) if needed and needed <= count else NOTHING
            for count in (1, MANY)
        ]
        table.add_row(gpu.name, str(gpu.memory_gb), f"{peak / 1e12:,.0f}", str(needed or NOTHING), *times)
    table.add_row(label, "", speed, "", time, NOTHING)
    return table


@dataclass(frozen=True)
class OnCpu:
    """A training on the CPU here."""

    precision: str
    """The recipe's, or fp32 where there are no instructions for bf16."""
    peak_flops: float
    """FLOP/s, measured."""
    seconds: float
    """Of the whole training."""


def on_this_cpu(cost: Cost, training: Any) -> OnCpu:
    """How long the CPU here would take for a training."""
    import torch

    from components.devices import set_threads
    from components.meters import peak_flops

    set_threads()
    precision = training.precision if bf16_instructions() else "fp32"
    peak = peak_flops(torch.device("cpu"), precision) or 0.0
    return OnCpu(precision, peak, planning.seconds(cost, training, peak * CPU_UTILISATION_SHARE, 1))


# ---- numbers for a person --------------------------------------------------------------------------------------------


def size(num_bytes: float) -> str:
    """Bytes with the unit of their size."""
    unit, factor = ("TB", 1e12) if num_bytes >= 1e12 else ("GB", 1e9) if num_bytes >= 1e8 else ("MB", 1e6)
    return f"{_cell(num_bytes / factor)} {unit}"


def _cell(number: float) -> str:
    """A number in as many digits as are worth reading; a dash for one that is as good as nothing."""
    if number < 0.01:
        return NOTHING
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def _power(number: float) -> str:
    return f"{number:.1e}".replace("e+", "e")


def _short(number: float) -> str:
    for factor, word in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= factor:
            return f"{number / factor:.1f} {word}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time in the unit of its size."""
    units = ((1.0, "s", 120), (60.0, "min", 120), (3600.0, "hours", 48), (planning.DAY_SECONDS, "days", 730))
    for factor, word, limit in units:
        if seconds / factor < limit:
            return f"{seconds / factor:.1f} {word}"
    return f"{seconds / planning.DAY_SECONDS / 365.25:,.0f} years"
