"""The encoder of an autoencoder's latents: pictures to latents, computed once for training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.image.encoder_schema import Latents
from components.modalities.image.weighted import (
    DTYPES,
    Extract,
    WeightedEncoder,
    opened_network,
    pixel_batches,
    write,
)
from components.outcomes import Refused

NAME = "latents.json"
LATENT, DEVIATION = "latent", "deviation"


class LatentEncoder(WeightedEncoder):
    """Clean pictures to what an autoencoder makes of them."""

    kind = "latents"
    made, maker = "latents", "The autoencoder of '{}'"

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        section = Latents.model_validate(content["section"])
        facts = {"latent_shape": content["shape"], "variance": section.variance}
        super().__init__(folder, section, content, facts)

    def opened(self) -> Extract:
        """The function that computes `LATENT`, the mean of each number, and `DEVIATION` where that is kept."""
        extract, _ = open_autoencoder(self.section, self.weights)
        return extract


def open_autoencoder(section: Latents, weights: Path) -> tuple[Extract, tuple[int, int, int]]:
    """The function that computes the latents of pictures, a batch at a time, and their shape.

    Raises:
        Refused: pictures have a size that the autoencoder cannot halve, or there is none in these weights.
    """
    import torch

    from models import part_of
    from models.objective import Mismatch

    features = part_of(section.family, "features")
    try:
        network, device = opened_network(section, weights)
        shape = features.latent_shape(network, section.size_px)
    except (Mismatch, ValueError) as error:
        raise Refused(f"The autoencoder of '{section.model}': {error}. Change the encoder's keys.") from error

    def extract(pictures: list[bytes]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            batches = pixel_batches(section, pictures, features.MEAN, features.STD, device)
            found = [
                [each.flatten(1).float().cpu().numpy() for each in features.moments(network, batch)]
                for batch in batches
            ]
        names = (LATENT, DEVIATION) if section.variance else (LATENT,)
        return {name: np.concatenate([rows[place] for rows in found]) for place, name in enumerate(names)}

    return extract, shape


def fit(encoder: Latents, parents: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write down whose latents these are.

    Raises:
        Refused: as `open_autoencoder`.
    """
    weights = parents[encoder.model]
    _, shape = open_autoencoder(encoder, weights)
    write(encoder, weights, folder / NAME, shape=list(shape))
    num_bytes = int(np.prod(shape)) * DTYPES[encoder.dtype].itemsize * (2 if encoder.variance else 1)
    return {"channels": shape[0], "height": shape[1], "width": shape[2], "bytes_per_picture": num_bytes}


def open_encoder(folder: Path) -> LatentEncoder:
    """What `fit` left."""
    return LatentEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))
