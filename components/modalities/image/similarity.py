"""What a pair of towers makes of pictures and captions, of unit length, and how near these are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.image.cutting import normalised, pixels_of
from components.outcomes import Refused

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_ROWS = 1024
"""Rows of a matrix of similarities that are in memory together."""
BATCH_TEXTS = 256

Features = Callable[[list[Any]], "Tensor"]


class Pair:
    """A pair of towers with the encoder of its captions.

    Args:
        model: `network` (on its device, in evaluation mode) and `encoder` (of its captions).
        family: whose code computes features.
        batch_pictures: that pass through the tower at once.

    Raises:
        Refused: it has no two towers, or was loaded without its image tower.
    """

    def __init__(self, model: Any, family: str, batch_pictures: int) -> None:
        from models import part_of

        self.network, self.encoder, self.batch_pictures = model.network, model.encoder, batch_pictures
        self.features: tuple[str, ...] = getattr(model, "features", ())
        """Shards of what its image tower has computed already."""
        self.parts = part_of(family, "features")
        if getattr(self.encoder, "kind", "") != "captions" or not hasattr(self.network, "text_features"):
            raise Refused(
                "This task compares pictures with captions, so it scores pairs of towers with an encoder of captions; "
                f"found an encoder of {getattr(self.encoder, 'kind', 'something else')}. Name another task under "
                "'evaluate.tasks'."
            )
        size = self.parts.tower_size_px(self.network)
        if size is None:
            raise Refused(
                "The network was loaded without its image tower, so it sees no pictures. Score the weights that "
                "training left: hiraku evaluate RECIPE"
            )
        self.size_px: int = size

    @property
    def _device(self) -> Any:
        return next(self.network.parameters()).device

    def of_pictures(self, pictures: list[bytes]) -> "Tensor":
        """float32 [pictures, projection] on the CPU."""
        import torch

        return torch.cat(
            [_unit(self.parts.image_features(self.network, seen), "pictures") for seen in self._seen(pictures)]
        )

    def of_tower(self, pictures: list[bytes]) -> "Tensor":
        """float32 [pictures, width] on the CPU: what the image tower alone makes of them."""
        import torch

        return torch.cat([self.parts.tower_features(self.network, seen).float().cpu() for seen in self._seen(pictures)])

    def of_features(self, features: "Tensor") -> "Tensor":
        """What the image tower made of pictures, [pictures, width], in their place; else as `of_pictures`."""
        return _unit(self.parts.image_features(self.network, features.to(self._device)), "pictures")

    def _seen(self, pictures: list[bytes]) -> Iterator["Tensor"]:
        """Batches of normalised pixels on the network's device."""
        given = self.encoder.preparation
        for start in range(0, len(pictures), self.batch_pictures):
            pixels = pixels_of(pictures[start : start + self.batch_pictures], self.size_px, given.resample)
            yield normalised(pixels, given.mean, given.std).to(self._device)

    def of_texts(self, texts: list[str]) -> "Tensor":
        """float32 [texts, projection] on the CPU."""
        import torch

        rows, pad = [], self.encoder.facts["pad"]
        for start in range(0, len(texts), BATCH_TEXTS):
            encoded = self.encoder.ids_of(texts[start : start + BATCH_TEXTS])
            size = max(map(len, encoded))
            ids, mask = np.full((len(encoded), size), pad, np.int64), np.zeros((len(encoded), size), np.int64)
            for row, each in enumerate(encoded):
                ids[row, : len(each)] = each
                mask[row, : len(each)] = 1
            given = (torch.from_numpy(part).to(self._device) for part in (ids, mask))
            rows.append(_unit(self.parts.text_features(self.network, *given), "captions"))
        return torch.cat(rows)


def _unit(features: "Tensor", what: str) -> "Tensor":
    """Rows of length 1, in float32 on the CPU."""
    import torch

    found = torch.nn.functional.normalize(features.float(), dim=-1).cpu()
    if not bool(found.isfinite().all()):
        raise Refused(
            f"The network computes no numbers of some {what}: its weights are damaged or training diverged. Look at "
            "the curve, then train again with a lower 'optimizer.learning_rate'."
        )
    return found


def open_pair(family: str, folder: Path, batch_pictures: int) -> Pair:
    """A packaged pair of towers on this machine's device.

    Args:
        family: whose code reads it.
        folder: a layout of a package, with its tokenizer.
        batch_pictures: see `Pair`.
    """
    from components.scoring import open_model

    return Pair(open_model(family, folder, folder), family, batch_pictures)


def blocks(rows: "Tensor", columns: "Tensor") -> Iterator[tuple[slice, "Tensor"]]:
    """Parts of the matrix of similarities, float32 [some rows, columns], each behind its rows."""
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, min(start + BLOCK_ROWS, len(rows)))
        yield part, rows[part] @ columns.T


def ranks(queries: "Tensor", candidates: "Tensor", keys: list[np.ndarray]) -> np.ndarray:
    """Where the best right candidate of each query stands, counted from 1.

    A wrong candidate that is as near stands before it, so features that are all alike give the last places.

    Args:
        queries: [records, width], of unit length.
        candidates: the same, of the same records in the same order.
        keys: arrays [records]; a candidate is right if its record has the same value in one of them as the query's.

    Returns:
        int64 [records].
    """
    import torch

    found = np.empty(len(queries), np.int64)
    numbers = [torch.from_numpy(np.unique(key, return_inverse=True)[1]) for key in keys]
    for part, near in blocks(queries, candidates):
        is_right = torch.zeros_like(near, dtype=torch.bool)
        for each in numbers:
            is_right |= each[part, None] == each[None]
        best = near.masked_fill(~is_right, -torch.inf).max(dim=1, keepdim=True).values
        found[part] = ((near >= best) & ~is_right).sum(dim=1).numpy() + 1
    return found
