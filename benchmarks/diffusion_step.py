"""A training step of Stable Diffusion: ours on latents that were computed once beside diffusers' own, written plainly.

Both sides take the same weights, pictures, captions, noise and timesteps, in fp32: encode the captions, say the noise,
mean squared error, backward pass, clipping, AdamW. diffusers' step encodes the picture in every step, as its training
script does; ours reads latents, whose making is paid once for all epochs and stands apart in the notes. In stage 1 the
text encoder learns alone, in stage 2 the U-Net too.

Networks have an eighth of the channels of Stable Diffusion v1-4 (`diffusion_step.json`). The U-Net has an eighth of its
heads too, so that they are as wide as there: eight heads of five channels would cost more than all else. The text
encoder has two heads of 48 channels where v1-4 has twelve of 64, and a table of 4,000 rows, an eighth of the 32,000
pieces of `japanese-stable-diffusion`; v1-4 has 49,408. Pictures have 256 pixels a side, not 512.

Each side has a fresh process, and sides take turns. The figure is steps per second of CPU time, of one thread on one
core; the first step of each process is left out.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe, one_core
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, peer_command, run_side
from components.markdown import number
from components.outcomes import Refused

NAME = "diffusion-step"
CONFIGURATION = Path(__file__).with_suffix(".json")
STAGES = {"stage 1": ["text_encoder"], "stage 2": ["text_encoder", "unet"]}
WANTED = {"stage 1": 1.35, "stage 2": 1.15}
LOSS_TOLERANCE = 1e-5
LEARNING_RATE, CLIP_NORM, SEED = 1e-4, 1.0, 0
SCALING_FACTOR = 0.18215
"""Of latents, as v1-4 has it: of 1, the losses would be the same if a side left it out."""
BEGIN, END, PAD = 1, 2, 3


def write_work(folder: Path, batch_pictures: int, num_steps: int) -> dict[str, Any]:
    """Weights with random numbers, and what every step sees: pictures, ids, noise, timesteps.

    Returns:
        Parameters by part.
    """
    import torch
    from safetensors.torch import save_file

    from models.stable_diffusion import convert
    from models.stable_diffusion.network import Diffusion, build
    from models.stable_diffusion.schema import LatentDiffusion, Vae

    sizes = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    side, vocab_size = sizes["picture_px"], sizes["vocab_size"]
    torch.manual_seed(SEED)
    vae: Any = build(Vae(kind="vae", size_px=side, **sizes["vae"]), {})
    vae.register_to_config(scaling_factor=SCALING_FACTOR)
    latent = side >> (len(sizes["vae"]["block_channels"]) - 1)
    unet = sizes["unet"] | {"latent_size": latent}
    section = LatentDiffusion(kind="latent-diffusion", vae="vae", unet=unet, text=sizes["text"])
    facts = {"vocab_size": vocab_size, "bos": BEGIN, "eos": END, "pad": PAD}
    made: Any = build(section, facts)
    convert.save(Diffusion(vae, made.unet, made.text_encoder, made.scheduler), folder / "weights")
    tokens, rows = sizes["text"]["num_positions"], (num_steps + 1, batch_pictures)
    given = {
        "pixels": torch.rand(*rows, 3, side, side) * 2 - 1,
        "ids": torch.randint(PAD + 1, vocab_size, (*rows, tokens)),
        "drawn": torch.randn(*rows, 4, latent, latent),
        "noise": torch.randn(*rows, 4, latent, latent),
        "timesteps": torch.randint(0, 1000, rows),
    }
    save_file(given, folder / "given.safetensors")
    parts = {"U-Net": made.unet, "text encoder": made.text_encoder, "autoencoder": vae}
    return {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}


def main(work_file: Path, outcome: Path) -> None:
    """Our side: steps in this process, which should be a fresh one."""
    import torch
    from safetensors.torch import load_file

    from models.objective import Setting
    from models.stable_diffusion import convert, features
    from models.stable_diffusion.objectives import objective
    from models.stable_diffusion.schema import AlignedNoise

    torch.set_num_threads(1)
    work = json.loads(work_file.read_text(encoding="utf-8"))
    folder = work_file.parent
    network: Any = convert.load(folder / "weights")
    for part in ("text_encoder", "unet", "vae"):
        if part not in work["trains"]:
            network.freeze(part)
    given = load_file(folder / "given.safetensors")
    began = time.process_time()
    moments = [features.moments(network, pixels) for pixels in given["pixels"]]
    encoding_seconds = (time.process_time() - began) / given["pixels"].shape[:2].numel()
    latents = [
        (mean + deviation * drawn).clone() for (mean, deviation), drawn in zip(moments, given["drawn"], strict=True)
    ]
    facts = {"max_tokens": given["ids"].shape[2], "bos": BEGIN, "eos": END, "pad": PAD}
    section = AlignedNoise(kind="noise", caption_dropout=0, trains=work["trains"])
    whole: Any = objective(section, network.train(), Setting(facts))
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)
    losses = []
    for step, own in enumerate(latents):
        if step == 1:
            began = time.process_time()
        batch = {key: given[key][step] for key in ("ids", "noise", "timesteps")} | {"latents": own}
        loss = whole(batch).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    found = {
        "step_seconds": (time.process_time() - began) / (len(latents) - 1),
        "encoding_seconds": encoding_seconds,
        "losses": losses,
        "name": "Hiraku",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


def check_same_losses(stage: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse a comparison of different work.

    Raises:
        Refused: the sides have other losses.
    """
    for step, (mine, other) in enumerate(zip(ours["losses"], theirs["losses"], strict=True)):
        if not abs(mine - other) <= LOSS_TOLERANCE * max(1.0, abs(other)):
            raise Refused(f"The loss of step {step} of {stage} is {mine:.7f} of ours and {other:.7f} of diffusers'.")


