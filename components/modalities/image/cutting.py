"""Pictures of one size, as arrays that a network sees: the shorter side scaled, and the middle cut out."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from components.modalities.image.pictures import decoded

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Resample = Literal["bilinear", "bicubic"]


def cut(image: "Image", size_px: int, resample: Resample) -> "Image":
    """A square picture: the shorter side scaled to a size, with smoothing where it shrinks, then the middle.

    Sides and edges are those of torchvision's `Resize` and `CenterCrop` of Pillow's pictures, as rinna's client has.
    """
    from PIL import Image

    width, height = image.size
    if (width, height) == (size_px, size_px):
        return image
    short = min(width, height)
    width, height = (size_px if side == short else int(size_px * side / short) for side in (width, height))
    scaled = image.resize((width, height), Image.Resampling[resample.upper()])
    left, top = (round((side - size_px) / 2) for side in (width, height))
    return scaled.crop((left, top, left + size_px, top + size_px))


def pixels_of(pictures: list[bytes], size_px: int, resample: Resample) -> np.ndarray:
    """uint8 [pictures, size, size, 3] of clean pictures."""
    rows = [np.asarray(cut(decoded(each), size_px, resample)) for each in pictures]
    return np.stack(rows) if rows else np.empty((0, size_px, size_px, 3), np.uint8)


def normalised(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> "Tensor":
    """uint8 [pictures, size, size, 3] -> float32 [pictures, 3, size, size]: between 0 and 1, less mean, over std."""
    import torch

    # A table of the 256 values of each colour: one look-up in place of three passes over the picture.
    values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    table = (values - np.array(mean, np.float32)) / np.array(std, np.float32)
    found = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    for colour in range(3):
        np.take(table[:, colour], pixels[..., colour], out=found[:, colour], mode="clip")
    return torch.from_numpy(found)
