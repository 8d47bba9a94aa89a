"""The encoder of a locked image tower: pictures to features, computed once for training, filtering and evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.manifest import tree_hash
from components.modalities.image.cutting import normalised, pixels_of
from components.modalities.image.encoder_schema import Tower
from components.modalities.image.shards import DIGEST, Parts, digest_of
from components.outcomes import Refused

NAME = "tower.json"
FEATURE = "feature"
DTYPES: dict[str, np.dtype] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
Extract = Callable[[list[bytes]], np.ndarray]
"""Clean pictures -> float32 [pictures, width]."""


class TowerEncoder:
    """Clean pictures to what a tower makes of them. The tower is opened when the first picture comes."""

    kind = "tower"
    names: list[str] = []

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder = folder
        self.section = Tower.model_validate(content["section"])
        self.weights, self.weights_hash = Path(content["weights"]), content["weights_hash"]
        self.dtype = DTYPES[self.section.dtype]
        self.facts: dict[str, Any] = {
            "width": content["width"],
            "size_px": self.section.size_px,
            "dtype": self.section.dtype,
            "weights_hash": self.weights_hash,
        }
        self.counts: dict[str, int | float] = {}
        self.extract: Extract | None = None

    def encode(self, values: list[bytes]) -> list[Parts]:
        """The feature of each, fp16 or fp32 [width], and the digest of the clean picture.

        Raises:
            Refused: the tower is not there or is another one, or a feature is no number or too large for fp16.
        """
        if self.extract is None:
            self._require_weights()
            self.extract, _ = open_tower(self.section, self.weights)
        found = self.extract(values)
        with np.errstate(over="ignore"):
            features = found.astype(self.dtype)
        if not np.isfinite(features).all():
            raise Refused(
                f"The tower '{self.section.model}' computes features up to {np.abs(found).max():g}, which "
                f"{self.section.dtype} cannot hold. Set the key 'dtype' to fp32; if they are no numbers then either, "
                f"its weights are damaged: {self.weights}"
            )
        return [{FEATURE: row, DIGEST: digest_of(value)} for row, value in zip(features, values, strict=True)]

    def _require_weights(self) -> None:
        if self.weights.is_dir() and tree_hash(self.weights) == self.weights_hash:
            return
        found = "others are there" if self.weights.is_dir() else "nothing is there"
        raise Refused(
            f"The features of {self.folder} are those of the weights in {self.weights}, and {found}. Make them again "
            f"with: hiraku release {self.section.model}, then fit the encoder anew."
        )

    def vocabulary(self) -> dict[int, str]:
        """Features stand for nothing."""
        return {}


def open_tower(section: Tower, weights: Path) -> tuple[Extract, int]:
    """The function that computes the features of pictures, a batch at a time, and their width.

    Raises:
        Refused: the tower sees pictures of another size.
    """
    import torch

    from components.devices import set_threads, uses_gpu
    from models import part_of

    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    network = part_of(section.family, "convert").load(weights).to(device).eval()
    features = part_of(section.family, "features")
    if (wanted := features.tower_size_px(network)) != section.size_px:
        raise Refused(
            f"The tower '{section.model}' sees pictures of {wanted} pixels, but the encoder cuts them to "
            f"{section.size_px}. Change its key 'size_px' to {wanted}."
        )

    def extract(pictures: list[bytes]) -> np.ndarray:
        rows = []
        for start in range(0, len(pictures), section.batch_pictures):
            pixels = pixels_of(pictures[start : start + section.batch_pictures], section.size_px, section.resample)
            given = normalised(pixels, section.mean, section.std).to(device)
            with torch.inference_mode():
                rows.append(features.tower_features(network, given).float().cpu().numpy())
        return np.concatenate(rows)

    return extract, features.tower_width(network)


def fit(encoder: Tower, parents: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Write down whose features these are.

    Raises:
        Refused: as `open_tower`.
    """
    weights = parents[encoder.model]
    _, width = open_tower(encoder, weights)
    content = {
        "section": encoder.model_dump(mode="json"),
        "weights": weights.as_posix(),
        "weights_hash": tree_hash(weights),
        "width": width,
    }
    (folder / NAME).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {"width": width, "bytes_per_picture": width * DTYPES[encoder.dtype].itemsize}


def open_encoder(folder: Path) -> TowerEncoder:
    """What `fit` left."""
    return TowerEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))
