"""Autoencoders, U-Nets and text encoders: those of diffusers and transformers, every deciding field set."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.objective import Mismatch, Setting
from models.stable_diffusion.schema import (
    AlignedNoise,
    LatentDiffusion,
    Scheduler,
    Text,
    UNet,
    Vae,
    captions_in_words,
    parameters_in_words,
)
from models.stable_diffusion.sizes import num_parameters

PARTS = ("text_encoder", "unet", "vae")


class Diffusion(nn.Module):
    """A text encoder, a U-Net, and the autoencoder in whose latent space they work, which never learns."""

    def __init__(self, vae: Any, unet: Any, text_encoder: Any, scheduler: dict[str, Any]) -> None:
        """Take the parts.

        Args:
            vae: an AutoencoderKL; None where latents alone are computed with.
            unet: a UNet2DConditionModel.
            text_encoder: a CLIPTextModel.
            scheduler: the configuration of one of diffusers' schedulers, with its `_class_name`.
        """
        super().__init__()
        self.text_encoder, self.unet, self.vae = text_encoder, unet, vae
        self.scheduler = scheduler
        self.pieces = ""
        """A hash of the tokenizer whose ids the text encoder embeds; empty where nobody has said."""
        self.scaling_factor = float(vae.config.scaling_factor) if vae is not None else 1.0
        """What latents are multiplied with before noise is added to them."""
        self.sources: dict[str, Path] = {}
        """Of parts that do not learn: the folder whose files they are."""
        self.frozen_digests: dict[str, str] = {}
        if vae is not None:
            vae.requires_grad_(False)

    def freeze(self, part: str) -> None:
        """Let a part stay as it is, and note what it is."""
        getattr(self, part).requires_grad_(False)
        self.frozen_digests[part] = digest_of(getattr(self, part))

    def train(self, mode: bool = True) -> "Diffusion":
        """What does not learn stays as it evaluates."""
        super().train(mode)
        for part in self.frozen_digests:
            getattr(self, part).eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.unet.parameters()).device

    def states(self, ids: Tensor) -> Tensor:
        """Ids int64 [captions, tokens] -> what the U-Net attends to, [captions, tokens, width]; without a mask."""
        found: Tensor = self.text_encoder(input_ids=ids).last_hidden_state
        return found

    def say(self, noisy: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        """What the U-Net says of noisy latents [pictures, channels, height, width] at timesteps [pictures]."""
        found: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=states, return_dict=False)[0]
        return found


def digest_of(part: nn.Module) -> str:
    """A hash of every tensor of a network, by name; equal for equal bytes."""
    found = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def require_unmoved(network: Diffusion) -> None:
    """Make sure that what must not learn has not learnt.

    Raises:
        AssertionError: a frozen part has other bytes than at the start.
    """
    for part, digest in network.frozen_digests.items():
        if digest_of(getattr(network, part)) != digest:
            raise AssertionError(f"the weights of '{part}' have moved, but it is frozen")


# ---- configurations --------------------------------------------------------------------------------------------------


def vae_configuration(section: Vae) -> dict[str, Any]:
    """The configuration that is trained and published."""
    depth = len(section.block_channels)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * depth,
        "up_block_types": ("UpDecoderBlock2D",) * depth,
        "block_out_channels": tuple(section.block_channels),
        "layers_per_block": section.layers_per_block,
        "act_fn": "silu",
        "latent_channels": section.latent_channels,
        "norm_num_groups": section.norm_groups,
        "sample_size": section.size_px,
        "scaling_factor": 1.0,  # measured when the training ends
    }


def unet_configuration(section: UNet, latent_channels: int, text_width: int) -> dict[str, Any]:
    """The configuration that is trained and published."""
    levels = section.attention
    return {
        "sample_size": section.latent_size,
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "down_block_types": tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in levels),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(levels)),
        "block_out_channels": tuple(section.block_channels),
        "layers_per_block": section.layers_per_block,
        "act_fn": "silu",
        "norm_num_groups": section.norm_groups,
        "cross_attention_dim": text_width,
        "attention_head_dim": section.num_heads,  # diffusers' name for the number of heads
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def text_configuration(section: Text, facts: dict[str, Any]) -> CLIPTextConfig:
    """The configuration that is trained and published.

    Args:
        section: sizes.
        facts: the encoder's: `vocab_size` and the ids `bos`, `eos`, `pad`.
    """
    here: dict[str, Any] = {"attn_implementation": "sdpa"}
    return CLIPTextConfig(
        **here,
        architectures=["CLIPTextModel"],
        vocab_size=int(facts["vocab_size"]),
        hidden_size=section.hidden_size,
        intermediate_size=section.intermediate_size,
        projection_dim=section.hidden_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        max_position_embeddings=section.num_positions,
        hidden_act=section.activation,
        layer_norm_eps=1e-5,
        bos_token_id=int(facts.get("bos", 1)),
        eos_token_id=int(facts.get("eos", 2)),
        pad_token_id=int(facts.get("pad", 3)),
    )


def scheduler_configuration(section: Scheduler) -> dict[str, Any]:
    """The scheduler that a release samples with: DDIM with the settings of Stable Diffusion v1."""
    found = DDIMScheduler(
        num_train_timesteps=section.num_timesteps,
        beta_start=section.beta_start,
        beta_end=section.beta_end,
        beta_schedule=section.beta_schedule,
        prediction_type=section.prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {"_class_name": "DDIMScheduler", **dict(found.config)}


def sample_maker(section: Vae | LatentDiffusion) -> str | None:
    """The recipe whose weights compute the samples: latents are those of the network's own autoencoder."""
    return None if isinstance(section, Vae) else section.vae