def measure(*, repeats: int = 5, num_steps: int = 3, batch_pictures: int = 2) -> Result:
    """A training step of Stable Diffusion with cached latents, on one core, beside diffusers' own step.

    Args:
        repeats: rounds, each with a fresh process for every side.
        num_steps: measured in each of them, after one that is not.
        batch_pictures: of one step.

    Raises:
        Refused: a side fails, or the losses differ.
    """
    require_repeats(repeats)
    found = dict[str, list[dict[str, Any]]]()
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name)
        sizes = write_work(folder, batch_pictures, num_steps)
        commands = {
            "ours": our_command("benchmarks.diffusion_step"),
            "theirs": peer_command(Path(sys.executable), "diffusers_step.py"),
        }
        for _ in range(repeats):
            for stage, trains in STAGES.items():
                work = folder / "work.json"
                shared = {"trains": trains, "learning_rate": LEARNING_RATE, "clip_norm": CLIP_NORM}
                work.write_text(json.dumps(shared), encoding="utf-8")
                for side, command in commands.items():
                    outcome = run_side(command, [str(work)], folder / "outcome.json")
                    found.setdefault(f"{stage}, {side}", []).append(outcome)
                check_same_losses(stage, *(found[f"{stage}, {side}"][-1] for side in commands))
    repeated = (
        f"python -m benchmarks {NAME} --repeats {repeats} --num-steps {num_steps} --batch-pictures {batch_pictures}"
    )
    return Result(NAME, repeated, _rows(found), _notes(found, sizes, batch_pictures, num_steps), describe(), found)


def _rows(found: dict[str, list[dict[str, Any]]]) -> list[Row]:
    def speeds(key: str) -> list[float]:
        return [1 / each["step_seconds"] for each in found[key]]

    return [
        Row.compare(
            f"{stage}: steps per CPU second",
            found[f"{stage}, theirs"][0]["name"],
            speeds(f"{stage}, ours"),
            speeds(f"{stage}, theirs"),
            at_least=wanted,
        )
        for stage, wanted in WANTED.items()
    ]


def _notes(found: dict[str, list[dict[str, Any]]], sizes: dict[str, int], pictures: int, num_steps: int) -> list[str]:
    gaps = []
    for stage in STAGES:
        ours, theirs = (found[f"{stage}, {side}"][0]["losses"] for side in ("ours", "theirs"))
        gaps += [abs(mine - other) for mine, other in zip(ours, theirs, strict=True)]
    parts = ", ".join(f"{name} {number(count)}" for name, count in sizes.items())
    side = json.loads(CONFIGURATION.read_text(encoding="utf-8"))["picture_px"]
    seconds = found["stage 1, ours"][0]["encoding_seconds"]
    return [
        (
            f"Networks of an eighth of v1-4's channels ({CONFIGURATION.name}), the U-Net with an eighth of its heads "
            f"too: parameters of {parts}; pictures of {side} x {side} pixels, batch {pictures}, fp32; {num_steps} "
            "steps a process after one that is left out."
        ),
        f"Computing latents takes {seconds:.2f} s of CPU time a picture, once for all epochs.",
        f"Given the same latents and noise, losses differ by at most {max(gaps):.1g} over {num_steps + 1} steps.",
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
