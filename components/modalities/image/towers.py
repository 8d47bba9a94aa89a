"""The encoder of a locked image tower: pictures to features, computed once for training, filtering and evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.image.encoder_schema import Tower
from components.modalities.image.weighted import (
    DTYPES,
    Extract,
    WeightedEncoder,
    opened_network,
    pixel_batches,
    write,
)
from components.outcomes import Refused

NAME = "tower.json"
FEATURE = "feature"


class TowerEncoder(WeightedEncoder):
    """Clean pictures to what a tower makes of them."""

    kind = "tower"
    made, maker = "features", "The tower '{}'"

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        section = Tower.model_validate(content["section"])
        super().__init__(folder, section, content, {"width": content["width"]})

    def opened(self) -> Extract:
        """The function that computes `FEATURE`, [pictures, width]."""
        extract, _ = open_tower(self.section, self.weights)
        return extract


def open_tower(section: Tower, weights: Path) -> tuple[Extract, int]:
    """The function that computes the features of pictures, a batch at a time, and their width.

    Raises:
        Refused: the tower sees pictures of another size.
    """
    import torch

    from models import part_of

    network, device = opened_network(section, weights)
    features = part_of(section.family, "features")
    if (wanted := features.tower_size_px(network)) != section.size_px:
        raise Refused(
            f"The tower '{section.model}' sees pictures of {wanted} pixels, but the encoder cuts them to "
            f"{section.size_px}. Change its key 'size_px' to {wanted}."
        )

    def extract(pictures: list[bytes]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            batches = pixel_batches(section, pictures, section.mean, section.std, device)
            rows = [features.tower_features(network, each).float().cpu().numpy() for each in batches]
        return {FEATURE: np.concatenate(rows)}

    return extract, features.tower_width(network)


def fit(encoder: Tower, parents: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write down whose features these are.

    Raises:
        Refused: as `open_tower`.
    """
    weights = parents[encoder.model]
    _, width = open_tower(encoder, weights)
    write(encoder, weights, folder / NAME, width=width)
    return {"width": width, "bytes_per_picture": width * DTYPES[encoder.dtype].itemsize}


def open_encoder(folder: Path) -> TowerEncoder:
    """What `fit` left."""
    return TowerEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))
