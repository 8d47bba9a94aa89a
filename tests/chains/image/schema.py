"""Images as the graph sees them: latents of somebody's VAE, and a judge of generated pictures."""

from typing import Literal

from models.schema import PackageRef, Strict


class Column(Strict):
    modality: Literal["image"]


class Latents(Strict):
    kind: Literal["latents"]
    modality: Literal["image"] = "image"
    column: str = "image"
    model: PackageRef


class Judged(Strict):
    kind: Literal["judged-pictures"]
    modality: Literal["image"] = "image"
    judge: PackageRef


ENCODERS = {"latents": Latents}
TASKS = {"judged-pictures": Judged}
