"""Vision Transformers as timm writes them, under the names that transformers reads.

timm (huggingface.co/timm, `vision_transformer.py`) keeps query, key and value in one matrix, and writes its own
`config.json`. What transformers' ViT cannot compute (registers, layer scale, a norm after pooling) is refused.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from models.objective import Mismatch

LAYER_NORM_EPS = 1e-6
"""Of every ViT of timm."""
HEAD_SIZE = 64
"""Of every head but those of the huge models, which have 80."""
HALF = (0.5, 0.5, 0.5)
OUTER = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
INNER = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def is_timm(folder: Path) -> bool:
    """Whether a folder's configuration is timm's."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "architecture" in config and "model_type" not in config


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of timm under the names that save_pretrained of a ViTForImageClassification writes.

    Raises:
        Mismatch: it holds what transformers' ViT does not have.
    """
    found: dict[str, Tensor] = {}
    strange = []
    for name, tensor in tensors.items():
        inner = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in OUTER:
            found[f"vit.{OUTER[name]}"] = tensor
        elif name in ("head.weight", "head.bias"):
            found[name.replace("head", "classifier")] = tensor
        elif inner and inner[2] == "attn.qkv":
            for part, each in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"vit.encoder.layer.{inner[1]}.attention.attention.{part}.{inner[3]}"] = each.contiguous()
        elif inner and inner[2] in INNER:
            found[f"vit.encoder.layer.{inner[1]}.{INNER[inner[2]]}.{inner[3]}"] = tensor
        else:
            strange.append(name)
    if strange:
        raise Mismatch(
            f"the image tower from timm has {', '.join(sorted(strange)[:3])}, which transformers' ViT cannot compute, "
            "expected a plain Vision Transformer such as vit_base_patch16_224.augreg_in21k."
        )
    return found


def configuration(tensors: dict[str, Tensor], told: dict[str, Any]) -> ViTConfig:
    """Sizes by the shapes of tensors; heads by timm's rule, unless its configuration says how many.

    Raises:
        Mismatch: the position table is not that of a square picture.
    """
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    num_patches = tensors["pos_embed"].shape[1] - 1
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise Mismatch(f"the image tower from timm has {num_patches} patches, expected those of a square picture.")
    layers = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
    num_labels = tensors["head.bias"].numel() if "head.bias" in tensors else 0
    return ViTConfig(
        architectures=["ViTForImageClassification" if num_labels else "ViTModel"],
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=int((told.get("model_args") or {}).get("num_heads", max(1, width // HEAD_SIZE))),
        intermediate_size=tensors["blocks.0.mlp.fc1.weight"].shape[0],
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=LAYER_NORM_EPS,
        image_size=side * patch,
        patch_size=patch,
        qkv_bias=True,
        id2label={number: f"LABEL_{number}" for number in range(num_labels or 2)},
        label2id={f"LABEL_{number}": number for number in range(num_labels or 2)},
    )


def read_timm(folder: Path) -> nn.Module:
    """The image tower of a folder of timm, with its head where there is one.

    Raises:
        Mismatch: transformers' ViT cannot compute it, or a tensor is missing.
    """
    tensors = load_file(folder / "model.safetensors")
    if not {"patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"} <= tensors.keys():
        raise Mismatch(f"{folder} has a config.json of timm, but its model.safetensors holds no Vision Transformer.")
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config, named = configuration(tensors, told), renamed(tensors)
    kind: Any = ViTForImageClassification
    more: dict[str, Any] = {}
    if "classifier.bias" not in named:
        kind, more = ViTModel, {"add_pooling_layer": False}
        named = {name.removeprefix("vit."): tensor for name, tensor in named.items()}
    network, loading = kind.from_pretrained(
        None, config=config, state_dict=named, attn_implementation="sdpa", output_loading_info=True, **more
    )
    if missing := sorted(loading["missing_keys"]):
        raise Mismatch(f"{folder / 'model.safetensors'} lacks {', '.join(missing[:3])}. Copy that folder again.")
    found: nn.Module = network
    return found


def processor_of(folder: Path) -> Any:
    """Shorter side to the tower's size and the middle cut out, with the mean and deviation that timm names."""
    from models.clip.convert import processor

    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    told = told | (told.get("pretrained_cfg") or {})
    mean, std = (tuple(told.get(key) or HALF) for key in ("mean", "std"))
    found: Any = read_timm(folder)
    return processor(found.config.image_size, mean, std)


def write_as_transformers(source: Path, folder: Path) -> None:
    """Write the files of the layout `tower`."""
    network: Any = read_timm(source)
    network.save_pretrained(folder, max_shard_size="1TB")
    processor_of(source).save_pretrained(folder)
