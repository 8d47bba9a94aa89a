"""Pictures with labels, and pairs of pictures and captions: the samples that towers are trained on.

Which caption of a picture is taken is a pure function of how often the picture was taken before, so it is the same for
any number of workers and ranks. A batch of pairs has no caption and no picture twice, since a contrast would push equal
ones apart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components import paths
from components.batches import mixed_shares, whole_order
from components.distinct import TooFew, distinct_batches
from components.modalities.image.cutting import normalised
from components.modalities.image.labels import LABEL
from components.modalities.image.pictures import decoded
from components.modalities.image.shards import DIGEST, Arrays
from components.modalities.image.tokens import IDS, KINDS, SIZES
from components.modalities.image.towers import FEATURE
from components.outcomes import Refused
from components.pairing import require_same_records
from models.pixels import MEAN, STD

if TYPE_CHECKING:
    from torch import Tensor

MAX_LEFT_OUT_SHARE = 0.5
"""Of pictures that have no caption of a wanted kind: with more, the corpus and the recipe were not made for each other.
"""


# ---- what is seen ----------------------------------------------------------------------------------------------------


def pixels_at(arrays: Arrays, records: np.ndarray) -> "Tensor":
    """float32 [records, 3, size, size], normalised."""
    assert arrays.pictures is not None  # noqa: S101 - `seen` has looked
    return normalised(np.stack([np.asarray(decoded(arrays.pictures[each])) for each in records.tolist()]), MEAN, STD)


def features_at(arrays: Arrays, records: np.ndarray) -> "Tensor":
    """float32 [records, width]."""
    import torch

    return torch.from_numpy(arrays.rows(FEATURE)[records].astype(np.float32))


def seen(words: Arrays, name: str, kind: str, key: str) -> Arrays:
    """What stands for the pictures of other shards.

    Args:
        words: shards of labels or captions.
        name: of shards of pixels or features.
        kind: `pixels` or `tower`.
        key: of the recipe, for messages.

    Raises:
        Refused: they are not of the same records, or hold something else.
    """
    require_same_records(words.name, name)
    found = Arrays(paths.payload("shard", name), words.split)
    if found.kind != kind:
        raise Refused(f"{found.folder} holds {found.kind}, expected {kind}. Change the key 'samples.{key}'.")
    if len(found) != len(words):
        raise Refused(
            f"The pictures of '{name}' and the {words.kind} of '{words.name}' do not pair up in the split "
            f"'{words.split}'. Run: hiraku shard {name}, then hiraku shard {words.name}"
        )
    return found


# ---- one corpus of a mixture -----------------------------------------------------------------------------------------


class Source:
    """Some records in an endless order, of which each epoch takes the next `num_samples`."""

    def __init__(self, words: Arrays, pictures: Arrays, records: np.ndarray, weight: float, moves: bool) -> None:
        self.words, self.pictures, self.records, self.moves = words, pictures, records, moves
        self.num_samples = max(1, round(weight * len(records)))

    def taken(self, numbers: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 records behind the sample numbers of an epoch, and how often each was taken before."""
        places = numbers + (epoch * self.num_samples if self.moves else 0)
        return self.records[places % len(self.records)], places // len(self.records)


