"""A step of locked-image tuning over ViT-B/16: ours on the tower's features beside open_clip with `lock_image_tower`.

Both sides take the CLIP loss over a batch, forward and backward pass of the text tower, clipping and fused AdamW, in
fp32, captions of 77 tokens; open_clip passes the pictures through the locked tower in every step, ours reads features
that were computed once. Text towers are of the same width and depth: open_clip's own (512) and BERT's (768). From tar
to update, open_clip decodes and prepares JPEGs too; ours reads shards of features in a memory map, whose making is paid
once for all epochs and stands apart in the notes. Beside them stands our own step on pixels, which must give the losses
of the step on features.

Each side has a fresh process, and sides take turns. The figure is pairs per second of CPU time, of one thread on one
core; the first step of each process is left out.
"""

import io
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe, one_core
from benchmarks.peers import python_of
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, peer_command, run_side
from components.markdown import number
from components.outcomes import Refused

NAME = "lit-step"
VOCAB, TOKENS, SHORT_TOKENS, WIDTH, PROJECTION = 49_408, 77, 32, 768, 512
TEXT_TOWERS = {"open_clip's text tower": (512, 8), "a text tower of BERT's width": (768, 12)}
WANTED = {"open_clip's text tower": 2.5, "a text tower of BERT's width": 1.6}
TAR_RATIO, CACHE_RATIOS, LOSS_TOLERANCE = 3.0, {TOKENS: 1.6, SHORT_TOKENS: 2.3}, 1e-5
NUM_LAYERS, PICTURE_PX = 12, (500, 375)
SEED = 0


def towers(width: int, heads: int) -> Any:
    """Our pair of towers with random weights, in training."""
    import torch

    from models.clip.network import build, equip
    from models.clip.schema import Clip, Dual, ImageTower, TextTower

    torch.manual_seed(SEED)
    sizes = {"hidden_size": width, "num_heads": heads, "intermediate_size": 4 * width}
    text = TextTower(num_layers=NUM_LAYERS, num_positions=TOKENS, **sizes)
    section = Dual(kind="dual", tower="tower", tower_width=WIDTH, text=text, projection_size=PROJECTION)
    network: Any = build(section, {"vocab_size": VOCAB})
    equip(network, Clip(kind="clip"))
    vit: Any = build(ImageTower(kind="image-tower"), {"num_labels": 2})
    network.tower = vit.vit.requires_grad_(False)
    return network.train()


