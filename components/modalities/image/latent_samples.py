"""Pictures alone, and latents with captions: the samples that an autoencoder and a Stable Diffusion are trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.image.cutting import normalised
from components.modalities.image.latents import DEVIATION, LATENT
from components.modalities.image.pictures import decoded
from components.modalities.image.samples import (
    Captioned,
    Samples,
    Source,
    require_alike,
    require_batch,
    require_kept,
    seen,
)
from components.modalities.image.shards import Arrays
from components.modalities.image.tokens import padded
from components.outcomes import Refused

FORMS = ("pictures", "latents")
HALF = (0.5, 0.5, 0.5)
"""Mean and deviation of each colour, so that numbers lie between -1 and 1."""


class Pictures(Samples):
    """Pictures alone."""

    def __init__(self, sources: list[Source]) -> None:
        super().__init__(sources, is_features=False)
        self.facts = {"size_px": sources[0].pictures.facts["size_px"]}

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """`pixels` float32 [samples, 3, size, size], between -1 and 1."""
        rows = np.empty(len(indices), object)
        for source, places, numbers in self.parts(indices):
            pictures = source.pictures.pictures
            for place, record in zip(places.tolist(), source.taken(numbers, epoch)[0].tolist(), strict=True):
                rows[place] = np.asarray(decoded(pictures[record]))
        return {"pixels": normalised(np.stack(list(rows)), HALF, HALF)}


class Latents(Samples):
    """Latents of pictures, each with one of its captions."""

    def __init__(self, sources: list[Captioned]) -> None:
        super().__init__(list(sources), is_features=False)
        words, latents = sources[0].words.facts, sources[0].pictures.facts
        self.shape = tuple(latents["latent_shape"])
        self.names = {"latents": LATENT} | ({"deviations": DEVIATION} if latents["variance"] else {})
        self.size, self.pad = int(words["max_tokens"]), int(words["pad"])
        self.facts = {key: latents[key] for key in ("latent_shape", "weights_hash")}

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """`latents`, if kept `deviations`, float32 [samples, channels, height, width]; `ids` int64 [samples, tokens].

        Captions are padded to all tokens that one may have.
        """
        import torch

        arrays = {key: np.empty((len(indices), *self.shape), np.float32) for key in self.names}
        rows = [np.empty(0)] * len(indices)
        for source, places, numbers in self.parts(indices):
            records, turns = source.taken(numbers, epoch)
            for key, name in self.names.items():
                arrays[key][places] = source.pictures.rows(name)[records].reshape(-1, *self.shape)
            for place, caption in zip(places.tolist(), source.chosen(records, turns).tolist(), strict=True):
                rows[place] = source.ids(caption)
        found = {**arrays, "ids": padded(rows, self.size, self.pad)}
        return {key: torch.from_numpy(value) for key, value in found.items()}


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Samples:
    """Open shards of pixels alone, or of captions, each with latents.

    Args:
        folders: each with its weight: how many times an epoch reads it; splits other than `train` are read once.
        split: in `train` a picture has another caption in every epoch; in others always the same.
        spec: `form` (`pictures` or `latents`), `batch_samples`; of latents `latents`, the names of shards, one for each
            folder, and `caption_shares`.

    Raises:
        Refused: shards are missing, hold something else or do not pair up, or are too few for one batch.
    """
    moves = split == "train"
    found: Samples
    if spec.form == "pictures":
        sources = []
        for folder, weight in folders:
            pictures = Arrays(folder, split)
            _require_kind(pictures, "pixels")
            sources.append(Source(pictures, pictures, np.arange(len(pictures)), weight if moves else 1.0, moves))
        require_alike(sources, "pictures")
        found = Pictures(sources)
    else:
        if len(folders) != len(spec.latents):
            raise Refused(
                f"There are {len(folders)} shards of captions and {len(spec.latents)} of latents (samples.latents), "
                "expected as many of both, of the same corpora in the same order."
            )
        pairs = []
        for (folder, weight), name in zip(folders, spec.latents, strict=True):
            words = Arrays(folder, split)
            _require_kind(words, "captions")
            latents = seen(words, name, "latents", "latents")
            source = Captioned(words, latents, spec.caption_shares, weight if moves else 1.0, moves)
            require_kept(source)
            pairs.append(source)
        require_alike(pairs, "latents")
        found = Latents(pairs)
    require_batch(len(found), split, spec)
    return found


def _require_kind(arrays: Arrays, wanted: str) -> None:
    if arrays.kind != wanted:
        raise Refused(f"{arrays.folder} holds {arrays.kind}, expected {wanted}. Change the key 'shards'.")


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """The caption of each sample with how many tokens it has; of pictures alone their size."""
    if "ids" not in batch:
        return [f"a picture of {row.shape[2]} x {row.shape[1]} pixels" for row in batch["pixels"]]
    found = []
    for ids in batch["ids"].tolist():
        size = ids.index(encoder.facts["eos"]) + 1
        found.append(f"{size} tokens: {encoder.decode(ids[:size])}")
    return found
