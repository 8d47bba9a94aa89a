"""A pre-training step of HuBERT base: ours beside torchaudio's `hubert_pretrain_base`, the same weights and recordings.

Both sides pass the same crops forward and backward, clip the gradient to a norm of 10 and take a step of fused AdamW,
with the dropouts of the recipe and LayerDrop off, since chance would give the sides different numbers of layers. Masks
are drawn by each side's own sampler, which is part of the step. torchaudio's model computes the logits of unmasked
frames too, whose weight in the loss is 0; a second peer is the same with that switched off.

Each side has a fresh process, and sides take turns. The figure is seconds of audio per second of CPU time, of one
thread on one core. The first losses must agree as far as the chance of masks and dropout lets them.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import cyclopts

from benchmarks.figures import Row
from benchmarks.machine import INSTRUCTIONS, describe, one_core
from benchmarks.report import Result, require_repeats
from components.meters import forget_peak_memory, peak_process_memory
from components.outcomes import Refused
from models.frames import SAMPLE_RATE_HZ

NAME = "speech-step"
NUM_UNITS, PENALTY, CLIP_NORM = 500, 10.0, 10.0
WANTED_RATIO = 1.5
LOSS_TOLERANCE = 0.05
"""Relative; masks and dropout differ."""
SEED = 0
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Run:
    """Some steps of one side in one precision."""

    first_loss: float
    """In nats: cross-entropy of masked frames and the penalty."""
    step_seconds: float
    """CPU time of one step, the first one left out."""
    peak_bytes: int
    """The most memory that the process held."""


Step = Callable[[Any, Any], Any]
"""Waveforms [recordings, samples] and units [recordings, frames] -> loss."""


def _base() -> Any:
    """Our network, from the seed."""
    import torch

    from models.hubert.network import build
    from models.hubert.schema import Network

    torch.manual_seed(SEED)
    return build(Network(layerdrop=0.0), {"num_units": NUM_UNITS}).train()


def _ours() -> tuple[Any, Step]:
    from models.hubert.objectives import MaskedUnitsLoss
    from models.hubert.schema import MaskedUnits

    network = _base()
    objective = MaskedUnitsLoss(MaskedUnits(kind="masked-units", feature_penalty=PENALTY), network)
    return (
        network,
        lambda waveforms, units: objective(objective.prepared({"waveforms": waveforms, "targets": units})).total,
    )


def renamed(network: Any) -> dict[str, Any]:
    """The weights of a network of ours under torchaudio's names."""
    found = {}
    for name, tensor in network.hubert.state_dict().items():
        new = name.replace("encoder.", "encoder.transformer.") if name.startswith("encoder.") else name
        new = new.replace("feature_projection.", "encoder.feature_projection.")
        found["mask_generator.mask_embedding" if name == "masked_spec_embed" else f"wav2vec2.{new}"] = tensor
    head = network.head
    found["logit_generator.final_proj.weight"] = head.projection.weight
    found["logit_generator.final_proj.bias"] = head.projection.bias
    found["logit_generator.label_embeddings"] = head.units
    return found


def _theirs(skips_unmasked: bool) -> tuple[Any, Step]:
    import torch
    from torchaudio.models import hubert_pretrain_base

    network = hubert_pretrain_base(encoder_layer_drop=0.0, num_classes=NUM_UNITS, feature_grad_mult=0.1).train()
    network.load_state_dict(renamed(_base()))
    network.logit_generator.skip_nomask = skips_unmasked

    def step(waveforms: Any, units: Any) -> Any:
        scores, _, penalty = network(waveforms, units)
        right = torch.zeros(len(scores), dtype=torch.long)  # stands first
        return torch.nn.functional.cross_entropy(scores.float(), right) + PENALTY * penalty

    return network, step


SIDES: dict[str, Callable[[], tuple[Any, Step]]] = {
    "ours": _ours,
    "torchaudio hubert_pretrain_base": lambda: _theirs(skips_unmasked=False),
    "the same without unmasked logits": lambda: _theirs(skips_unmasked=True),
}


