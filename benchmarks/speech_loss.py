"""The loss of masked units: our head beside the form that torchaudio's `hubert_pretrain_base` and fairseq have.

Theirs compares each masked frame with a copy of all units by `cosine_similarity`, a tensor [units + 1, frames, 256];
ours is one product of normalised vectors. Each form has a fresh process that makes the same projection, units and
frames from the same seed, and takes forward and backward passes. Values and gradients must be equal, or nothing is
reported.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe, memory, one_core
from benchmarks.report import Result, require_repeats
from components.markdown import number
from components.meters import forget_peak_memory, peak_process_memory
from components.outcomes import Refused

NAME = "speech-loss"
NUM_UNITS, NUM_FRAMES, WIDTH, HEAD_SIZE = 500, 4000, 768, 256
TEMPERATURE = 0.1
TOLERANCE = 1e-6
"""Of the loss relative to itself, and of each element of a gradient."""
WANTED_TIME_RATIO, WANTED_MEMORY_RATIO = 0.05, 0.1
SEED = 0


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of one process."""

    loss: float
    """In nats, the mean over frames."""
    gradients: list[Any]
    """Of frames, projection and units, as arrays."""
    seconds: float
    """Of CPU time."""
    pass_bytes: int
    """The most memory that the process held during the pass, above what it held before."""


def take_pass(is_ours: bool, num_units: int, num_frames: int) -> Pass:
    """One pass in this process, which should be a fresh one."""
    import torch
    from torch.nn.functional import cross_entropy
    from torchaudio.models.wav2vec2.components import _compute_logits

    from models.hubert.network import UnitsHead

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    head = UnitsHead(WIDTH, HEAD_SIZE, num_units)
    frames = torch.randn(num_frames, WIDTH, requires_grad=True)
    targets = torch.randint(num_units, (num_frames,))
    forget_peak_memory()
    before, began = memory(), time.process_time()
    if is_ours:
        loss = cross_entropy(head(frames, TEMPERATURE), targets)
    else:
        # What the model computes, and what the loss of torchaudio's recipe makes of it: the right unit stands first.
        scores = _compute_logits(head.projection(frames), targets, head.units)
        loss = cross_entropy(scores, torch.zeros(num_frames, dtype=torch.long))
    loss.backward()
    seconds, peak = time.process_time() - began, peak_process_memory()
    gradients = [each.grad for each in (frames, *head.parameters())]
    return Pass(float(loss.detach()), [each.numpy() for each in gradients if each is not None], seconds, peak - before)


def _in_fresh_process(*work: Any) -> Pass:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take_pass, *work).result()


def largest_gap(ours: Pass, theirs: Pass) -> float:
    """The largest difference of an element of a gradient.

    Raises:
        Refused: it, or the losses' relative difference, is above the tolerance.
    """
    gap = max(float(abs(mine - other).max()) for mine, other in zip(ours.gradients, theirs.gradients, strict=True))
    if not (gap <= TOLERANCE and abs(ours.loss - theirs.loss) <= TOLERANCE * abs(theirs.loss)):
        raise Refused(
            f"The losses are {ours.loss:.8f} and {theirs.loss:.8f}, and gradients differ by up to {gap:.2e}: the two "
            "do not do the same work and nothing can be said of them."
        )
    return gap


def measure(*, repeats: int = 3) -> Result:
    """The loss of 4,000 masked frames and 500 units, in fp32 on one core.

    Args:
        repeats: fresh processes for each form.
    """
    require_repeats(repeats)
    with one_core():
        pairs = []
        for _ in range(repeats):
            pairs.append([_in_fresh_process(is_ours, NUM_UNITS, NUM_FRAMES) for is_ours in (True, False)])
            largest_gap(*pairs[-1])
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    peer = "torchaudio's cosine-expand form"
    rows = [
        Row.compare(
            "CPU time of forward and backward pass, ms",
            peer,
            [each.seconds * 1e3 for each in ours],
            [each.seconds * 1e3 for each in theirs],
            at_most=WANTED_TIME_RATIO,
        ),
        Row.compare(
            "memory of the pass above the process's before it, MB",
            peer,
            [each.pass_bytes / 1e6 for each in ours],
            [each.pass_bytes / 1e6 for each in theirs],
            at_most=WANTED_MEMORY_RATIO,
        ),
    ]
    gap = max(largest_gap(*pair) for pair in pairs)
    expanded = (NUM_UNITS + 1) * NUM_FRAMES * HEAD_SIZE * 4
    work = (
        f"{number(NUM_FRAMES)} masked frames of width {WIDTH}, projected to {HEAD_SIZE}, {NUM_UNITS} units, fp32, one "
        f"thread; the expanded tensor alone is {number(round(expanded / 1e6))} MB."
    )
    same = (
        f"Both losses are {ours[0].loss:.6f} nats (difference {abs(ours[0].loss - theirs[0].loss):.1e}); no element of "
        f"a gradient differs by more than {gap:.1e}."
    )
    measured = [
        {side: {"loss": each.loss, "seconds": each.seconds, "pass_bytes": each.pass_bytes} for side, each in pair}
        for pair in ([("ours", mine), ("theirs", other)] for mine, other in zip(ours, theirs, strict=True))
    ]
    return Result(NAME, f"python -m benchmarks {NAME} --repeats {repeats}", rows, [work, same], describe(), measured)
