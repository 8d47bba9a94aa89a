"""Groups of recordings of about equal length, with what is to be predicted: the samples that a network is trained on.

A sample is one group, since groups differ in shape. Which recordings share a group, and where each is cut, is a pure
function of how often the corpus was read before: each pass over a corpus reads every recording once. The recipe's seed
decides only in which order the trainer's plan takes the groups of an epoch, so trainings that differ in it share groups
and cuts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components import paths
from components.batches import Permutation
from components.modalities.speech.features import num_frames
from components.modalities.speech.recordings import as_waveform
from components.modalities.speech.shards import Arrays
from components.outcomes import Refused
from components.pairing import require_same_records
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

if TYPE_CHECKING:
    import torch

BUCKET_SHARE = 0.85
"""The shortest recording of a group has at least so much of the longest one's length: no more is cut or padded."""
GOLDEN = 0.618
MAX_LEFT_OUT_SHARE = 0.5
"""Of recordings that are too short or too long: with more, the corpus and the recipe were not made for each other."""
KINDS = {"crops": "units", "utterances": "phonemes"}
"""Form of samples -> what shards must hold for it."""


@dataclass(frozen=True)
class Bucket:
    """Recordings of about equal length, which share groups."""

    start: int
    """Its first place among the recordings by length."""
    size: int
    num_groups: int


