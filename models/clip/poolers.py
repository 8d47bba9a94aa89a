"""A pair of towers as VisionTextDualEncoderModel, whose tanh poolers are made to do nothing.

That class of transformers projects what a pooler makes of a state, tanh(W h + b), while this family projects the state
h itself. With W = e times the identity, e a power of two so small that tanh(e h) is e h in fp32, and projections
divided by e, features are equal bit for bit: powers of two round nothing.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertModel, VisionTextDualEncoderConfig, VisionTextDualEncoderModel, ViTModel

from models.clip.network import MAX_SCALE
from models.objective import Mismatch

EXACT_BITS = 12
"""tanh(x) = x (1 - x**2 / 3 + ...), so below 2**-12 it is x in fp32, of which half a unit in the last place is 2**-25
of a number at least."""


def with_poolers(network: Any) -> VisionTextDualEncoderModel:
    """A pair of towers in the form that is kept and released.

    Raises:
        Mismatch: the locked tower is not there, or it is somebody else's pair with poolers of its own.
    """
    if network.tower is None or network.reads == "pooler":
        what = "is not there" if network.tower is None else "is read through a pooler of its own"
        raise Mismatch(f"the image tower {what}, so these weights have no form of this family")
    with torch.no_grad():
        scale = min(float(network.scale()), MAX_SCALE)
    contrast = dict(network.contrast)
    if network.logit_bias is not None:
        contrast["bias"] = float(network.logit_bias)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        network.tower.config,
        network.text_tower.config,
        projection_dim=network.text_projection.out_features,
        logit_scale_init_value=math.log(scale),
        contrast=contrast,
    )
    found = VisionTextDualEncoderModel(config, ViTModel(network.tower.config), BertModel(network.text_tower.config))
    tensors = {"logit_scale": found.logit_scale.detach() if network.logit_scale is None else network.logit_scale}
    image, text = ("vision_model", network.tower, network.tower.layernorm), _text_parts(network.text_tower)
    for (name, tower, norm), projection, key in (
        (image, network.visual_projection, "visual_projection.weight"),
        (text, network.text_projection, "text_projection.weight"),
    ):
        small, weight = 2.0 ** -_bits(norm), projection.weight.detach()
        tensors |= {f"{name}.{each}": tensor for each, tensor in tower.state_dict().items()}
        width = tower.config.hidden_size
        tensors[f"{name}.pooler.dense.weight"] = small * torch.eye(width, dtype=weight.dtype)
        tensors[f"{name}.pooler.dense.bias"] = torch.zeros(width, dtype=weight.dtype)
        tensors[key] = weight / small
    found.load_state_dict(tensors)
    return found.eval()


def _text_parts(bert: Any) -> tuple[str, Any, nn.LayerNorm]:
    layers = bert.encoder.layer
    return "text_model", bert, layers[len(layers) - 1].output.LayerNorm


def _bits(norm: Any) -> int:
    """Of the power of two by which a tower's states become small enough, whatever it sees.

    A norm gives at most sqrt(width) times its weight, and its bias.
    """
    root = math.sqrt(norm.weight.numel())
    largest = float((norm.weight.detach().abs() * root + norm.bias.detach().abs()).max())
    return max(0, math.ceil(math.log2(max(largest, 1.0)))) + EXACT_BITS


def take_poolers_off(model: Any) -> bool:
    """Undo `with_poolers`; False, and nothing is done, where poolers do anything."""
    small = [factor_of(tower) for tower in (model.vision_model, model.text_model)]
    if None in small:
        return False
    with torch.no_grad():
        for projection, factor in zip((model.visual_projection, model.text_projection), small, strict=True):
            projection.weight.mul_(factor)
    model.vision_model.pooler = model.text_model.pooler = None
    return True


def factor_of(tower: Any) -> float | None:
    """The power of two that a tower's pooler multiplies with, if that is all it does; None else."""
    dense = getattr(getattr(tower, "pooler", None), "dense", None)
    if dense is None or bool(dense.bias.any()):
        return None
    weight: Tensor = dense.weight.detach()
    factor = float(weight[0, 0])
    if not 0 < factor <= 2.0**-EXACT_BITS or math.frexp(factor)[0] != 0.5:
        return None
    return factor if torch.equal(weight, factor * torch.eye(len(weight), dtype=weight.dtype)) else None
