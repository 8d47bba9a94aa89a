"""A whole step of 32,768 pairs with clip-demo's text tower, whose captions pass in chunks while the contrast is whole.

Each side has a fresh process that draws features and ids, and takes loss, backward pass, clipping and AdamW, as the
trainer does. The figure is the most memory that the process held in this, above what it held before. At a smaller
number of pairs, chunks and all captions at once must say the same, or nothing is reported; at the full size the latter
has no room on most machines.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import Any

from benchmarks.contrast_memory import Taken, check_same_work
from benchmarks.figures import Row
from benchmarks.machine import describe, memory, one_core
from benchmarks.report import Result, require_repeats
from components.markdown import number
from components.meters import forget_peak_memory, peak_process_memory
from components.recipes import Library

NAME = "contrast-step"
RECIPE = "clip-demo"
PAIRS, COMPARED_PAIRS, CHUNK = 32_768, 4_096, 512
VOCAB, TOKENS = 600, 32
PEER = "all captions at once"
SEED = 0


def take(chunk: int | None, pairs: int) -> Taken:
    """A step in this process, which should be a fresh one.

    Args:
        chunk: captions that pass at once; None for all.
        pairs: of the one contrast.
    """
    import torch

    from models.clip.network import build, equip
    from models.clip.objectives import objective
    from models.clip.schema import Clip
    from models.objective import Setting

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    section: Any = Library().read("recipe", RECIPE).network
    contrast = Clip(kind="clip", chunk_samples=chunk)
    network: Any = build(section, {"vocab_size": VOCAB})
    equip(network, contrast)
    network.train()
    for each in network.modules():  # else both sides would drop other units
        if isinstance(each, torch.nn.Dropout):
            each.p = 0.0
    whole: Any = objective(contrast, network, Setting({}))
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    ids = torch.randint(4, VOCAB, (pairs, TOKENS))
    batch = {"ids": ids, "mask": torch.ones_like(ids), "features": torch.randn(pairs, section.tower_width)}
    whole({key: value[:8] for key, value in batch.items()}).total.backward()  # what a first product makes once
    optimizer.zero_grad(set_to_none=True)
    forget_peak_memory()
    before, began = memory(), time.process_time()
    loss = whole(batch).total
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(trained, 1.0))
    optimizer.step()
    seconds = time.process_time() - began
    return Taken(before, peak_process_memory(), seconds, float(loss.detach()), norm)


def _in_fresh_process(chunk: int | None, pairs: int) -> Taken:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take, chunk, pairs).result()


def measure(*, repeats: int = 1, pairs: int = PAIRS) -> Result:
    """Memory of a step of CLIP over 32,768 pairs, in fp32 on one core.

    Args:
        repeats: fresh processes for each side.
        pairs: of the great contrast.
    """
    require_repeats(repeats)
    with one_core():
        chunked = [_in_fresh_process(CHUNK, COMPARED_PAIRS) for _ in range(repeats)]
        at_once = [_in_fresh_process(None, COMPARED_PAIRS) for _ in range(repeats)]
        check_same_work("a step", chunked[0], at_once[0])
        great = [_in_fresh_process(CHUNK, pairs) for _ in range(repeats)]
    ours, theirs, most = ([each.step_bytes / 1e6 for each in side] for side in (chunked, at_once, great))
    our_seconds, their_seconds = ([each.cpu_seconds for each in side] for side in (chunked, at_once))
    few, many = number(COMPARED_PAIRS), number(pairs)
    rows = [
        Row.compare(f"memory of a step of {few} pairs, MB", PEER, ours, theirs),
        Row.compare(f"CPU seconds of a step of {few} pairs", PEER, our_seconds, their_seconds),
        Row.compare(f"memory of a step of {many} pairs, MB", f"{few} at once", most, theirs),
    ]
    note = (
        f"{RECIPE}'s text tower, {TOKENS} tokens a caption, {CHUNK} captions at once, fp32, one thread. At "
        f"{few} pairs loss and gradient's norm are those of all captions at once to 1e-6 and 1e-5; the step "
        f"of {many} took {great[0].cpu_seconds:.0f} s of CPU time."
    )
    command = f"python -m benchmarks {NAME} --repeats {repeats} --pairs {pairs}"
    sides = {"chunked": chunked, "at once": at_once, "great": great}
    measured = {key: [asdict(each) for each in side] for key, side in sides.items()}
    return Result(NAME, command, rows, [note], describe(), measured)
