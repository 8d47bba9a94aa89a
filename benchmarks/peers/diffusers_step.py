"""Training steps of Stable Diffusion with diffusers alone: each encodes its pictures, as diffusers' script does.

    python diffusers_step.py WORK_FILE OUTCOME

WORK_FILE is JSON: `trains` (of text_encoder and unet), `learning_rate`, `clip_norm`. Beside it lie `weights`, a folder
for each part, and `given.safetensors`: [steps, pictures, …] of pixels, ids, drawn, noise, timesteps.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel


def main(work_file: Path, outcome: Path) -> None:
    """Steps in this process, which should be a fresh one."""
    torch.set_num_threads(1)
    work, weights = json.loads(work_file.read_text(encoding="utf-8")), work_file.parent / "weights"
    parts: dict[str, Any] = {
        "vae": AutoencoderKL.from_pretrained(weights / "vae"),
        "unet": UNet2DConditionModel.from_pretrained(weights / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(weights / "text_encoder"),
    }
    scheduler = DDPMScheduler.from_pretrained(weights / "scheduler")
    for name, part in parts.items():
        part.requires_grad_(name in work["trains"]).train(name in work["trains"])
    trained = [each for part in parts.values() for each in part.parameters() if each.requires_grad]
    # Fused, as ours: the comparison is of cached latents, not of AdamW.
    optimizer = torch.optim.AdamW(trained, lr=work["learning_rate"], fused=True)
    given = load_file(work_file.parent / "given.safetensors")
    losses, began = [], 0.0
    for step in range(len(given["pixels"])):
        if step == 1:
            began = time.process_time()
        batch = {key: value[step] for key, value in given.items()}
        with torch.no_grad():
            found = parts["vae"].encode(batch["pixels"]).latent_dist
            # `sample()` with its noise given, so that both sides see the same latents.
            latents = (found.mean + found.std * batch["drawn"]) * parts["vae"].config.scaling_factor
        noisy = scheduler.add_noise(latents, batch["noise"], batch["timesteps"])
        states = parts["text_encoder"](batch["ids"])[0]
        said = parts["unet"](noisy, batch["timesteps"], states).sample
        loss = torch.nn.functional.mse_loss(said.float(), batch["noise"].float(), reduction="mean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, work["clip_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    seconds = (time.process_time() - began) / (len(given["pixels"]) - 1)
    name = f"diffusers {diffusers.__version__}, the picture encoded in every step"
    outcome.write_text(json.dumps({"step_seconds": seconds, "losses": losses, "name": name}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