# ---- making them -----------------------------------------------------------------------------------------------------


def build(section: Vae | LatentDiffusion, facts: dict[str, Any]) -> nn.Module:
    """A network with random weights, drawn from torch's global generator: seed it first. No autoencoder beside a U-Net.

    Args:
        section: sizes.
        facts: the encoder's: of captions `vocab_size`, `bos`, `eos`, `pad`.
    """
    if isinstance(section, Vae):
        return AutoencoderKL(**vae_configuration(section))
    text = CLIPTextModel(text_configuration(section.text, facts))
    unet = UNet2DConditionModel(**unet_configuration(section.unet, section.latent_channels, section.text.hidden_size))
    return Diffusion(None, unet, text, scheduler_configuration(section.scheduler))


def begin(section: Vae | LatentDiffusion, objective: Any, setting: Setting) -> nn.Module:
    """The network that a training begins with.

    Args:
        section: the recipe's network.
        objective: the section of the objective.
        setting: says where the autoencoder lies, and the weights to start from.

    Raises:
        Mismatch: other weights are missing or of another shape.
    """
    if isinstance(section, Vae):
        return build(section, setting.facts)
    from models.stable_diffusion.start import autoencoder, require_same_autoencoder, started

    vae, source = autoencoder(section, setting.parents[section.vae])
    if setting.start is None:
        network: Any = build(section, setting.facts)
        trains: list[str] = ["text_encoder", "unet"]
    else:
        assert isinstance(objective, AlignedNoise)  # noqa: S101 - the schema says so
        require_same_autoencoder(section, setting.start, source)
        network = started(section, objective, setting)
        trains = list(objective.trains)
    whole = Diffusion(vae, network.unet, network.text_encoder, network.scheduler)
    whole.pieces = str(setting.facts.get("pieces", ""))
    for part in PARTS:
        if part not in trains:
            whole.freeze(part)
    whole.sources["vae"] = source
    if setting.start is not None:
        whole.sources |= {part: setting.start / part for part in ("unet", "text_encoder") if part not in trains}
    return whole


def check(section: Vae | LatentDiffusion, facts: dict[str, Any], samples: Any) -> None:  # noqa: ARG001 - as every family
    """Refuse a network that does not fit its recipe or its samples, before anything is allocated.

    Raises:
        Mismatch: as it says.
    """
    if isinstance(section, Vae):
        found_px = facts.get("size_px")
        if found_px is not None and found_px != section.size_px:
            raise Mismatch(
                f"the pictures have {found_px} pixels a side, but network.size_px is {section.size_px}. Change one."
            )
    elif facts.get("layout") != "clip":
        raise Mismatch(
            f"network.kind is '{section.kind}', whose text encoder reads captions with a start and an end, but the "
            "encoder makes other ones. Name an encoder of kind 'captions' with the key layout: clip."
        )
    found, expected = num_parameters(section, int(facts.get("vocab_size", 0))), section.expected_num_parameters
    if expected is not None and found != expected:
        raise Mismatch(parameters_in_words(found, expected))
    if isinstance(section, LatentDiffusion):
        _check_captions(section, facts)
        _check_latents(section, facts)


def _check_captions(section: LatentDiffusion, facts: dict[str, Any]) -> None:
    longest, positions = int(facts.get("max_tokens", 0)), section.text.num_positions
    if longest != positions:
        raise Mismatch(captions_in_words(longest, positions))


def _check_latents(section: LatentDiffusion, facts: dict[str, Any]) -> None:
    shape = facts.get("latent_shape")
    side, wanted = section.unet.latent_size, [section.latent_channels] + [section.unet.latent_size] * 2
    if shape is not None and list(shape) != wanted:
        raise Mismatch(
            f"the shards of samples.latents hold {' x '.join(map(str, shape))} numbers a picture, but the network "
            f"takes {' x '.join(map(str, wanted))} (network.latent_channels, network.unet.latent_size {side}). They "
            "are of another autoencoder, or of pictures of another size: change the shards or the keys."
        )


def blocks(network: Any) -> list[nn.Module]:
    """The layers that are trained, first to last."""
    if isinstance(network, AutoencoderKL):
        coder = network.encoder, network.decoder
        return [*coder[0].down_blocks, coder[0].mid_block, coder[1].mid_block, *coder[1].up_blocks]
    unet = network.unet
    return [*layers_of(network.text_encoder), *unet.down_blocks, unet.mid_block, *unet.up_blocks]


def layers_of(text_encoder: Any) -> list[nn.Module]:
    """The layers of a CLIPTextModel, which versions of transformers keep in two places."""
    return list(getattr(text_encoder, "text_model", text_encoder).encoder.layers)
