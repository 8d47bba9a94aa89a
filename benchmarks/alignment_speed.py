"""Alignment beside TRL, the last release with PPO: supervised fine-tuning with packing, and rounds of PPO.

Each side is a process of its own with one thread on one core, the peer in an environment of its own, and sides take
turns. Both begin with the same network and read the same samples; the first steps are not measured. The figure is what
a second of CPU time gives, user and system, of the whole process: of fine-tuning, tokens of conversations; of PPO,
answers that are sampled, scored and trained on. Neither side computes activations twice.

Sides of fine-tuning must report the same losses, and sides of PPO answers of the same length and entropy, or nothing is
reported.
"""

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.alignment_project import CRITICS, PPO_STEM, SFT_STEM, Rounds, write_alignment
from benchmarks.figures import Row, Spread, rows_of
from benchmarks.machine import describe, one_core
from benchmarks.peers import python_of
from benchmarks.project import PRECISIONS, Schedule
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, peer_command, run_side
from benchmarks.training_speed import CPU_SHAPE, LOSS_TOLERANCE
from components.devices import bf16_instructions
from components.markdown import number
from components.outcomes import Refused

SFT_NAME, PPO_NAME = "sft-speed", "ppo-speed"
ROUNDS = Rounds(num_prompts=32, mini_batch_samples=16, answer_tokens=53, num_epochs=4)
"""53 tokens and 4 epochs are TRL's defaults."""
MICRO_WINDOWS = 4
"""Of fine-tuning on both sides: TRL puts what goes through the network at once into one row, whose attention costs its
square; with 1, 4 and 16 of 16 windows, 4 was its fastest."""
SFT_RATIO, PPO_RATIO = 1.2, 1.5
"""Our bars."""
ENTROPY_TOLERANCE = 0.02
"""Relative; it is measured on sampled tokens."""


@dataclass(frozen=True)
class Run:
    """One alignment of one side."""

    name: str
    steady: tuple[float, float]
    """Seconds of CPU time and of the wall clock of all steps after the unmeasured ones."""
    first: dict[str, float]
    """What it says of the first step."""
    last: dict[str, float]
    peak_memory_bytes: int


@dataclass(frozen=True)
class Comparison:
    """Repeated pairs of runs of the same work."""

    title: str
    figure: str
    items: float
    """What a run does after its unmeasured steps, in the unit of the figure."""
    ours: list[Run]
    theirs: list[Run]
    at_least: float

    def rows(self) -> list[Row]:
        """Lines of the table."""
        figures: dict[str, tuple[Callable[[Run], float], float | None]] = {
            f"{self.figure} per CPU second": (lambda run: self.items / run.steady[0], self.at_least),
            "peak memory, MB": (lambda run: run.peak_memory_bytes / 1e6, None),
        }
        return rows_of(self.title, self.ours, self.theirs, figures)

    def notes(self, keys: tuple[str, ...]) -> list[str]:
        """What each side said of its first and last measured step."""
        told = []
        for runs in (self.ours, self.theirs):
            parts = [
                f"{key.replace('_', ' ')} {runs[0].first[key]:.5g} in the first step, "
                f"{runs[0].last[key]:.5g} in the last"
                for key in keys
            ]
            stretch = Spread.of([run.steady[1] / run.steady[0] for run in runs])
            told.append(f"{self.title}, {runs[0].name}: {'; '.join(parts)}; wall clock / CPU time {stretch}.")
        return told