def buckets_of(lengths: np.ndarray, group_samples: int) -> list[Bucket]:
    """Cut recordings, the longest first, into buckets whose groups have at most so many samples, padding included.

    Args:
        lengths: [recordings], falling.
        group_samples: of one group; a longer recording is a group of its own.
    """
    found, start = [], 0
    while start < len(lengths):
        longest = int(lengths[start])
        size = int(np.searchsorted(-lengths[start:], -BUCKET_SHARE * longest, side="right"))
        members = max(1, group_samples // longest)
        found.append(Bucket(start, size, -(-size // members)))
        start += size
    return found


class Source:
    """One part of a mixture: its groups in an endless order, of which each epoch takes the next `num_samples`."""

    def __init__(self, waveforms: Arrays, targets: Arrays, spec: Any, weight: float, moves: bool) -> None:
        self.waveforms, self.targets, self.moves = waveforms, targets, moves
        self.is_cropped = spec.form == "crops"
        shortest, longest = (round(each * SAMPLE_RATE_HZ) for each in (spec.min_seconds, spec.max_seconds))
        lengths = waveforms.lengths
        fits = lengths >= max(shortest, WINDOW_SAMPLES)
        if self.is_cropped:
            lengths = np.minimum(lengths, longest)
        else:
            fits &= lengths <= longest
        self.num_left_out = int((~fits).sum())
        self.seconds_left_out = float(waveforms.lengths[~fits].sum()) / SAMPLE_RATE_HZ
        numbers = np.flatnonzero(fits)
        self.order = numbers[np.argsort(-lengths[numbers], kind="stable")]
        self.lengths = lengths
        self.buckets = buckets_of(lengths[self.order], round(spec.batch_seconds * SAMPLE_RATE_HZ))
        self.ends = np.cumsum([bucket.num_groups for bucket in self.buckets], dtype=np.int64)
        self.num_groups = int(self.ends[-1]) if self.buckets else 0
        self.num_samples = max(1, round(weight * self.num_groups))
        self.stride = _stride(self.num_groups)

    def group(self, number: int, epoch: int) -> dict[str, "torch.Tensor"]:
        """The recordings of a group and what is to be predicted of them."""
        turn, place = divmod((epoch * self.num_samples if self.moves else 0) + number, self.num_groups)
        place = place * self.stride % self.num_groups
        members = self.members(place, turn)
        return self._crops(members, place, turn) if self.is_cropped else self._utterances(members)

    def members(self, place: int, turn: int) -> np.ndarray:
        """int64 [recordings]: the numbers of those that share a group in a pass over the corpus."""
        which = int(np.searchsorted(self.ends, place, side="right"))
        bucket = self.buckets[which]
        own = place - (int(self.ends[which]) - bucket.num_groups)
        bounds = [bucket.size * each // bucket.num_groups for each in (own, own + 1)]
        places = Permutation(bucket.size, f"{self.targets.folder.parent.name}/{turn}/{which}")(np.arange(*bounds))
        return self.order[bucket.start + places]

    def _crops(self, members: np.ndarray, place: int, turn: int) -> dict[str, "torch.Tensor"]:
        """All cut to the shortest, at a multiple of 320 samples, so that frames and units begin together."""
        import torch

        frames = int(num_frames(int(self.lengths[members].min())))
        size = (frames - 1) * FRAME_SAMPLES + WINDOW_SAMPLES
        room = (self.waveforms.lengths_of(members) - size) // FRAME_SAMPLES
        starts = _generator(place, turn).integers(0, room + 1)
        pairs = list(zip(members.tolist(), starts.tolist(), strict=True))
        waves = np.stack([self.waveforms.part(each, start * FRAME_SAMPLES, size) for each, start in pairs])
        units = np.stack([self.targets.part(each, start, frames) for each, start in pairs])
        return {
            "waveforms": torch.from_numpy(as_waveform(waves)),
            "lengths": torch.full((len(members),), size, dtype=torch.int64),
            "targets": torch.from_numpy(units.astype(np.int64)),
        }

    def _utterances(self, members: np.ndarray) -> dict[str, "torch.Tensor"]:
        """All whole, zeros behind the shorter ones."""
        import torch

        numbers = members.tolist()
        waves, lengths = _padded([self.waveforms.part(each) for each in numbers], np.int16)
        targets, target_lengths = _padded([self.targets.part(each) for each in numbers], np.int64)
        return {
            "waveforms": torch.from_numpy(as_waveform(waves)),
            "lengths": torch.from_numpy(lengths),
            "targets": torch.from_numpy(targets),
            "target_lengths": torch.from_numpy(target_lengths),
        }


def _generator(place: int, turn: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"crop/{turn}/{place}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _padded(rows: list[np.ndarray], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows], np.int64)
    found = np.zeros((len(rows), int(lengths.max())), dtype)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found, lengths


def _stride(size: int) -> int:
    """A step through so many places that comes to each once, and spreads lengths evenly over an epoch's part."""
    stride = max(1, round(size * GOLDEN))
    while np.gcd(stride, size) != 1:
        stride += 1
    return stride


class Groups:
    """Samples of a mixture, addressed by number; see `components.modalities.Samples`."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.ends = np.cumsum([source.num_samples for source in sources])

    @property
    def left_out(self) -> str:
        """What no sample is made of, in words; empty if that is nothing."""
        count = sum(source.num_left_out for source in self.sources)
        seconds = sum(source.seconds_left_out for source in self.sources)
        whole = sum(len(source.waveforms) for source in self.sources)
        if not count:
            return ""
        return (
            f"{count:,} of {whole:,} recordings ({seconds:,.1f} s) are left out: they are too short or too long "
            "(samples.min_seconds, samples.max_seconds)"
        )

    def __len__(self) -> int:
        """Groups of one epoch."""
        return int(self.ends[-1])

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """The group of a number; of several numbers a list of tensors for each key, since groups differ in shape.

        Returns:
            `waveforms` float32 [recordings, samples] in [-1, 1), `lengths` int64 [recordings], their samples; of crops
            `targets` int64 [recordings, frames]; of utterances `targets` int64 [recordings, phonemes], zeros behind the
            shorter ones, and `target_lengths` int64 [recordings].
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"sample {indices.min()} to {indices.max()} of {len(self)}")
        groups = []
        for index in indices.tolist():
            which = int(np.searchsorted(self.ends, index, side="right"))
            source = self.sources[which]
            groups.append(source.group(index - int(self.ends[which]) + source.num_samples, epoch))
        if len(groups) == 1:
            return groups[0]
        return {key: [group[key] for group in groups] for key in (groups[0] if groups else ())}


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Groups:
    """Open shards of units or phonemes, each with its waveforms, as groups of recordings.

    Args:
        folders: each with its weight: how many times an epoch reads it; splits other than `train` are read once.
        split: `train` groups and cuts anew in every pass; other splits are always cut alike.
        spec: `form` (`crops` or `utterances`), `waveforms` (the names of shards, one for each folder), `min_seconds`,
            `max_seconds`, `batch_seconds`, `batch_samples`.

    Raises:
        Refused: shards are missing, hold something else or do not pair up, or are too few for one batch.
    """
    if len(folders) != len(spec.waveforms):
        raise Refused(
            f"{len(folders)} shards are to be predicted and {len(spec.waveforms)} are heard (samples.waveforms), "
            "expected as many of both, of the same corpora in the same order."
        )
    sources = []
    for (folder, weight), heard in zip(folders, spec.waveforms, strict=True):
        waveforms, targets = paired(folder, heard, split, KINDS[spec.form])
        if targets.facts != Arrays(folders[0][0], split).facts:
            raise Refused(f"{folder} and {folders[0][0]} were made with different encoders. Shard them with one.")
        source = Source(waveforms, targets, spec, weight if split == "train" else 1.0, moves=split == "train")
        if not source.num_groups or source.num_left_out > MAX_LEFT_OUT_SHARE * len(waveforms):
            seconds = np.quantile(waveforms.lengths, (0, 0.5, 1)) / SAMPLE_RATE_HZ if len(waveforms) else (0.0,) * 3
            raise Refused(
                f"{source.num_left_out:,} of {len(waveforms):,} recordings in the split '{split}' of {folder} are not "
                f"{spec.min_seconds:g} to {spec.max_seconds:g} seconds long, so they would be left out (the shortest "
                f"has {seconds[0]:.2f} s, the median {seconds[1]:.2f} s, the longest {seconds[2]:.2f} s). Change "
                "samples.min_seconds or samples.max_seconds."
            )
        sources.append(source)
    groups = Groups(sources)
    if split == "train" and len(groups) < spec.batch_samples:
        raise Refused(
            f"The training recordings make {len(groups)} groups of {spec.batch_seconds:g} seconds, but a step takes "
            f"{spec.batch_samples} (samples.batches_per_step). Lower it or samples.batch_seconds, or add recordings."
        )
    return groups


def paired(folder: Path, heard: str, split: str, kind: str) -> tuple[Arrays, Arrays]:
    """Waveforms and what is to be predicted of them.

    Args:
        folder: of shards of units or phonemes.
        heard: the name of shards of waveforms.
        split: which one.
        kind: `units` or `phonemes`.

    Raises:
        Refused: they are not of the same records.
    """
    name = folder.parent.name
    require_same_records(name, heard)
    waveforms, targets = Arrays(paths.payload("shard", heard), split), Arrays(folder, split)
    for arrays, wanted, key in ((waveforms, "waveform", "samples.waveforms"), (targets, kind, "shards")):
        if arrays.kind != wanted:
            raise Refused(f"{arrays.folder} holds {arrays.kind}, expected {wanted}. Change the key '{key}'.")
    fits = len(waveforms) == len(targets)
    if fits and kind == "units":
        fits = bool((num_frames(waveforms.lengths) == targets.lengths).all())
    if not fits:
        raise Refused(
            f"The recordings of '{heard}' and the {kind} of '{name}' do not pair up in the split '{split}'. "
            f"Run: hiraku shard {heard}, then hiraku shard {name}"
        )
    return waveforms, targets


# ---- for a person ----------------------------------------------------------------------------------------------------


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """One text for each recording: its seconds, and its phonemes, or its units with their frames."""
    if isinstance(batch["targets"], list):
        parts = [{key: value[place] for key, value in batch.items()} for place in range(len(batch["targets"]))]
        return [text for part in parts for text in describe(part, encoder)]
    texts = []
    for row, targets in enumerate(batch["targets"].tolist()):
        seconds = float(batch["lengths"][row]) / SAMPLE_RATE_HZ
        if "target_lengths" in batch:
            names = encoder.vocabulary()
            said = " ".join(names[each] for each in targets[: int(batch["target_lengths"][row])])
        else:
            said = _runs(targets)
        texts.append(f"{seconds:.2f} s: {said}")
    return texts


def _runs(units: list[int]) -> str:
    """`17x3 4 90x2`: units, and how many frames each lasts."""
    runs: list[list[int]] = []
    for unit in units:
        if runs and runs[-1][0] == unit:
            runs[-1][1] += 1
        else:
            runs.append([unit, 1])
    return " ".join(f"{unit}x{size}" if size > 1 else str(unit) for unit, size in runs)
