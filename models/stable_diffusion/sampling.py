"""Pictures out of a StableDiffusionPipeline: each from its prompt and its seed."""

import io
from pathlib import Path
from typing import Any

import numpy as np

NUM_AT_ONCE = 8
"""Pictures of a pass: with guidance 55 ms of the demo's U-Net on one core, where one picture takes 14.5."""


def pipeline_of(network: Any, tokenizer_folder: Path) -> Any:
    """Diffusers' pipeline around the parts of a network, without a safety checker.

    Args:
        network: a `models.stable_diffusion.network.Diffusion` with its autoencoder.
        tokenizer_folder: what `AutoTokenizer` loads.
    """
    import diffusers
    from transformers import AutoTokenizer

    kind = getattr(diffusers, network.scheduler["_class_name"])
    return quiet(
        diffusers.StableDiffusionPipeline(
            vae=network.vae,
            text_encoder=network.text_encoder,
            tokenizer=AutoTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True),
            unet=network.unet,
            scheduler=kind.from_config(network.scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def open_pipeline(folder: Path) -> Any:
    """Diffusers' pipeline of a released folder, ours or somebody else's, without a safety checker."""
    from diffusers import DiffusionPipeline

    left_out: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return quiet(
        DiffusionPipeline.from_pretrained(str(folder), local_files_only=True, use_safetensors=True, **left_out)
    )


def quiet(pipeline: Any) -> Any:
    """The same without a bar for every picture."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures(
    pipeline: Any,
    prompts: list[str],
    seeds: list[int],
    num_steps: int,
    guidance_scale: float,
    negative: str = "",
) -> np.ndarray:
    """Draw a picture for each prompt, `NUM_AT_ONCE` of them together.

    Each has noise of its own, drawn on the CPU, so a seed means the same on every device. The others of a pass change
    the last bits of its numbers, as kernels add up in another order.

    Args:
        pipeline: diffusers' StableDiffusionPipeline.
        prompts: what is asked for.
        seeds: of the noise, one for each.
        num_steps: of the pipeline's own scheduler.
        guidance_scale: how far away from the empty caption (Ho and Salimans 2022); 1 or less asks once a step.
        negative: what stands in the place of the empty caption.

    Returns:
        uint8 [pictures, height, width, 3].
    """
    import torch

    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts have {len(seeds)} seeds")
    parts = []
    for start in range(0, len(prompts), NUM_AT_ONCE):
        asked = prompts[start : start + NUM_AT_ONCE]
        with torch.inference_mode():
            found = pipeline(
                prompt=asked,
                negative_prompt=[negative] * len(asked) if guidance_scale > 1 else None,
                num_inference_steps=num_steps,
                guidance_scale=guidance_scale,
                generator=[torch.Generator("cpu").manual_seed(each) for each in seeds[start : start + NUM_AT_ONCE]],
                output_type="np",
            )
        parts.append((found.images * 255).round().astype(np.uint8))
    return np.ascontiguousarray(np.concatenate(parts)) if parts else np.empty((0, 0, 0, 3), np.uint8)


def png(picture: np.ndarray) -> bytes:
    """uint8 [height, width, 3] -> a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()
