"""Miniature recipes of an autoencoder and of latent diffusion, on the coloured squares."""

from typing import Any

from components import paths
from tests.components.image.small_squares import small_records, write_project
from tests.components.speech.small_speech import write_yaml

PX = 16
VAE: dict[str, Any] = {
    "kind": "vae", "size_px": PX, "block_channels": [8, 16], "layers_per_block": 1, "norm_groups": 4
}  # fmt: skip
UNET: dict[str, Any] = {
    "block_channels": [16, 32], "attention": [True, False], "layers_per_block": 1, "num_heads": 2, "norm_groups": 4,
    "latent_size": 8,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 24
}  # fmt: skip
DIFFUSION: dict[str, Any] = {"kind": "latent-diffusion", "vae": "small-vae", "unet": UNET, "text": TEXT}
ENCODERS: dict[str, dict[str, Any]] = {
    "small-pixels": {"kind": "pixels", "size_px": PX},
    "small-latents": {"kind": "latents", "model": "small-vae", "size_px": PX, "dtype": "fp32", "variance": True},
    "words": {
        "kind": "captions", "tokenizer": "spm", "corpora": [{"corpus": "squares"}], "layout": "clip", "max_tokens": 24
    },
    "other-spm": {"kind": "sentencepiece", "corpora": [{"corpus": "words"}], "vocab_size": 300},
    "other-words": {
        "kind": "captions", "tokenizer": "other-spm", "corpora": [{"corpus": "squares"}], "layout": "clip",
        "max_tokens": 24,
    },
}  # fmt: skip
BATCHES = {"batch_samples": 8, "micro_batch_samples": 4}


def recipe(network: dict[str, Any], encoder: str, layout: str, **sections: Any) -> dict[str, Any]:
    return {
        "family": "stable_diffusion", "description": "Small.", "language": "ja", "licence": "CC0-1.0",
        "network": network, "encoder": encoder, "evaluate": {"tasks": ["named"]},
        "package": {"layouts": [layout], "title": "A", "summary": "A.", "limits": "None."},
    } | sections  # fmt: skip


def training(encoder: str, objective: dict[str, Any], **keys: Any) -> dict[str, Any]:
    samples = {"form": "latents", "latents": ["squares+small-latents"], **BATCHES}
    return {
        "objective": objective, "shards": [{"shards": f"squares+{encoder}"}], "num_steps": 4, "valid_samples": 4,
        "samples": samples, "optimizer": {"learning_rate": 0.01}, "validate_every_steps": 2, "log_every_steps": 1,
        "preview": {"prompts": ["青い四角"], "num_steps": 2},
    } | keys  # fmt: skip


def autoencoder() -> dict[str, Any]:
    objective = {"kind": "vae"}
    section = training("small-pixels", objective, samples={"form": "pictures", **BATCHES}, preview={})
    return recipe(VAE, "small-pixels", "vae", pretrain=section)


def base(**keys: Any) -> dict[str, Any]:
    section = training("words", {"kind": "noise"}, **keys)
    return recipe(DIFFUSION, "words", "diffusers", pretrain=section)


def stage1(**keys: Any) -> dict[str, Any]:
    objective = {"kind": "noise", "trains": ["text_encoder"], "text_encoder_start": "random", "min_snr_gamma": 5}
    section = training("other-words", objective, ema_decay=0.9, **keys)
    return recipe(DIFFUSION, "other-words", "diffusers", starts_from="small-base", align=section)


def stage2(start: str = "small-stage1", **keys: Any) -> dict[str, Any]:
    section = training("other-words", {"kind": "noise"}, ema_decay=0.9, **keys)
    return recipe(DIFFUSION, "other-words", "diffusers", starts_from=start, align=section)


def foreign(folder: str, licence: str = "CC0-1.0") -> dict[str, Any]:
    return {"family": "stable_diffusion", "source": f"path:{folder}", "layout": "diffusers", "licence": licence}


ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("components", "models", "flows", "benchmarks"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
from diffusers import DiffusionPipeline

assert type(DiffusionPipeline.from_pretrained("small-stage2")).__name__ == "StableDiffusionPipeline"
"""
"""The head of a program that finds nothing of ours."""
RECIPES = {"small-vae": autoencoder, "small-base": base, "small-stage1": stage1, "small-stage2": stage2}


def write_diffusion_project(num_records: int = 48) -> None:
    """Everything that the stages need, in the folder where this process is."""
    write_project(small_records(num_records))
    for name, encoder in ENCODERS.items():
        write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", encoder)
    write_yaml(paths.RECIPES / "tasks" / "named.yaml", {"kind": "reconstruction", "corpus": "squares"})
    for name, make in RECIPES.items():
        write_yaml(paths.RECIPES / f"{name}.yaml", make())