def check_same_losses(ours: Run, theirs: Run, precision: str) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: the losses of the first or the last step differ.
    """
    for place in ("first", "last"):
        found, expected = getattr(ours, place)["loss"], getattr(theirs, place)["loss"]
        if not math.isclose(found, expected, rel_tol=LOSS_TOLERANCE[precision]):
            raise Refused(
                f"The loss of the {place} step is {found:.6f} on our side and {expected:.6f} on the peer's in "
                f"{precision}, so the two do not do the same work and nothing can be said of their speed."
            )


def check_same_rounds(ours: Run, theirs: Run) -> None:
    """Refuse a comparison of answers of different lengths or from different policies.

    Raises:
        Refused: they differ.
    """
    for key, tolerance in (("answer_tokens", 0.0), ("entropy", ENTROPY_TOLERANCE)):
        for place in ("first", "last"):
            found, expected = getattr(ours, place)[key], getattr(theirs, place)[key]
            if not math.isclose(found, expected, rel_tol=tolerance, abs_tol=0.0):
                raise Refused(
                    f"In the {place} round '{key}' is {found:.6g} on our side and {expected:.6g} on the peer's, so the "
                    "two do not do the same work and nothing can be said of their speed."
                )


def one_run(command: list[str], folder: Path, *words: str) -> Run:
    """One alignment in a fresh process."""
    found = run_side(command, [str(folder), *words], folder / "outcome.json")
    return Run(**{**found, "steady": tuple(found["steady"])})


def _precisions() -> tuple[tuple[str, ...], list[str]]:
    """Those that are measured here, and why others are not."""
    if bf16_instructions():
        return PRECISIONS, []
    return PRECISIONS[:1], ["bf16 was left out: this CPU has no instructions for it."]


def _check_steps(num_steps: int, warmup_steps: int) -> None:
    if not 1 <= warmup_steps < num_steps:
        raise Refused(f"warmup_steps is {warmup_steps}, expected 1 or more and below num_steps {num_steps}.")


def _shape_words(rounds: Rounds | None) -> str:
    shape = CPU_SHAPE
    words = (
        f"GPT-2 with {shape.num_layers} layers, width {shape.hidden_size}, {shape.num_heads} heads, vocabulary "
        f"{number(shape.vocab_size)}, AdamW, clipping, dropout 0, no checkpointing of activations on either side"
    )
    if rounds is None:
        return (
            f"{words}; a step reads {shape.batch_windows} windows of {shape.window_tokens} tokens, {MICRO_WINDOWS} at "
            "a time, packed by each side from the same conversations; losses on answers only."
        )
    return (
        f"{words}; a round answers {rounds.num_prompts} prompts of 8 to 24 tokens with {rounds.answer_tokens} tokens "
        f"each and makes {rounds.num_epochs} epochs of updates on {rounds.mini_batch_samples} answers; reward model "
        "and separate critics are of the policy's size. TRL's critic is always a separate one."
    )


def measure_sft(*, repeats: int = 3, num_steps: int = 6, warmup_steps: int = 2) -> Result:
    """Tokens per CPU second of supervised fine-tuning, ours and TRL's SFTTrainer with packing.

    Args:
        repeats: pairs of runs for each precision.
        num_steps: of each run.
        warmup_steps: the first steps, not measured.

    Raises:
        Refused: a side fails, or the losses differ.
    """
    require_repeats(repeats)
    _check_steps(num_steps, warmup_steps)
    peer, schedule = python_of("trl"), Schedule(num_steps, warmup_steps, valid_windows=8)
    chosen, notes = _precisions()
    comparisons = []
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name) / "project"
        num_tokens = write_alignment(folder, CPU_SHAPE, schedule, ROUNDS, MICRO_WINDOWS)
        notes += [_load_words()]
        for precision in chosen:
            ours, theirs = [], []
            for _ in range(repeats):
                ours.append(one_run(our_command("benchmarks.our_alignment"), folder, f"{SFT_STEM}-{precision}"))
                theirs.append(one_run(peer_command(peer, "trl_sft.py"), folder, precision))
                check_same_losses(ours[-1], theirs[-1], precision)
                _say(precision, ours, theirs)
            items = num_tokens * (num_steps - warmup_steps)
            comparisons.append(Comparison(precision, "tokens", items, ours, theirs, SFT_RATIO))
    command = f"python -m benchmarks {SFT_NAME} --repeats {repeats} --num-steps {num_steps}"
    told = [note for each in comparisons for note in each.notes(("loss",))]
    words = f"{command} --warmup-steps {warmup_steps}"
    return _result(SFT_NAME, words, comparisons, [_shape_words(None), *told, *notes])


def measure_ppo(*, repeats: int = 3, num_steps: int = 3, warmup_steps: int = 1, precision: str = "fp32") -> Result:
    """Answers per CPU second of PPO, ours with both forms of the critic and TRL's.

    Args:
        repeats: how often each is run.
        num_steps: rounds of each run.
        warmup_steps: the first rounds, not measured.
        precision: `fp32` or `bf16`.

    Raises:
        Refused: a side fails, or the answers differ in length or entropy.
    """
    require_repeats(repeats)
    _check_steps(num_steps, warmup_steps)
    if precision not in PRECISIONS:
        raise Refused(f"--precision is '{precision}', expected one of {', '.join(PRECISIONS)}.")
    peer, schedule = python_of("trl"), Schedule(num_steps, warmup_steps, valid_windows=8)
    ours: dict[str, list[Run]] = {critic: [] for critic in CRITICS}
    theirs: list[Run] = []
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name) / "project"
        write_alignment(folder, CPU_SHAPE, schedule, ROUNDS, MICRO_WINDOWS)
        load = _load_words()
        for _ in range(repeats):
            theirs.append(one_run(peer_command(peer, "trl_ppo.py"), folder, precision))
            for critic, runs in ours.items():
                recipe = f"{PPO_STEM}-{critic}-{precision}"
                runs.append(one_run(our_command("benchmarks.our_alignment"), folder, recipe))
                check_same_rounds(runs[-1], theirs[-1])
                _say(f"{precision}, {critic} critic", runs, theirs)
    items = ROUNDS.num_prompts * (num_steps - warmup_steps)
    comparisons = [
        Comparison(f"{precision}, {critic} critic", "samples", items, runs, theirs, PPO_RATIO)
        for critic, runs in ours.items()
    ]
    told = [note for each in comparisons for note in each.notes(("entropy", "kl_per_answer", "reward"))]
    command = f"python -m benchmarks {PPO_NAME} --repeats {repeats} --num-steps {num_steps}"
    words = f"{command} --warmup-steps {warmup_steps} --precision {precision}"
    return _result(PPO_NAME, words, comparisons, [_shape_words(ROUNDS), *dict.fromkeys(told), load])


def _say(title: str, ours: list[Run], theirs: list[Run]) -> None:
    seconds = [f"{run.name} {run.steady[0]:.1f} s" for run in (ours[-1], theirs[-1])]
    print(f"{title}, pair {len(ours)}: {', '.join(seconds)}", flush=True)


def _load_words() -> str:
    return f"The machine's load when the measurement began: {os.getloadavg()[0]:.2f}."


def _result(name: str, command: str, comparisons: list[Comparison], notes: list[str]) -> Result:
    rows = [row for each in comparisons for row in each.rows()]
    measured: list[Any] = [asdict(each) for each in comparisons]
    return Result(name=name, command=command, rows=rows, notes=notes, machine=describe(), measured=measured)