class Captioned(Source):
    """A corpus with captions, of which a record's turn decides which one is taken.

    Args:
        words: shards of captions.
        pictures: shards of pixels or features.
        shares: kind of caption -> how often it is taken beside the other kinds of a picture; empty for all alike.
        weight: see `Source`.
        moves: see there.

    Raises:
        Refused: no caption is of a kind that the shares name.
    """

    def __init__(self, words: Arrays, pictures: Arrays, shares: dict[str, float], weight: float, moves: bool) -> None:
        self.starts = words.starts(KINDS)
        """int64 [records + 1]: where the captions of each record begin."""
        self.ends = np.concatenate([[0], np.cumsum(words.arrays[SIZES], dtype=np.int64)])
        """int64 [captions + 1]: where the ids of each caption begin."""
        if unknown := sorted(set(shares) - set(words.names)):
            raise Refused(
                f"samples.caption_shares names captions of the kind {', '.join(unknown)}, but '{words.name}' has "
                f"{', '.join(words.names) or 'no captions'}. Change the key, or the shards."
            )
        self.sums = self._sums(words, shares)
        is_there = self.sums[self.starts[1:]] > self.sums[self.starts[:-1]]
        self.num_left_out = int((~is_there).sum())
        self.key = f"{words.name}/captions/"
        super().__init__(words, pictures, np.flatnonzero(is_there), weight, moves)

    def _sums(self, words: Arrays, shares: dict[str, float]) -> np.ndarray:
        """float64 [captions + 1]: sums of the captions' weights, a kind's share over how many of it a record has."""
        kinds = np.asarray(words.arrays[KINDS], np.int64)
        owner = np.repeat(np.arange(len(words)), np.diff(self.starts))
        group = owner * max(1, len(words.names)) + kinds
        counts = np.bincount(group, minlength=1)
        share = np.array([shares.get(name, 0.0) if shares else 1.0 for name in words.names] or [0.0])
        return np.concatenate([[0.0], np.cumsum(share[kinds] / counts[group])])

    def chosen(self, records: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """int64: the caption of each record in its turn; a pure function of both."""
        drawn = np.empty(len(records))
        for turn in np.unique(turns).tolist():
            is_now = turns == turn
            drawn[is_now] = mixed_shares(records[is_now], f"{self.key}{turn}")
        first, last = self.starts[records], self.starts[records + 1]
        low, high = self.sums[first], self.sums[last]
        wanted = np.minimum(low + drawn * (high - low), np.nextafter(high, -np.inf))
        found = np.searchsorted(self.sums, wanted, side="right") - 1
        return np.clip(found, first, last - 1)

    def ids(self, caption: int) -> np.ndarray:
        """Token ids of a caption."""
        return self.words.arrays[IDS][self.ends[caption] : self.ends[caption + 1]]


# ---- samples ---------------------------------------------------------------------------------------------------------


class Samples:
    """Records of a mixture, addressed by number; see `components.modalities.Samples`."""

    def __init__(self, sources: list[Any], is_features: bool) -> None:
        self.sources, self.is_features = sources, is_features
        self.ends = np.cumsum([source.num_samples for source in sources])
        first = sources[0].pictures
        given = ("width", "weights_hash") if is_features else ()
        self.facts: dict[str, Any] = {key: first.facts[key] for key in given}
        """What a network must know of what stands for pictures."""

    def __len__(self) -> int:
        """Samples of one epoch."""
        return int(self.ends[-1])

    def parts(self, numbers: np.ndarray) -> list[tuple[Any, np.ndarray, np.ndarray]]:
        """Of each source that is among some samples: itself, the places of its samples, and their numbers within it."""
        numbers = np.asarray(numbers, np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"sample {numbers.min()} to {numbers.max()} of {len(self)}")
        which = np.searchsorted(self.ends, numbers, side="right")
        found = []
        for place in np.unique(which).tolist():
            places = np.flatnonzero(which == place)
            source = self.sources[place]
            found.append((source, places, numbers[places] - (int(self.ends[place]) - source.num_samples)))
        return found

    def seen(self, parts: list[tuple[Any, np.ndarray, np.ndarray]]) -> dict[str, "Tensor"]:
        """`features` or `pixels` of records in their places."""
        import torch

        rows = [(features_at if self.is_features else pixels_at)(source.pictures, each) for source, _, each in parts]
        places = np.argsort(np.concatenate([places for _, places, _ in parts]))
        return {"features" if self.is_features else "pixels": torch.cat(rows)[torch.from_numpy(places)]}


class Labelled(Samples):
    """Pictures with the numbers of their classes."""

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """`pixels` float32 [samples, 3, size, size], normalised, and `labels` int64 [samples].

        Of records with several classes `labels` are float32 [samples, classes], 1 for each that is there.
        """
        import torch

        parts = [(source, places, source.taken(each, epoch)[0]) for source, places, each in self.parts(indices)]
        facts = self.sources[0].words.facts
        shape, dtype = ((facts["num_labels"],), np.float32) if facts["many"] else ((), np.int64)
        labels: np.ndarray = np.zeros((len(indices), *shape), dtype)
        for source, places, records in parts:
            if not facts["many"]:
                labels[places] = source.words.arrays[LABEL][records]
                continue
            starts = source.words.starts(LABEL)
            for place, record in zip(places.tolist(), records.tolist(), strict=True):
                labels[place, source.words.arrays[LABEL][starts[record] : starts[record + 1]]] = 1
        return {**self.seen(parts), "labels": torch.from_numpy(labels)}


class Pairs(Samples):
    """Pictures, or their features, each with one of its captions."""

    def __init__(self, sources: list[Captioned], is_features: bool, pad: int) -> None:
        super().__init__(sources, is_features)
        self.pad = pad
        self.last: tuple[tuple[int, int, int], np.ndarray] | None = None

    @property
    def left_out(self) -> str:
        """What no sample is made of, in words; empty if that is nothing."""
        count = sum(source.num_left_out for source in self.sources)
        whole = sum(len(source.words) for source in self.sources)
        if not count:
            return ""
        return f"{count:,} of {whole:,} pictures are left out: no caption is of a kind in samples.caption_shares"

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """`features` float32 [samples, width] or `pixels` float32 [samples, 3, size, size]; `ids` and `mask`.

        The last two are int64 [samples, tokens], as long as the longest caption; behind shorter ones the mask is 0.
        """
        import torch

        parts, rows = [], [np.empty(0)] * len(indices)
        for source, places, numbers in self.parts(indices):
            records, turns = source.taken(numbers, epoch)
            parts.append((source, places, records))
            for place, caption in zip(places.tolist(), source.chosen(records, turns).tolist(), strict=True):
                rows[place] = source.ids(caption)
        size = max((len(row) for row in rows), default=0)
        ids, mask = np.full((len(rows), size), self.pad, np.int64), np.zeros((len(rows), size), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {**self.seen(parts), "ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}

    def order(self, seed: int, epoch: int, batch_samples: int) -> np.ndarray:
        """The samples of an epoch, so that no batch has a caption or a picture twice; see `components.batches.Order`.

        Raises:
            TooFew: fewer pairs differ than one batch takes.
        """
        asked = (seed, epoch, batch_samples)
        if self.last is None or self.last[0] != asked:
            keys = self.digests(epoch)
            self.last = asked, distinct_batches(whole_order(len(self), seed, epoch), keys, batch_samples)
        return self.last[1]

    def digests(self, epoch: int) -> list[np.ndarray]:
        """uint64 [samples] of the caption and of the picture that each sample of an epoch has."""
        captions, pictures = [], []
        for source in self.sources:
            records, turns = source.taken(np.arange(source.num_samples), epoch)
            captions.append(source.words.arrays[DIGEST][source.chosen(records, turns)])
            pictures.append(source.pictures.arrays[DIGEST][records])
        return [np.concatenate(captions), np.concatenate(pictures)]


# ---- opening ---------------------------------------------------------------------------------------------------------


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Samples:
    """Open shards of labels or captions, each with its pictures.

    Args:
        folders: each with its weight: how many times an epoch reads it; splits other than `train` are read once.
        split: in `train` a picture has another caption in every epoch; in others always the same.
        spec: `form` (`labelled` or `pairs`), `pictures` or `features` (the names of shards, one for each folder),
            `batch_samples`, of pairs `caption_shares`.

    Raises:
        Refused: shards are missing, hold something else or do not pair up, or are too few for one batch.
    """
    is_features = getattr(spec, "features", None) is not None
    key, kind = ("features", "tower") if is_features else ("pictures", "pixels")
    names, is_pairs = getattr(spec, key), spec.form == "pairs"
    if len(folders) != len(names):
        raise Refused(
            f"There are {len(folders)} shards of words and {len(names)} of pictures (samples.{key}), expected as many "
            "of both, of the same corpora in the same order."
        )
    sources: list[Source] = []
    for (folder, weight), name in zip(folders, names, strict=True):
        words = Arrays(folder, split)
        wanted = "captions" if is_pairs else "labels"
        if words.kind != wanted:
            raise Refused(f"{folder} holds {words.kind}, expected {wanted}. Change the key 'shards'.")
        pictures, moves = seen(words, name, kind, key), split == "train"
        part = weight if moves else 1.0
        if is_pairs:
            source = Captioned(words, pictures, spec.caption_shares, part, moves)
            require_kept(source)
            sources.append(source)
        else:
            sources.append(Source(words, pictures, np.arange(len(words)), part, moves))
    require_alike(sources, key)
    if not is_pairs:
        samples: Samples = Labelled(sources, is_features)
        require_batch(len(samples), split, spec)
        return samples
    pairs = Pairs(sources, is_features, sources[0].words.facts["pad"])  # type: ignore[arg-type]
    _require_pairs(pairs, split, spec)
    return pairs


def require_kept(source: Captioned) -> None:
    """Refuse a corpus most of whose pictures have no caption of a wanted kind."""
    if source.num_left_out <= MAX_LEFT_OUT_SHARE * len(source.words) and len(source.records):
        return
    raise Refused(
        f"{source.num_left_out:,} of {len(source.words):,} pictures in the split '{source.words.split}' of "
        f"'{source.words.name}' have no caption of a kind in samples.caption_shares, so they would be left out. It has "
        f"captions of the kinds {', '.join(source.words.names) or 'none'}. Change the key."
    )


def require_alike(sources: Sequence[Source], key: str) -> None:
    """Refuse shards of a mixture that were made with different encoders."""
    first = sources[0]
    for other in sources[1:]:
        if other.words.facts != first.words.facts:
            raise Refused(
                f"'{other.words.name}' and '{first.words.name}' were made with different encoders. Shard them with one."
            )
        if other.pictures.facts != first.pictures.facts:
            raise Refused(
                f"samples.{key}: '{other.pictures.name}' and '{first.pictures.name}' were made with different "
                "encoders. Shard them with one."
            )


def require_batch(found: int, split: str, spec: Any) -> None:
    """Refuse fewer training samples than one batch takes."""
    if split == "train" and found < spec.batch_samples:
        raise Refused(
            f"There are {found:,} training samples, but a batch takes {spec.batch_samples:,} (samples.batch_samples). "
            "Lower it, or add records."
        )


def _require_pairs(pairs: Pairs, split: str, spec: Any) -> None:
    """Refuse pairs of which no batch can be made, before any is trained on."""
    require_batch(len(pairs), split, spec)
    wanted = spec.batch_samples if split == "train" else min(2, spec.batch_samples)
    if wanted < 2:
        raise Refused("samples.batch_samples is 1, but a pair alone has nothing to differ from. Set it to 2 or more.")
    try:
        if len(pairs) < 2:
            raise TooFew(len(pairs))
        pairs.order(0, 0, wanted)
    except TooFew as few:
        raise Refused(
            f"Of the {len(pairs):,} pairs in the split '{split}' only {few.found} differ in caption and picture, but a "
            f"contrast takes {wanted} that do (samples.batch_samples). Lower it, or add records."
        ) from None


# ---- for a person ----------------------------------------------------------------------------------------------------


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """One text for each sample: its label, or its caption with how many tokens it has."""
    if "labels" in batch:
        names = encoder.vocabulary()
        if batch["labels"].ndim == 1:
            return [names[each] for each in batch["labels"].tolist()]
        return [", ".join(names[each] for each in row.nonzero().flatten().tolist()) for row in batch["labels"]]
    sizes = batch["mask"].sum(dim=1).tolist()
    rows = zip(batch["ids"].tolist(), sizes, strict=True)
    return [f"{size} tokens: {encoder.decode(ids[:size])}" for ids, size in rows]