def take_steps(side: str, precision: str, rows: int, seconds: float, num_steps: int) -> Run:
    """Steps in this process, which should be a fresh one."""
    import torch

    from models.frames import num_frames

    torch.set_num_threads(1)
    network, loss_of = SIDES[side]()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True
    )
    torch.manual_seed(SEED)
    num_samples = round(seconds * SAMPLE_RATE_HZ)
    waveforms = 0.1 * torch.randn(rows, num_samples)
    units = torch.randint(NUM_UNITS, (rows, num_frames(num_samples)))
    losses, began = [], 0.0
    forget_peak_memory()
    for number in range(num_steps + 1):
        if number == 1:
            began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(waveforms, units)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return Run(losses[0], (time.process_time() - began) / num_steps, peak_process_memory())


def _in_fresh_process(*work: Any) -> Run:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take_steps, *work).result()


def check_same_work(runs: dict[str, Run]) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: the first losses are further apart than chance explains.
    """
    expected = runs["ours"].first_loss
    for side, run in runs.items():
        if not abs(run.first_loss - expected) <= LOSS_TOLERANCE * abs(expected):
            raise Refused(
                f"The first loss is {expected:.4f} on our side and {run.first_loss:.4f} of {side}, so the two do not "
                "do the same work and nothing can be said of their speed."
            )


def measure(
    *,
    repeats: int = 3,
    num_steps: int = 3,
    recordings: int = 3,
    seconds: float = 15.625,
    precisions: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None,
) -> Result:
    """A whole pre-training step of HuBERT base with 500 units, on one core.

    Args:
        repeats: fresh processes for each side.
        num_steps: measured in each of them, after one that is not.
        recordings: of one step.
        seconds: of each recording; 15.625 are the 250,000 samples to which fairseq's recipe crops.
        precisions: fp32, and bf16 where the CPU has instructions for it, unless named.

    Raises:
        Refused: a precision is neither.
    """
    require_repeats(repeats)
    if unknown := [each for each in precisions or [] if each not in PRECISIONS]:
        raise Refused(f"--precisions is {', '.join(unknown)}, expected one or more of {', '.join(PRECISIONS)}.")
    machine = describe()
    has_bf16 = any("bf16" in each for each in machine["instructions"] if each in INSTRUCTIONS)
    wanted = precisions or ["fp32", *(["bf16"] if has_bf16 else [])]
    runs: dict[str, dict[str, list[Run]]] = {each: {side: [] for side in SIDES} for each in wanted}
    with one_core():
        for _ in range(repeats):
            for precision, sides in runs.items():
                for side, found in sides.items():
                    found.append(_in_fresh_process(side, precision, recordings, seconds, num_steps))
                check_same_work({side: found[-1] for side, found in sides.items()})
    rows = [row for precision, sides in runs.items() for row in _rows(precision, sides, recordings * seconds)]
    work = (
        f"HuBERT base (94.4 million parameters and its head), {NUM_UNITS} units; {recordings} recordings of "
        f"{seconds:g} s a step, forward and backward pass, clipping and AdamW; {num_steps} steps of {repeats} "
        "processes for each side, the first step of each left out; LayerDrop off."
    )
    notes = [work]
    for precision, sides in runs.items():
        told = ", ".join(f"{side} {found[0].first_loss:.4f}" for side, found in sides.items())
        notes.append(f"First losses in {precision}, in nats: {told}.")
    if not has_bf16:
        notes.append("bf16 was not measured: this CPU has no instructions for it.")
    command = f"python -m benchmarks {NAME} --repeats {repeats} --num-steps {num_steps}"
    command += f" --recordings {recordings} --seconds {seconds:g} --precisions {' '.join(wanted)}"
    measured = {each: {side: [asdict(run) for run in found] for side, found in runs[each].items()} for each in runs}
    return Result(NAME, command, rows, notes, machine, measured)


def _rows(precision: str, sides: dict[str, list[Run]], audio_seconds: float) -> list[Row]:
    """Speed beside both peers, and memory."""
    ours, (first, *_) = sides["ours"], [side for side in sides if side != "ours"]
    rows = [
        Row.compare(
            f"{precision}: audio seconds per CPU second",
            side,
            [audio_seconds / run.step_seconds for run in ours],
            [audio_seconds / run.step_seconds for run in found],
            at_least=WANTED_RATIO if side == first else None,
        )
        for side, found in sides.items()
        if side != "ours"
    ]
    mine, theirs = ([run.peak_bytes / 1e6 for run in sides[side]] for side in ("ours", first))
    return [*rows, Row.compare(f"{precision}: peak memory, MB", first, mine, theirs)]
