"""The encoder of an autoencoder's latents: pictures to latents, computed once for training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.manifest import tree_hash
from components.modalities.image.cutting import normalised, pixels_of
from components.modalities.image.encoder_schema import Latents
from components.modalities.image.shards import DIGEST, Parts, digest_of
from components.modalities.image.towers import DTYPES
from components.outcomes import Refused

NAME = "latents.json"
LATENT, DEVIATION = "latent", "deviation"
Extract = Callable[[list[bytes]], tuple[np.ndarray, np.ndarray]]
"""Clean pictures -> means and standard deviations, float32 [pictures, numbers]."""


class LatentEncoder:
    """Clean pictures to what an autoencoder makes of them. It is opened when the first picture comes."""

    kind = "latents"
    names: list[str] = []

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder = folder
        self.section = Latents.model_validate(content["section"])
        self.weights, self.weights_hash = Path(content["weights"]), content["weights_hash"]
        self.dtype = DTYPES[self.section.dtype]
        self.facts: dict[str, Any] = {
            "latent_shape": content["shape"],
            "size_px": self.section.size_px,
            "variance": self.section.variance,
            "dtype": self.section.dtype,
            "weights_hash": self.weights_hash,
        }
        self.counts: dict[str, int | float] = {}
        self.extract: Extract | None = None

    def encode(self, values: list[bytes]) -> list[Parts]:
        """The mean of each, fp16 or fp32 [numbers], its deviation where that is kept, and the picture's digest.

        Raises:
            Refused: the autoencoder is not there or is another one, or a number is none or too large for fp16.
        """
        if self.extract is None:
            self._require_weights()
            self.extract, _ = open_autoencoder(self.section, self.weights)
        means, deviations = self.extract(values)
        kept = {LATENT: means} | ({DEVIATION: deviations} if self.section.variance else {})
        with np.errstate(over="ignore"):
            arrays = {name: rows.astype(self.dtype) for name, rows in kept.items()}
        if not all(np.isfinite(rows).all() for rows in arrays.values()):
            largest = max(float(np.abs(rows).max()) for rows in kept.values())
            raise Refused(
                f"The autoencoder of '{self.section.model}' computes latents up to {largest:g}, which "
                f"{self.section.dtype} cannot hold. Set the key 'dtype' to fp32; if they are no numbers then either, "
                f"its weights are damaged: {self.weights}"
            )
        return [
            {**{name: rows[place] for name, rows in arrays.items()}, DIGEST: digest_of(value)}
            for place, value in enumerate(values)
        ]

    def _require_weights(self) -> None:
        if self.weights.is_dir() and tree_hash(self.weights) == self.weights_hash:
            return
        found = "others are there" if self.weights.is_dir() else "nothing is there"
        raise Refused(
            f"The latents of {self.folder} are those of the weights in {self.weights}, and {found}. Make them again "
            f"with: hiraku release {self.section.model}, then fit the encoder anew."
        )

    def vocabulary(self) -> dict[int, str]:
        """Latents stand for nothing."""
        return {}


def open_autoencoder(section: Latents, weights: Path) -> tuple[Extract, tuple[int, int, int]]:
    """The function that computes the latents of pictures, a batch at a time, and their shape.

    Raises:
        Refused: pictures have a size that the autoencoder cannot halve, or there is none in these weights.
    """
    import torch

    from components.devices import set_threads, uses_gpu
    from models import part_of
    from models.objective import Mismatch

    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    features = part_of(section.family, "features")
    try:
        network = part_of(section.family, "convert").load(weights).to(device).eval()
        shape = features.latent_shape(network, section.size_px)
    except (Mismatch, ValueError) as error:
        raise Refused(f"The autoencoder of '{section.model}': {error}. Change the encoder's keys.") from error

    def extract(pictures: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for start in range(0, len(pictures), section.batch_pictures):
            pixels = pixels_of(pictures[start : start + section.batch_pictures], section.size_px, section.resample)
            given = normalised(pixels, features.MEAN, features.STD).to(device)
            with torch.inference_mode():
                found.append([each.flatten(1).float().cpu().numpy() for each in features.moments(network, given)])
        means, deviations = (np.concatenate(rows) for rows in zip(*found, strict=True))
        return means, deviations

    return extract, shape


def fit(encoder: Latents, parents: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write down whose latents these are.

    Raises:
        Refused: as `open_autoencoder`.
    """
    weights = parents[encoder.model]
    _, shape = open_autoencoder(encoder, weights)
    content = {
        "section": encoder.model_dump(mode="json"),
        "weights": weights.as_posix(),
        "weights_hash": tree_hash(weights),
        "shape": list(shape),
    }
    (folder / NAME).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    num_bytes = int(np.prod(shape)) * DTYPES[encoder.dtype].itemsize * (2 if encoder.variance else 1)
    return {"channels": shape[0], "height": shape[1], "width": shape[2], "bytes_per_picture": num_bytes}


def open_encoder(folder: Path) -> LatentEncoder:
    """What `fit` left."""
    return LatentEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))
