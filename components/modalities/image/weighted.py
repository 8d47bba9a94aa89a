"""What encoders share whose numbers a network computes: pictures in, arrays out, bound to the network's weights."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from components.modalities.image.cutting import normalised, pixels_of
from components.modalities.image.encoder_schema import Colour
from components.modalities.image.shards import DIGEST, Parts, digest_of
from components.outcomes import Refused
from components.weights import weights_hash

DTYPES: dict[str, np.dtype] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
Extract = Callable[[list[bytes]], dict[str, np.ndarray]]
"""Clean pictures -> name of an array -> float32 [pictures, numbers]."""


class WeightedEncoder(ABC):
    """Clean pictures to what a network makes of them, which is opened when the first picture comes.

    Args:
        folder: what `fit` left.
        section: the encoder's, with `model`, `dtype`, `size_px`.
        content: what `write` wrote.
        facts: more of them.
    """

    kind: str
    names: list[str] = []
    made: ClassVar[str]
    """What the arrays are called."""
    maker: ClassVar[str]
    """The network, as a message begins; the recipe's name goes in."""

    def __init__(self, folder: Path, section: Any, content: dict[str, Any], facts: dict[str, Any]) -> None:
        self.folder, self.section = folder, section
        self.weights, self.weights_hash = Path(content["weights"]), content["weights_hash"]
        self.dtype = DTYPES[section.dtype]
        self.facts: dict[str, Any] = facts | {
            "size_px": section.size_px,
            "dtype": section.dtype,
            "weights_hash": self.weights_hash,
        }
        self.counts: dict[str, int | float] = {}
        self.extract: Extract | None = None

    @abstractmethod
    def opened(self) -> Extract:
        """The function that computes the arrays of pictures."""

    def encode(self, values: list[bytes]) -> list[Parts]:
        """The arrays of each picture, fp16 or fp32 [numbers], and its digest.

        Raises:
            Refused: the network is not there or is another one, or a number is none or too large for fp16.
        """
        if self.extract is None:
            self._require_weights()
            self.extract = self.opened()
        found = self.extract(values)
        with np.errstate(over="ignore"):
            arrays = {name: rows.astype(self.dtype) for name, rows in found.items()}
        if not all(np.isfinite(rows).all() for rows in arrays.values()):
            largest = max(float(np.abs(rows).max()) for rows in found.values())
            raise Refused(
                f"{self.maker.format(self.section.model)} computes {self.made} up to {largest:g}, which "
                f"{self.section.dtype} cannot hold. Set the key 'dtype' to fp32; if they are no numbers then either, "
                f"its weights are damaged: {self.weights}"
            )
        return [
            {**{name: rows[place] for name, rows in arrays.items()}, DIGEST: digest_of(value)}
            for place, value in enumerate(values)
        ]

    def _require_weights(self) -> None:
        if self.weights.is_dir() and weights_hash(self.weights, self.section.family) == self.weights_hash:
            return
        found = "others are there" if self.weights.is_dir() else "nothing is there"
        raise Refused(
            f"The {self.made} of {self.folder} are those of the weights in {self.weights}, and {found}. Make them "
            f"again with: hiraku release {self.section.model}, then fit the encoder anew."
        )

    def vocabulary(self) -> dict[int, str]:
        """Such numbers stand for nothing."""
        return {}


def opened_network(section: Any, weights: Path) -> tuple[Any, str]:
    """The network of an encoder, ready to compute, and the device that it is on."""
    from components.devices import set_threads, uses_gpu
    from models import part_of

    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    return part_of(section.family, "convert").load(weights).to(device).eval(), device


def pixel_batches(section: Any, pictures: list[bytes], mean: Colour, std: Colour, device: str) -> Iterator[Any]:
    """Pictures as an encoder cuts them, normalised, `batch_pictures` at a time: float32 [pictures, 3, size, size]."""
    for start in range(0, len(pictures), section.batch_pictures):
        pixels = pixels_of(pictures[start : start + section.batch_pictures], section.size_px, section.resample)
        yield normalised(pixels, mean, std).to(device)


def write(encoder: Any, weights: Path, place: Path, **shape: Any) -> None:
    """Write down whose numbers an encoder gives, for `WeightedEncoder`."""
    bound = {"weights": weights.as_posix(), "weights_hash": weights_hash(weights, encoder.family)}
    content = {"section": encoder.model_dump(mode="json"), **bound, **shape}
    place.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
