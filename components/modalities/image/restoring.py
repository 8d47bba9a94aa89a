"""How much of a picture an autoencoder gives back."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.grids import Strip, Tile, strips
from components.modalities.image.cutting import normalised, pixels_of
from components.modalities.image.pictures import encoded
from components.modalities.image.reading import Read, Row, Tell, picture_batches, records_of
from components.modalities.image.task_schema import Reconstruction
from components.outcomes import Refused

if TYPE_CHECKING:
    from torch import Tensor

NUM_SHOWN = 8
LEAST = 1e-10
"""Of the squared error of numbers between 0 and 1: what 8 bits cannot tell is 100 dB."""


def score_reconstruction(task: Reconstruction, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Rows of (item, metric, value): the peak over the error of each picture in dB, and the mean over all.

    Raises:
        Refused: there is no picture; the model has no autoencoder, or computes no numbers.
    """
    from models import part_of

    features, network = part_of(task.family, "features"), model.network
    if not hasattr(network, "vae") and not hasattr(network, "decoder"):
        raise Refused(
            f"A task of kind 'reconstruction' scores autoencoders of pictures; found a {type(network).__name__}. Name "
            "another task under 'evaluate.tasks'."
        )
    size_px, device = features.picture_size_px(network), next(network.parameters()).device
    records = records_of(task, [], read)
    ratios: list[float] = []
    shown: list[Strip] = []
    for places, pictures in picture_batches(task, records, read, tell):
        given = normalised(pixels_of(pictures, size_px, "bilinear"), features.MEAN, features.STD)
        restored = features.restored(network, given.to(device)).cpu()
        errors = ((restored - given) / 2).square().flatten(1).mean(1).tolist()
        if not all(map(math.isfinite, errors)):
            raise Refused("The autoencoder gives back what is no number. Its weights are damaged: train it anew.")
        for place, error, before, after in zip(places, errors, given, restored, strict=True):
            ratios.append(-10 * math.log10(max(error, LEAST)))
            yield {"item": records[place]["id"], "metric": "psnr_db", "value": ratios[-1]}
            if len(shown) < NUM_SHOWN:
                tiles = [Tile(_file(before), "given"), Tile(_file(after), "back")]
                shown.append(Strip(f"{ratios[-1]:.1f} dB", tiles))
    yield {"item": None, "metric": "psnr_db", "value": sum(ratios) / len(ratios)}
    yield {"item": None, "metric": "num_pictures", "value": float(len(ratios))}
    yield {"item": None, "picture": "restored", "svg": strips("Pictures, and what an autoencoder gives back", shown)}


def _file(picture: "Tensor") -> bytes:
    """A PNG of a picture between -1 and 1, [3, height, width]."""
    from PIL import Image

    values = ((picture.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    return encoded(Image.fromarray(values), is_lossless=True)
