"""The chat family as the graph sees it."""

from typing import Annotated, Literal

from pydantic import Field

from models.schema import RecipeRef, Strict

MODALITY = "text"
LAYOUTS = {"transformers": ("config.json", "model.safetensors")}


class Network(Strict):
    num_layers: int = 1


class Objective(Strict):
    kind: Literal["loss"] = "loss"


class Samples(Strict):
    window: int = 1


class Preview(Strict):
    prompts: list[str] = []


PretrainObjective = Objective


class Ppo(Strict):
    kind: Literal["ppo"]
    reward: RecipeRef


class Tuned(Strict):
    kind: Literal["loss", "reward"]


AlignObjective = Annotated[Tuned | Ppo, Field(discriminator="kind")]


def check(recipe: object, encoder: object, tasks: object) -> list[str]:
    return []
