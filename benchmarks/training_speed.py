"""Training, our whole trainer beside transformers' Trainer: the same network, batches, optimiser and learning rates.

Each side is a process of its own, the peer in an environment of its own. Sides take turns, so that what drifts hits
both. On a CPU both have one thread on one core and the figure is tokens per second of CPU time, user and system, of all
threads; on a GPU it is tokens per second by the wall clock. The first steps are not measured. A validation and a
checkpoint are measured at the end of each run, and a second row adds their share at the trainer's default cadence.

Both sides must report the same losses at the first and the last step and in validation, or nothing is reported.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from benchmarks.figures import Row, Spread, rows_of
from benchmarks.machine import describe, measured_peak, one_core
from benchmarks.peers import python_of
from benchmarks.project import PRECISIONS, Schedule, Shape, write_project
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, peer_command, run_side
from components.devices import bf16_instructions
from components.markdown import number
from components.outcomes import Refused
from components.settings import Settings
from components.training_schema import Training

NAME = "training-speed"
Device = Literal["cpu", "gpu"]
Size = Literal["37M", "110M", "336M", "1.3B"]

CPU_SHAPE = Shape(6, 256, 4, 1024, vocab_size=32_000, window_tokens=256, batch_windows=16)
# The shapes of rinna's japanese-gpt2-xsmall, -small, -medium and japanese-gpt-1b, from their configurations; how many
# windows a batch has is our choice, for 80 GB of memory on the side that keeps all logits.
GPU_SHAPES: dict[Size, Shape] = {
    "37M": Shape(6, 512, 8, 2304, vocab_size=32_000, window_tokens=1024, batch_windows=32),
    "110M": Shape(12, 768, 12, 3072, vocab_size=32_000, window_tokens=1024, batch_windows=32),
    "336M": Shape(24, 1024, 16, 4096, vocab_size=32_000, window_tokens=1024, batch_windows=16),
    "1.3B": Shape(
        24, 2048, 16, 8192, 44_928, window_tokens=1024, batch_windows=8, encoder_size=32_000, activation="gelu_fast"
    ),
}
WANTED_RATIO = 1.3
"""Our bar, on a CPU."""
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-3}
"""Relative; sums in another order differ, and in bf16 the losses of the two sides are rounded at different places."""
OUR_TRAINER, THEIR_TRAINER = "benchmarks.our_trainer", "transformers_trainer.py"


@dataclass(frozen=True)
class Run:
    """One training of one side. Times are seconds of CPU time and of the wall clock."""

    name: str
    steady: tuple[float, float]
    """Of all steps after the unmeasured ones."""
    validation: tuple[float, float]
    checkpoint: tuple[float, float]
    first_loss: float
    """In nats, as the other losses."""
    last_loss: float
    valid_loss: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Comparison:
    """Repeated pairs of runs in one precision on one device."""

    title: str
    shape: Shape
    schedule: Schedule
    precision: str
    device: Device
    ours: list[Run]
    theirs: list[Run]
    peak_flops: float
    """FLOP/s, measured between the runs; the best of all."""

    @property
    def clock(self) -> int:
        """Which of a run's two times counts."""
        return 0 if self.device == "cpu" else 1

    def step_seconds(self, run: Run) -> float:
        """Seconds of one step."""
        return run.steady[self.clock] / (self.schedule.num_steps - self.schedule.warmup_steps)

    def speed(self, run: Run) -> float:
        """Tokens per second of steps alone."""
        return self.shape.batch_tokens / self.step_seconds(run)

    def whole_speed(self, run: Run) -> float:
        """Tokens per second of a long training that validates and saves as often as ours does by default."""
        cadence = Training.model_fields["validate_every_steps"].default
        period = Settings.model_fields["checkpoint_every_seconds"].default
        seconds = self.step_seconds(run) + run.validation[self.clock] / cadence
        return self.shape.batch_tokens / (seconds * (1 + run.checkpoint[self.clock] / period))

    def utilisation(self, run: Run) -> float:
        """Model FLOPs of a step over what the measured peak would compute in its time."""
        return self.shape.step_flops() / (self.step_seconds(run) * self.peak_flops)

    def rows(self) -> list[Row]:
        """Lines of the table."""
        unit = "CPU second" if self.device == "cpu" else "second"
        bar = WANTED_RATIO if self.device == "cpu" else None
        figures = {
            f"tokens per {unit}": (self.speed, bar),
            f"tokens per {unit} with validation and checkpoints": (self.whole_speed, None),
            "utilisation of the measured peak": (self.utilisation, None),
        }
        if self.device == "cpu":
            figures["peak memory, MB"] = (lambda run: run.peak_memory_bytes / 1e6, None)
        return rows_of(self.title, self.ours, self.theirs, figures)

    def notes(self) -> list[str]:
        """What a person should know of it."""
        shape, schedule, steps = self.shape, self.schedule, self.schedule.num_steps
        work = (
            f"{self.title}: GPT-2 with {shape.num_layers} layers, width {shape.hidden_size}, {shape.num_heads} heads, "
            f"inner {shape.intermediate_size}, vocabulary {number(shape.vocab_size)}; {shape.batch_windows} windows of "
            f"{shape.window_tokens} tokens a step, AdamW, clipping, dropout 0; steps {schedule.warmup_steps + 1} to "
            f"{steps} of {len(self.ours)} pairs of runs; a step is {shape.step_flops() / 1e9:,.0f} GFLOP, the peak "
            f"{self.peak_flops / 1e9:,.0f} GFLOP/s."
        )
        notes = [work]
        for runs in (self.ours, self.theirs):
            parts = {"a step": [self.step_seconds(run) for run in runs]}
            parts |= {
                f"a {key}": [getattr(run, key)[self.clock] for run in runs] for key in ("validation", "checkpoint")
            }
            told = ", ".join(f"{part} {Spread.of(values)} s" for part, values in parts.items())
            stretch = Spread.of([run.steady[1] / run.steady[0] for run in runs])
            first = runs[0]
            notes.append(
                f"{self.title}, {first.name}: {told}; loss {first.first_loss:.5f} at step 1, {first.last_loss:.5f} at "
                f"step {steps}, {first.valid_loss:.5f} in validation; wall clock / CPU time {stretch}."
            )
        return notes


