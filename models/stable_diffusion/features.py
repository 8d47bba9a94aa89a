"""What an autoencoder makes of pictures, for shards; networks as `convert.load` gives them."""

from typing import Any

import torch
from torch import Tensor

MEAN = STD = (0.5, 0.5, 0.5)
"""Pictures between -1 and 1."""


def autoencoder_of(network: Any) -> Any:
    """The autoencoder, or that of a whole Stable Diffusion."""
    return getattr(network, "vae", network)


@torch.inference_mode()
def moments(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents of pictures, not scaled.

    Args:
        network: in evaluation mode.
        pixels: between -1 and 1, float [pictures, 3, height, width], on its device.

    Returns:
        Both float [pictures, channels, height / factor, width / factor].
    """
    found = autoencoder_of(network).encode(pixels).latent_dist
    return found.mean, found.std


@torch.inference_mode()
def restored(network: Any, pixels: Tensor) -> Tensor:
    """What becomes of pictures between -1 and 1 by way of the means of their latents, of the same shape and range."""
    vae = autoencoder_of(network)
    found: Tensor = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    return found.clamp(-1, 1)


def picture_size_px(network: Any) -> int:
    """Height and width of the pictures that an autoencoder was trained on."""
    return int(autoencoder_of(network).config.sample_size)


def latent_shape(network: Any, size_px: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a picture of so many pixels a side.

    Raises:
        ValueError: the side is not a multiple of what latents are smaller by.
    """
    config = autoencoder_of(network).config
    factor = 2 ** (len(config.block_out_channels) - 1)
    if size_px % factor:
        raise ValueError(
            f"size_px {size_px} is not a multiple of {factor}, by which this autoencoder's latents are smaller"
        )
    return int(config.latent_channels), size_px // factor, size_px // factor


def scaling_factor(network: Any) -> float:
    """What latents are multiplied with, so that their standard deviation is about 1."""
    return float(autoencoder_of(network).config.scaling_factor)
