"""The layout of rinna's client, japanese_clip 0.2: both towers without poolers, names of transformers 4.

Its `config.json` says `model_type: clip` or `cloob` with a BERT under `text_config`; a CLOOB's temperature stands there
and not among the weights (its `clip/configuration_clip.py`, `cloob/configuration_cloob.py`).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, BertModel, ViTModel

from models.clip.network import DualEncoder
from models.objective import Mismatch

CLASS_NAMES = {"clip": "CLIPModel", "cloob": "CLOOBModel"}


def is_client(config: dict[str, Any]) -> bool:
    """Whether a configuration is of this layout: transformers' own CLIP has another text tower."""
    text = (config.get("text_config") or {}).get("model_type")
    return config.get("model_type") in CLASS_NAMES and text == "bert"


def write(network: Any, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`.

    Raises:
        Mismatch: it was trained by an objective that the client does not know.
    """
    kind = network.contrast.get("kind")
    if kind not in CLASS_NAMES:
        raise Mismatch(
            f"the layout 'japanese-clip' is for the objectives {', '.join(CLASS_NAMES)}, found '{kind}'. Take it out "
            "of package.layouts."
        )
    config: dict[str, Any] = {
        "model_type": kind,
        "architectures": [CLASS_NAMES[kind]],
        "projection_dim": network.text_projection.out_features,
        "text_config": _told(network.text_tower),
        "vision_config": _told(network.tower),
    }
    tensors = {"visual_projection.weight": network.visual_projection.weight}
    tensors["text_projection.weight"] = network.text_projection.weight
    if kind == "cloob":
        config["init_inv_tau"] = network.contrast["inverse_temperature"]
        config["scale_hopfield"] = network.contrast["hopfield_scale"]
    else:
        config["logit_scale_init_value"] = math.log(1 / 0.07)
        tensors["logit_scale"] = network.logit_scale
    tensors |= {f"vision_model.{name}": tensor for name, tensor in written(network.tower).items()}
    tensors |= {f"text_model.{name}": tensor for name, tensor in written(network.text_tower).items()}
    found = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _told(tower: Any) -> dict[str, Any]:
    """A tower's configuration as a part of another one."""
    found: dict[str, Any] = tower.config.to_dict()
    return {key: value for key, value in found.items() if key not in ("transformers_version", "id2label", "label2id")}


def written(tower: Any) -> dict[str, Tensor]:
    """A tower's tensors under the names that save_pretrained writes, which are not those in memory."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        tower.save_pretrained(folder, max_shard_size="1TB")
        return load_file(Path(folder) / "model.safetensors")


def read(folder: Path, config: dict[str, Any]) -> nn.Module:
    """A pair of towers.

    Raises:
        Mismatch: a tensor is missing.
    """
    tensors = load_file(folder / "model.safetensors")
    kind = config["model_type"]
    towers = [
        _tower(folder, ViTModel, config["vision_config"], tensors, "vision_model."),
        _tower(folder, BertModel, config["text_config"], tensors, "text_model."),
    ]
    projections = []
    for name, tower in zip(("visual_projection", "text_projection"), towers, strict=True):
        weight = _taken(folder, tensors, f"{name}.weight")
        found = nn.Linear(tower.config.hidden_size, config.get("projection_dim", 512), bias=False)
        found.weight = nn.Parameter(weight)
        projections.append(found)
    network = DualEncoder(*towers, *projections)
    network.contrast = {"kind": kind}
    if kind == "cloob":
        network.contrast["inverse_temperature"] = float(config.get("init_inv_tau", 30.0))
        network.contrast["hopfield_scale"] = float(config.get("scale_hopfield", 15.0))
    else:
        network.logit_scale = nn.Parameter(_taken(folder, tensors, "logit_scale"))
    return network


def _tower(folder: Path, kind: Any, section: dict[str, Any], tensors: dict[str, Tensor], prefix: str) -> Any:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    # Written by some versions of transformers, which now count them.
    own = {name: tensor for name, tensor in own.items() if not name.endswith("position_ids")}
    config = AutoConfig.for_model(**section)
    tower, told = kind.from_pretrained(
        None,
        config=config,
        state_dict=own,
        add_pooling_layer=False,
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    for name in sorted(told["missing_keys"]):
        _taken(folder, tensors, prefix + name)
    return tower


def _taken(folder: Path, tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise Mismatch(f"{folder / 'model.safetensors'} lacks {name}, expected every tensor of that config.json.")
    return torch.as_tensor(tensors[name])
