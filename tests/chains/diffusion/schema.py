"""The diffusion family as the graph sees it."""

from typing import Literal

from models.schema import Strict

MODALITY = "image"
LAYOUTS = {"diffusers": ("config.json", "model.safetensors")}


class Network(Strict):
    num_layers: int = 1


class Objective(Strict):
    kind: Literal["loss"] = "loss"


class Samples(Strict):
    window: int = 1


class Preview(Strict):
    prompts: list[str] = []


PretrainObjective = Objective


AlignObjective = Objective


def check(recipe: object, encoder: object, tasks: object) -> list[str]:
    return []
