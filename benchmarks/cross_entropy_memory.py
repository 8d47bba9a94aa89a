"""Memory of one training step with a large vocabulary: our loss beside the plain one and transformers' own.

Each loss has a fresh process that makes the same network from the same seed and takes one step: forward, backward,
optimiser. The figure is the most memory that the process held during the step, above what it held before it. All must
report the same loss and the same norm of the gradient, or nothing is reported.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe, memory, one_core
from benchmarks.project import Shape
from benchmarks.report import Result, require_repeats
from components.markdown import number
from components.meters import forget_peak_memory, peak_process_memory
from components.outcomes import Refused

NAME = "cross-entropy-memory"
SHAPE = Shape(2, 256, 4, 1024, vocab_size=65_536, window_tokens=2048, batch_windows=2)
WANTED_RATIO = 0.5
TOLERANCE = 1e-4
"""Relative, of losses and norms: sums in another order differ."""
SEED = 0


@dataclass(frozen=True)
class Step:
    """One training step of one process."""

    before_bytes: int
    """Memory of the process before the step."""
    peak_bytes: int
    """The most it held during the step."""
    loss: float
    """In nats."""
    gradient_norm: float

    @property
    def step_bytes(self) -> int:
        """What the step needed."""
        return self.peak_bytes - self.before_bytes


def _ours(network: Any, ids: Any) -> Any:
    from models.gpt.objectives import NextTokenLoss

    return NextTokenLoss(network)({"input_ids": ids}).total


def _plain(network: Any, ids: Any) -> Any:
    """All logits at once, then torch's cross-entropy."""
    from torch.nn.functional import cross_entropy

    logits = network(input_ids=ids[:, :-1], use_cache=False).logits
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def _transformers(network: Any, ids: Any) -> Any:
    """What transformers' Trainer does; labels are given shifted so that the last position counts too."""
    targets = ids[:, 1:].contiguous()
    return network(input_ids=ids[:, :-1], labels=targets, shift_labels=targets, use_cache=False).loss


LOSSES: dict[str, Callable[[Any, Any], Any]] = {"ours": _ours, "plain": _plain, "transformers": _transformers}


def take_step(loss: str, shape: Shape) -> Step:
    """One step in this process, which should be a fresh one."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.window_tokens,
        n_embd=shape.hidden_size,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        n_inner=shape.intermediate_size,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    network = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    ids = torch.randint(shape.vocab_size, (shape.batch_windows, shape.window_tokens + 1))
    forget_peak_memory()
    before = memory()
    total = LOSSES[loss](network, ids)
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return Step(before, peak_process_memory(), float(total.detach()), float(norm))


def _in_fresh_process(loss: str, shape: Shape) -> Step:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take_step, loss, shape).result()


def check_same_work(steps: dict[str, Step]) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: losses or norms differ.
    """
    expected = steps["plain"]
    for loss, step in steps.items():
        for key in ("loss", "gradient_norm"):
            found, wanted = getattr(step, key), getattr(expected, key)
            if not abs(found - wanted) <= TOLERANCE * abs(wanted):
                raise Refused(
                    f"{key} is {found:.6f} with the loss '{loss}' and {wanted:.6f} with the plain one, so the two do "
                    "not do the same work and nothing can be said of their memory."
                )


def compare(shape: Shape, repeats: int) -> dict[str, list[Step]]:
    """Steps of each loss, in turn."""
    steps: dict[str, list[Step]] = {loss: [] for loss in LOSSES}
    for _ in range(repeats):
        for loss, taken in steps.items():
            taken.append(_in_fresh_process(loss, shape))
        check_same_work({loss: taken[-1] for loss, taken in steps.items()})
    return steps


def measure(*, repeats: int = 3) -> Result:
    """Memory of one training step with a vocabulary of 65,536 in fp32.

    Args:
        repeats: fresh processes for each loss.
    """
    require_repeats(repeats)
    with one_core():
        steps = compare(SHAPE, repeats)
    ours, rows = steps["ours"], []
    for loss, peer in {"plain": "torch cross_entropy over all logits", "transformers": "transformers' labels="}.items():
        for figure, of, wanted in _FIGURES:
            mine, other = [of(step) for step in ours], [of(step) for step in steps[loss]]
            rows.append(Row.compare(figure, peer, mine, other, at_most=wanted))
    first = ours[0]
    work = (
        f"GPT-2 with {SHAPE.num_layers} layers, width {SHAPE.hidden_size}, vocabulary {number(SHAPE.vocab_size)}; "
        f"{SHAPE.batch_windows} windows of {number(SHAPE.window_tokens)} tokens, fp32, one thread; forward, backward, "
        "clipping and AdamW, with its moments made in this step."
    )
    notes = [work, f"All losses are {first.loss:.5f} nats and all gradients' norms {first.gradient_norm:.5f}."]
    measured = {loss: [asdict(step) for step in taken] for loss, taken in steps.items()}
    return Result(NAME, f"python -m benchmarks {NAME} --repeats {repeats}", rows, notes, describe(), measured)


_FIGURES: list[tuple[str, Callable[[Step], float], float | None]] = [
    ("memory of a step above the process's before it, MB", lambda step: step.step_bytes / 1e6, WANTED_RATIO),
    ("peak memory of the process, MB", lambda step: step.peak_bytes / 1e6, None),
]
