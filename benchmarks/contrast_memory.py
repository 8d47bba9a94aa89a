"""Memory of a contrast of 32,768 pairs: our losses in blocks of rows beside the plain ones, which hold all logits.

Each loss has a fresh process that draws features of width 512 and takes the loss and its gradient. The figure is the
most memory that the process held in this, above what it held with the features drawn. At a smaller number of pairs both
must say the same, or nothing is reported. Plain CLOOB at the full size has eight matrices of all pairs,
4.3 GB each in fp32; it is measured where there is room for it.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe, memory, one_core
from benchmarks.report import Result, require_repeats
from components.markdown import number
from components.meters import forget_peak_memory, peak_process_memory
from components.outcomes import Refused

NAME = "contrast-memory"
PAIRS, WIDTH, CHECKED_PAIRS = 32_768, 512, 2_048
SCALE, BIAS, HOPFIELD_SCALE = 14.0, -10.0, 15.0
MOST_BYTES = 1e9
TOLERANCE = 1e-6
"""Relative, of losses at CHECKED_PAIRS; gradients may differ by ten times as much."""
MATRICES = {"clip": 3, "siglip": 3, "cloob": 8}
"""Of all pairs that a plain loss holds at once, about: it is skipped where there is no room for them."""
SEED = 0


@dataclass(frozen=True)
class Taken:
    """A loss and its gradient in one process."""

    before_bytes: int
    peak_bytes: int
    cpu_seconds: float
    loss: float
    gradient_norm: float

    @property
    def step_bytes(self) -> int:
        """What it needed."""
        return self.peak_bytes - self.before_bytes


def _ours(kind: str, images: Any, texts: Any) -> Any:
    from models.clip.losses import Pairs, clip_loss, cloob_terms, siglip_loss

    pairs = Pairs(images, images), Pairs(texts, texts)
    if kind == "clip":
        return clip_loss(*pairs, SCALE)
    return siglip_loss(*pairs, SCALE, BIAS) if kind == "siglip" else sum(cloob_terms(*pairs, SCALE, HOPFIELD_SCALE)) / 2


def _plain(kind: str, images: Any, texts: Any) -> Any:
    import torch
    from torch.nn import functional

    places = torch.arange(len(images))
    if kind == "clip":
        logits = SCALE * images @ texts.T
        return (functional.cross_entropy(logits, places) + functional.cross_entropy(logits.T, places)) / 2
    if kind == "siglip":
        logits = SCALE * images @ texts.T + BIAS
        signs = 2 * torch.eye(len(images)) - 1
        return -functional.logsigmoid(signs * logits).sum() / len(images)

    def retrieved(states: Any, stored: Any) -> Any:
        return functional.normalize((HOPFIELD_SCALE * states @ stored.T).softmax(1) @ stored, dim=1)

    def loob(anchors: Any, candidates: Any) -> Any:
        logits = SCALE * anchors @ candidates.T
        return (logits.clone().fill_diagonal_(-torch.inf).logsumexp(1) - logits.diagonal()).mean()

    image = loob(retrieved(images, images), retrieved(texts, images))
    return (image + loob(retrieved(texts, texts), retrieved(images, texts))) / 2


LOSSES: dict[str, Callable[[str, Any, Any], Any]] = {"ours": _ours, "plain": _plain}


def take(side: str, kind: str, pairs: int) -> Taken:
    """A loss and its gradient in this process, which should be a fresh one."""
    import time

    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images = torch.nn.functional.normalize(torch.randn(pairs, WIDTH), dim=1)
    texts = torch.nn.functional.normalize(images + 3 * torch.randn(pairs, WIDTH) / WIDTH**0.5, dim=1)
    images.requires_grad_()
    texts.requires_grad_()
    LOSSES[side](kind, images[:8], texts[:8]).backward()  # what a first product makes once
    images.grad = texts.grad = None
    forget_peak_memory()
    before, began = memory(), time.process_time()
    loss = LOSSES[side](kind, images, texts)
    loss.backward()
    seconds = time.process_time() - began
    peak = peak_process_memory()
    norm = float(torch.nn.utils.get_total_norm([each.grad for each in (images, texts) if each.grad is not None]))
    return Taken(before, peak, seconds, float(loss.detach()), norm)


def _in_fresh_process(side: str, kind: str, pairs: int) -> Taken:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take, side, kind, pairs).result()


def check_same_work(kind: str, ours: Taken, plain: Taken) -> None:
    """Refuse a comparison of different losses.

    Raises:
        Refused: losses or gradients differ.
    """
    for key, tolerance in (("loss", TOLERANCE), ("gradient_norm", 10 * TOLERANCE)):
        found, wanted = getattr(ours, key), getattr(plain, key)
        if not abs(found - wanted) <= tolerance * abs(wanted):
            raise Refused(
                f"{key} of {kind} is {found:.8f} in blocks and {wanted:.8f} in the plain form, so the two do not do "
                "the same work and nothing can be said of their memory."
            )


def measure(*, repeats: int = 1, pairs: int = PAIRS) -> Result:
    """Memory of a contrast of 32,768 pairs of width 512 in fp32, of CLIP, CLOOB and SigLIP.

    Args:
        repeats: fresh processes for each loss.
        pairs: of one contrast.
    """
    require_repeats(repeats)
    rows, notes, measured = [], [], {}
    with one_core():
        for kind, matrices in MATRICES.items():
            check_same_work(kind, *(_in_fresh_process(side, kind, CHECKED_PAIRS) for side in ("ours", "plain")))
            ours = [_in_fresh_process("ours", kind, pairs) for _ in range(repeats)]
            has_room = psutil.virtual_memory().available > 1.2 * matrices * 4 * pairs**2
            plain = [_in_fresh_process("plain", kind, pairs) for _ in range(repeats)] if has_room else []
            rows += _rows(kind, pairs, ours, plain, matrices)
            told = f"{kind}: loss {ours[0].loss:.6f} in {ours[0].cpu_seconds:.0f} s of CPU time"
            notes.append(told + (f", plain {plain[0].loss:.6f} in {plain[0].cpu_seconds:.0f} s." if plain else "."))
            measured[kind] = {"ours": [asdict(each) for each in ours], "plain": [asdict(each) for each in plain]}
    work = (
        f"{number(pairs)} pairs of width {WIDTH}, fp32, one thread: a loss and its gradient, above "
        f"{pairs * WIDTH * 8 / 1e6:.0f} MB of features. At {number(CHECKED_PAIRS)} pairs the loss is the plain one's "
        f"to {TOLERANCE:g} and the gradient's norm to ten times that. Where the plain form had no room, its figure is "
        "that of its matrices alone."
    )
    command = f"python -m benchmarks {NAME} --repeats {repeats} --pairs {pairs}"
    return Result(NAME, command, rows, [work, *notes], describe(), measured)


def _rows(kind: str, pairs: int, ours: list[Taken], plain: list[Taken], matrices: int) -> list[Row]:
    mine = [each.step_bytes / 1e6 for each in ours]
    limit = Row.compare(
        f"{kind}: memory of a loss and its gradient, MB", "the limit of 1 GB", mine, [MOST_BYTES / 1e6] * len(mine),
        at_most=1.0,
    )  # fmt: skip
    theirs = [each.step_bytes / 1e6 for each in plain] or [matrices * 4 * pairs**2 / 1e6] * len(mine)
    peer = "plain form" if plain else "plain form, by arithmetic"
    return [limit, Row(limit.figure, peer, Spread.of(theirs), Spread.of(mine), Row.compare("", "", mine, theirs).ratio)]