def main(work_file: Path, outcome: Path) -> None:
    """Our side: steps in this process, which should be a fresh one."""
    import torch

    from models.clip.objectives import objective
    from models.clip.schema import Clip
    from models.objective import Setting

    torch.set_num_threads(1)
    work = json.loads(work_file.read_text(encoding="utf-8"))
    network = towers(*work["text"])
    whole: Any = objective(Clip(kind="clip"), network, Setting({}))
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True)
    torch.manual_seed(SEED)
    rows = work["batch_pairs"]
    pixels, ids = torch.randn(rows, 3, 224, 224), torch.randint(1, VOCAB - 1, (rows, work["tokens"]))
    batch = {"ids": ids, "mask": torch.ones_like(ids), "pixels": pixels}
    began = time.process_time()
    features = network.tower_features(pixels)
    tower_seconds = time.process_time() - began
    if work["has_features"]:
        batch = {key: value for key, value in batch.items() if key != "pixels"} | {"features": features}
    losses = []
    for step in range(work["num_steps"] + 1):
        if step == 1:
            began = time.process_time()
        loss = whole(batch).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    found = {
        "step_seconds": (time.process_time() - began) / work["num_steps"],
        "tower_seconds": tower_seconds,
        "losses": losses,
        "flops": whole.num_flops(batch),
        "trained_parameters": sum(each.numel() for each in trained),
        "name": "Hiraku",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


def write_tar(path: Path, pictures: int) -> None:
    """Drawn photographs: noise of several sizes, as JPEGs of a web picture's size, with ids of a caption."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(SEED)
    with tarfile.open(path, "w") as tar:
        for place in range(pictures):
            layers = [rng.integers(0, 256, (size * 3 // 4, size, 3), dtype=np.uint8) for size in (4, 40, 400)]
            scaled = [np.asarray(Image.fromarray(each).resize(PICTURE_PX), dtype=np.float32) for each in layers]
            picture = Image.fromarray((0.6 * scaled[0] + 0.3 * scaled[1] + 0.1 * scaled[2]).astype(np.uint8))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=90)
            ids = rng.integers(1, VOCAB - 1, TOKENS).tolist()
            for suffix, content in (("jpg", stream.getvalue()), ("json", json.dumps({"ids": ids}).encode())):
                member = tarfile.TarInfo(f"{place:09d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


class _Sides:
    """Fresh processes of both sides, in a folder of their own."""

    def __init__(self, folder: Path, python: Path, batch_pairs: int, num_steps: int) -> None:
        self.folder, self.python = folder, python
        self.shared = {"batch_pairs": batch_pairs, "num_steps": num_steps, "seed": SEED}

    def ours(self, text: tuple[int, int], tokens: int = TOKENS, has_features: bool = True) -> dict[str, Any]:
        work = self.shared | {"text": text, "tokens": tokens, "has_features": has_features}
        return self._run(our_command("benchmarks.lit_step"), work)

    def theirs(self, text: tuple[int, int], tar: Path | None = None) -> dict[str, Any]:
        width, heads = text
        tower = {"width": width, "heads": heads, "layers": NUM_LAYERS, "vocab_size": VOCAB, "context_length": TOKENS}
        work = self.shared | {"text": tower, "tar": str(tar) if tar else None}
        return self._run(peer_command(self.python, "open_clip_lit.py"), work)

    def _run(self, command: list[str], work: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / "work.json"
        path.write_text(json.dumps(work), encoding="utf-8")
        return run_side(command, [str(path)], self.folder / "outcome.json")


def check_same_losses(cached: dict[str, Any], uncached: dict[str, Any]) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: features and pixels give other losses.
    """
    for step, (mine, other) in enumerate(zip(cached["losses"], uncached["losses"], strict=True)):
        if not abs(mine - other) <= LOSS_TOLERANCE * max(1.0, abs(other)):
            raise Refused(f"The loss of step {step} is {mine:.7f} on features and {other:.7f} on pixels.")


def measure(*, repeats: int = 1, num_steps: int = 3, batch_pairs: int = 8) -> Result:
    """A step of locked-image tuning over ViT-B/16, on one core, beside open_clip 3.3.0.

    Args:
        repeats: fresh processes for each side.
        num_steps: measured in each of them, after one that is not.
        batch_pairs: of one contrast.

    Raises:
        Refused: a side fails, or features give other losses than pixels.
    """
    require_repeats(repeats)
    python, found = python_of("open_clip"), dict[str, list[dict[str, Any]]]()
    with tempfile.TemporaryDirectory() as folder, one_core():
        sides, tar = _Sides(Path(folder), python, batch_pairs, num_steps), Path(folder) / "pictures.tar"
        write_tar(tar, batch_pairs * (num_steps + 1))
        for _ in range(repeats):
            for title, text in TEXT_TOWERS.items():
                found.setdefault(f"{title}, ours", []).append(sides.ours(text))
                found.setdefault(f"{title}, theirs", []).append(sides.theirs(text))
            own, bert = TEXT_TOWERS.values()
            found.setdefault("tar", []).append(sides.theirs(own, tar))
            found.setdefault(f"pixels {TOKENS}", []).append(sides.ours(bert, has_features=False))
            for has_features in (True, False):
                key = f"{'features' if has_features else 'pixels'} {SHORT_TOKENS}"
                found.setdefault(key, []).append(sides.ours(bert, SHORT_TOKENS, has_features))
            found.setdefault(f"features {TOKENS}", []).append(found["a text tower of BERT's width, ours"][-1])
            for tokens in CACHE_RATIOS:
                check_same_losses(found[f"features {tokens}"][-1], found[f"pixels {tokens}"][-1])
    command = f"python -m benchmarks {NAME} --repeats {repeats} --num-steps {num_steps} --batch-pairs {batch_pairs}"
    return Result(NAME, command, _rows(found, batch_pairs), _notes(found, batch_pairs, num_steps), describe(), found)


def _rows(found: dict[str, list[dict[str, Any]]], pairs: int) -> list[Row]:
    def speeds(key: str) -> list[float]:
        return [pairs / each["step_seconds"] for each in found[key]]

    peer = found["tar"][0]["name"]
    rows = [
        Row.compare(f"the step alone, {title}: pairs per CPU second", f"{peer}, lock_image_tower",
                    speeds(f"{title}, ours"), speeds(f"{title}, theirs"), at_least=wanted)
        for title, wanted in WANTED.items()
    ]  # fmt: skip
    ours = speeds("open_clip's text tower, ours")
    rows.append(
        Row.compare("from tar to update, open_clip's text tower: pairs per CPU second", f"{peer}, JPEGs of a tar", ours,
                    speeds("tar"), at_least=TAR_RATIO)
    )  # fmt: skip
    rows += [
        Row.compare(f"BERT base, {tokens} tokens: pairs per CPU second", "our own step on pixels",
                    speeds(f"features {tokens}"), speeds(f"pixels {tokens}"), at_least=wanted)
        for tokens, wanted in CACHE_RATIOS.items()
    ]  # fmt: skip
    return rows


def _notes(found: dict[str, list[dict[str, Any]]], pairs: int, num_steps: int) -> list[str]:
    first = {key: each[0] for key, each in found.items()}
    own, bert = (first[f"{title}, ours"] for title in TEXT_TOWERS)
    gaps = [
        max(abs(a - b) for a, b in zip(first[f"features {t}"]["losses"], first[f"pixels {t}"]["losses"], strict=True))
        for t in CACHE_RATIOS
    ]
    ceilings = ", ".join(
        f"{first[f'pixels {tokens}']['flops'] / first[f'features {tokens}']['flops']:.2f} at {tokens} tokens"
        for tokens in CACHE_RATIOS
    )
    work = (
        f"ViT-B/16 at 224 pixels, locked; captions of {TOKENS} tokens, vocabulary {number(VOCAB)}, batch {pairs}, "
        f"fp32; {num_steps} steps a process after one that is left out; text towers of "
        f"{number(own['trained_parameters'])} "
        f"and {number(bert['trained_parameters'])} trained parameters of ours."
    )
    seconds = bert["tower_seconds"] / pairs
    return [
        work,
        f"Computing the features takes {seconds:.2f} s of CPU time a picture, once for all epochs.",
        f"By FLOPs a step on features can be faster than one on pixels by at most {ceilings} (BERT base).",
        f"Losses on features and on pixels differ by at most {max(gaps):.1g} over {num_steps + 1} steps.",
    ]


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]), Path(sys.argv[2]))
