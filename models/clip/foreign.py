"""Networks out of folders, whoever wrote them: one reader for each kind of configuration."""

from pathlib import Path
from typing import Any

import transformers
from torch import nn

from models.clip.client import is_client
from models.clip.client import read as read_client
from models.clip.network import DualEncoder
from models.clip.poolers import take_poolers_off
from models.clip.timm import is_timm, read_timm
from models.objective import Mismatch


def read(folder: Path, config: dict[str, Any]) -> nn.Module:
    """The network of a folder, each of whose tensors must be there.

    Raises:
        Mismatch: a tensor is missing, or nothing here reads such a configuration.
    """
    if is_timm(folder):
        return read_timm(folder)
    if is_client(config):
        return read_client(folder, config)
    readers = {"vision-text-dual-encoder": _dual, "clip": _clip, "vit": _vit, "blip": _blip}
    kind = config.get("model_type")
    if kind not in readers:
        raise Mismatch(f"{folder} holds a network of type '{kind}', expected one of {', '.join(readers)}.")
    return readers[kind](folder, config)


def loaded(kind: Any, folder: Path, **more: Any) -> Any:
    """A network of a class of transformers.

    Raises:
        Mismatch: a tensor of it is missing, and would be left to chance.
    """
    network, told = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **more
    )
    missing = sorted(told["missing_keys"])
    if missing:
        raise Mismatch(
            f"{folder / 'model.safetensors'} lacks {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} others' if len(missing) > 3 else ''}, expected every tensor of a "
            f"{kind.__name__} with that config.json. Copy or make that folder again."
        )
    return network


def _vit(folder: Path, config: dict[str, Any]) -> nn.Module:
    """An image tower; with its head where there is one, and without a pooler, which nothing here reads."""
    has_head = "ViTForImageClassification" in (config.get("architectures") or [])
    if has_head:
        found: nn.Module = loaded(transformers.ViTForImageClassification, folder, attn_implementation="sdpa")
        return found
    return loaded(transformers.ViTModel, folder, add_pooling_layer=False, attn_implementation="sdpa")


def _blip(folder: Path, config: dict[str, Any]) -> nn.Module:  # noqa: ARG001 - as all readers
    """Somebody else's captioner."""
    found: nn.Module = loaded(transformers.BlipForConditionalGeneration, folder)
    return found


def _clip(folder: Path, config: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """Somebody else's CLIP."""
    model = loaded(transformers.CLIPModel, folder)
    return _pair(model, {"kind": "clip"})


def _dual(folder: Path, config: dict[str, Any]) -> nn.Module:
    """A pair of towers: ours, whose poolers do nothing and go; or somebody else's, whose poolers stay."""
    model = loaded(transformers.VisionTextDualEncoderModel, folder)
    contrast = dict(config.get("contrast") or {})
    bias = contrast.pop("bias", None)
    found = _pair(model, contrast or {"kind": "clip"}, reads_pooler=not take_poolers_off(model))
    if bias is not None:
        found.logit_bias = nn.Parameter(model.logit_scale.detach().new_tensor(bias))
    return found


def _pair(model: Any, contrast: dict[str, Any], reads_pooler: bool = True) -> DualEncoder:
    parts = model.vision_model, model.text_model, model.visual_projection, model.text_projection
    found = DualEncoder(*parts, reads="pooler" if reads_pooler else "class-token")
    found.contrast = contrast
    if contrast.get("kind") != "cloob":
        found.logit_scale = nn.Parameter(model.logit_scale.detach())
    return found
