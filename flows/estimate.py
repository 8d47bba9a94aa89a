"""What a recipe's training takes, in tables for a person who plans it: `hiraku doctor RECIPE`."""

from typing import Any

from rich.console import Console
from rich.table import Table

from components import cost as planning
from components.devices import bf16_instructions
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
MEMORY_NOTE = (
    "Activations of one micro-batch in compiled layers, after Korthikanti et al. 2022, section 4.1; recomputed with "
    "activation_checkpointing: true. gathered, and part of the gradients, is what fsdp2 holds whole for a while."
)
TIME_NOTE = (
    "needs: the fewest GPUs that hold the training as the recipe stands, by fsdp2 if there are several. The share of "
    "the peak is assumed, and what several lose by waiting for each other is left out; the CPU's peak is measured now."
)


def print_estimate(library: Library, name: str, console: Console) -> None:
    """Parameters, bytes and time of a recipe's training; nothing for one that trains nothing."""
    cost = planning.cost_of(library, name, on_gpu=True)
    if cost is None:
        return
    recipe = library.read("recipe", name)
    training, encoder = planning.training_of(recipe), library.read("encoder", recipe.encoder)
    console.print(_facts(name, cost, training, getattr(encoder, "vocab_size", 0)))
    console.print()
    console.print(_memory(cost, training))
    console.print(MEMORY_NOTE, style="dim")
    console.print()
    console.print(_time(cost, training))
    console.print(TIME_NOTE, style="dim")


def print_trial(library: Library, name: str, num_items: int, console: Console) -> None:
    """Take one optimiser step with a recipe's network on random numbers, and print what it took.

    Raises:
        Refused: as `components.trial.one_step`.
    """
    from components.trial import one_step

    done = one_step(library, name, num_items)
    state = "every weight is a number" if done.is_finite else "weights are no numbers"
    console.print(
        f"One optimiser step of {name} on {done.num_items:,} random items in {done.precision}: "
        f"{done.step_seconds:.1f} s, {_gigabytes(done.peak_bytes)} GB ({_gigabytes(done.estimated_bytes)} estimated), "
        f"loss {done.loss:.3f}, {done.num_moved} of {done.num_tensors} tensors moved, {state}"
    )


def _facts(name: str, cost: Cost, training: Any, vocab_size: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    total, item = training.num_steps * cost.batch_items, cost.item
    checkpoint, weights = planning.checkpoint_bytes(cost, training), 4 * cost.num_parameters
    shards = planning.shard_bytes(cost, training, vocab_size)
    again = ", activations recomputed" if training.activation_checkpointing else ""
    steps = f"{training.num_steps:,} steps of {cost.batch_items:,} {item}"
    work = f"{_short(total)} {item}, {_power(planning.total_flops(cost, training))} FLOP"
    table.add_row(name, f"{cost.num_parameters:,} parameters; {training.precision}, {training.strategy}{again}")
    table.add_row("training", f"{steps}, {cost.micro_batch_items:,} at a time on a device: {work}")
    table.add_row(
        "on disk",
        f"a checkpoint {_gigabytes(checkpoint)} GB, three while one is written; weights {_gigabytes(weights)} GB, "
        f"twice; shards {_gigabytes(shards)} GB if no {item} are read twice",
    )
    return table


def _memory(cost: Cost, training: Any) -> Table:
    """One column for each way to divide the network; the last rows with activations recomputed."""
    ways = [("single", 1), *(("fsdp2", count) for count in DEVICES)]
    kept = [planning.held(cost, training, *way, recompute=False) for way in ways]
    again = [planning.held(cost, training, *way, recompute=True) for way in ways]
    table = Table(box=None, pad_edge=False)
    table.add_column("GB on each GPU")
    for strategy, count in ways:
        table.add_column("single, ddp" if strategy == "single" else f"fsdp2 of {count}", justify="right")
    for part in ("weights", "gradients", "moments", "average", "gathered", "loss", "activations"):
        values = [getattr(each, part) for each in kept]
        if any(values):
            table.add_row(part, *(_gigabytes(value) if value else NOTHING for value in values))
    table.add_row("sum", *(_gigabytes(each.total) for each in kept))
    table.add_row("or recomputed", *(_gigabytes(each.activations) for each in again))
    table.add_row("sum", *(_gigabytes(each.total) for each in again))
    return table


def _time(cost: Cost, training: Any) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"At {cost.utilisation_share:.0%} of peak, {training.precision}")
    for title in ("GB", "TFLOP/s", "needs", "time on 1", f"on {MANY}"):
        table.add_column(title, justify="right")
    for gpu in (gpu for gpu in GPUS if gpu.name in SHOWN):
        peak = gpu.peak_flops(training.precision)
        needed = planning.devices_needed(cost, training, gpu.memory_gb * 1e9)
        if peak is None:
            table.add_row(gpu.name, str(gpu.memory_gb), f"no {training.precision}", *[NOTHING] * 3)
            continue
        times = [
            _duration(planning.seconds(cost, training, peak * cost.utilisation_share, count))
            if needed and needed <= count
            else NOTHING
            for count in (1, MANY)
        ]
        table.add_row(gpu.name, str(gpu.memory_gb), f"{peak / 1e12:,.0f}", str(needed or NOTHING), *times)
    table.add_row(*_cpu_row(cost, training))
    return table


def _cpu_row(cost: Cost, training: Any) -> tuple[str, ...]:
    """The row of the CPU here, whose peak is measured now; in fp32 where it has no instructions for bf16."""
    import torch

    from components.devices import set_threads
    from components.meters import peak_flops

    set_threads()
    precision = training.precision if bf16_instructions() else "fp32"
    peak = peak_flops(torch.device("cpu"), precision) or 0.0
    time = _duration(planning.seconds(cost, training, peak * CPU_UTILISATION_SHARE, 1))
    return f"this CPU, {CPU_UTILISATION_SHARE:.0%}, {precision}", "", f"{peak / 1e12:.2g}", "", time, NOTHING


def _gigabytes(num_bytes: float) -> str:
    number = num_bytes / 1e9
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def _power(number: float) -> str:
    return f"{number:.1e}".replace("e+", "e")


def _short(number: float) -> str:
    for size, word in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,.0f}"


def _duration(seconds: float) -> str:
    units = ((1.0, "s", 120), (60.0, "min", 120), (3600.0, "hours", 48), (planning.DAY_SECONDS, "days", 730))
    for size, word, limit in units:
        if seconds / size < limit:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds / planning.DAY_SECONDS / 365.25:,.0f} years"