def check_same_work(ours: Run, theirs: Run, precision: str) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: losses differ.
    """
    for key in ("first_loss", "last_loss", "valid_loss"):
        found, expected = getattr(ours, key), getattr(theirs, key)
        if not abs(found - expected) <= LOSS_TOLERANCE[precision] * abs(expected):
            raise Refused(
                f"{key} is {found:.6f} on our side and {expected:.6f} on the peer's in {precision}, so the two do not "
                "do the same work and nothing can be said of their speed."
            )


def compare(
    title: str, shape: Shape, schedule: Schedule, precision: str, device: Device, repeats: int, peer: Path
) -> Comparison:
    """Train both sides in turn, in processes of their own.

    Args:
        title: what the rows are called.
        shape: of network and batch.
        schedule: of both sides.
        precision: `fp32` or `bf16`.
        device: what to train on; on a CPU, call within `one_core()`.
        repeats: pairs of runs.
        peer: the interpreter of the peer's environment.

    Raises:
        Refused: a side fails, or the losses differ.
    """
    ours, theirs, peaks = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        write_project(folder, shape, schedule)
        for count in range(1, repeats + 1):
            peaks.append(measured_peak(precision, device))
            ours.append(_run(our_command(OUR_TRAINER), folder, precision, device))
            theirs.append(_run(peer_command(peer, THEIR_TRAINER), folder, precision, device))
            check_same_work(ours[-1], theirs[-1], precision)
            seconds = [f"{run.name} {run.steady[0 if device == 'cpu' else 1]:.1f} s" for run in (ours[-1], theirs[-1])]
            print(f"{title}, pair {count} of {repeats}: {', '.join(seconds)}", flush=True)
    return Comparison(title, shape, schedule, precision, device, ours, theirs, max(peaks))


def _run(command: list[str], folder: Path, precision: str, device: str) -> Run:
    """One training in a fresh process."""
    found = run_side(command, [str(folder), precision, device], folder / "outcome.json")
    times = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return Run(**{**found, **times})


def result_of(comparisons: list[Comparison], command: str, notes: list[str]) -> Result:
    """What stands in the report."""
    return Result(
        name=NAME if comparisons[0].device == "cpu" else f"{NAME}-gpu",
        command=command,
        rows=[row for each in comparisons for row in each.rows()],
        notes=[*(note for each in comparisons for note in each.notes()), *notes],
        machine=describe(),
        measured=[asdict(each) for each in comparisons],
    )


def measure(
    *,
    device: Device = "cpu",
    repeats: int = 5,
    num_steps: int = 30,
    warmup_steps: int = 10,
    shapes: Annotated[tuple[Size, ...], cyclopts.Parameter(consume_multiple=True)] = (),
) -> Result:
    """Tokens per second of our trainer and of transformers' Trainer.

    Args:
        device: `cpu`, one core of it, in fp32 and, where the CPU has instructions for it, in bf16; or `gpu` in bf16.
        repeats: pairs of runs for each precision or shape.
        num_steps: of each run.
        warmup_steps: the first steps, not measured; like `num_steps` a step that is logged: 1 or a multiple of 10.
        shapes: networks for a GPU; all if none is named.

    Raises:
        Refused: the last unmeasured step is not logged, a side fails, or the losses differ.
    """
    require_repeats(repeats)
    every = Training.model_fields["log_every_steps"].default
    if not (warmup_steps == 1 or warmup_steps % every == 0) or not 1 <= warmup_steps < num_steps:
        raise Refused(
            f"warmup_steps is {warmup_steps}, expected 1 or a multiple of {every}, which are logged, below num_steps "
            f"{num_steps}."
        )
    schedule = Schedule(num_steps, warmup_steps, valid_windows=Training.model_fields["valid_samples"].default)
    command = f"python -m benchmarks {NAME} --repeats {repeats} --num-steps {num_steps} --warmup-steps {warmup_steps}"
    peer, notes = python_of("transformers"), list[str]()
    if device == "gpu":
        notes.append("Both sides compile: ours each layer, the peer its whole model (torch_compile).")
        chosen = shapes or tuple(GPU_SHAPES)
        comparisons = [
            compare(f"{name}, bf16", GPU_SHAPES[name], schedule, "bf16", device, repeats, peer) for name in chosen
        ]
        return result_of(comparisons, f"{command} --device gpu --shapes {' '.join(chosen)}", notes)
    precisions = PRECISIONS if bf16_instructions() else PRECISIONS[:1]
    if len(precisions) == 1:
        notes.append("bf16 was left out: this CPU has no instructions for it.")
    with one_core():
        comparisons = [compare(each, CPU_SHAPE, schedule, each, device, repeats, peer) for each in precisions]
    return result_of(comparisons, command, notes)
