"""What towers make of pictures and captions, for shards, tasks and filters; networks as `convert.load` gives them."""

from typing import Any

import torch
from torch import Tensor


@torch.inference_mode()
def tower_features(network: Any, pixels: Tensor) -> Tensor:
    """What an image tower's last layer says at the class token, which training takes in place of a picture.

    Args:
        network: an image tower with or without a head, or a pair of towers, in evaluation mode.
        pixels: normalised, float [pictures, 3, height, width], on its device.

    Returns:
        float [pictures, width].
    """
    if hasattr(network, "tower_features"):
        found: Tensor = network.tower_features(pixels)
        return found
    last: Tensor = getattr(network, "vit", network)(pixel_values=pixels).last_hidden_state
    return last[:, 0]


def tower_width(network: Any) -> int:
    """Numbers that `tower_features` gives of a picture."""
    if hasattr(network, "visual_projection"):
        return int(network.visual_projection.in_features)
    return int(network.config.hidden_size)


def tower_size_px(network: Any) -> int | None:
    """Height and width of the pictures that an image tower takes; None where it is not there."""
    tower = network.tower if hasattr(network, "visual_projection") else network
    return None if tower is None else int(tower.config.image_size)


@torch.inference_mode()
def image_features(network: Any, inputs: Tensor) -> Tensor:
    """Pixels or a tower's features -> [pictures, projection], of any length, of a pair of towers."""
    found: Tensor = network.image_features(inputs)
    return found


@torch.inference_mode()
def text_features(network: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Ids and mask of captions [captions, tokens] -> [captions, projection], of any length, of a pair of towers."""
    found: Tensor = network.text_features(ids, mask)
    return found
