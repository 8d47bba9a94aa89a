"""Which samples stand in which batch: a pure function of (seed, epoch, position), so exact resume is one integer.

The order of an epoch is a keyed permutation that is computed, not stored: a Feistel cipher on the smallest even number
of bits that holds all samples, walked until it falls among them (Black and Rogaway 2002, "Ciphers with arbitrary finite
domains"). So a billion samples need no table, and any batch of any epoch is found in constant time.
"""

import hashlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from components import ranks
from components.lifeline import die_with_parent
from components.modalities import Samples

NUM_ROUNDS = 6
"""Four make a Feistel cipher a pseudo-random permutation (Luby and Rackoff 1988); two more for short halves."""
WORD = np.uint64(0xFFFFFFFFFFFFFFFF)


def _mixed(value: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), modulo 2**64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def mixed_shares(numbers: np.ndarray, key: str) -> np.ndarray:
    """A number in [0, 1) for each int64 number, the same for the same number and key, as if drawn at random."""
    offset = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8).digest(), dtype="<u8")[0]
    return (_mixed(_mixed(numbers.astype(np.uint64)) + offset) >> np.uint64(11)).astype(np.float64) / 2.0**53


@dataclass(frozen=True)
class Permutation:
    """A keyed bijection of 0 … size - 1, evaluated where it is asked."""

    size: int
    key: str

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """int64 positions, each below `size` -> where they stand, int64."""
        half_bits = max(1, ((self.size - 1).bit_length() + 1) // 2)
        keys = np.frombuffer(hashlib.shake_256(self.key.encode()).digest(8 * NUM_ROUNDS), dtype="<u8")
        values = positions.astype(np.uint64)
        outside = np.arange(len(values))
        while len(outside):
            values[outside] = self._encrypted(values[outside], np.uint64(half_bits), keys)
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    @staticmethod
    def _encrypted(values: np.ndarray, half_bits: np.uint64, keys: np.ndarray) -> np.ndarray:
        mask = (np.uint64(1) << half_bits) - np.uint64(1)
        left, right = values >> half_bits, values & mask
        for key in keys:
            left, right = right, left ^ (_mixed((right + key) & WORD) & mask)
        return (left << half_bits) | right


CHUNK = 1 << 16
"""Positions that a permutation is evaluated at together: what stays in a processor's cache."""


def whole_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [num_samples]: every sample of an epoch, in the order in which batches take them."""
    permutation = Permutation(num_samples, f"{seed}/{epoch}")
    starts = range(0, num_samples, CHUNK)
    return np.concatenate([permutation(np.arange(start, min(start + CHUNK, num_samples))) for start in starts])


Order = Callable[[int, int, int], np.ndarray]
"""(seed, epoch, batch_samples) -> int64 [batches of an epoch * batch_samples], the samples of one batch after another;
a pure function."""


@dataclass(frozen=True)
class BatchPlan:
    """An endless sequence of batches. None straddles an epoch: what is left of one is dropped, other samples each time.

    Raises:
        ValueError: there are fewer samples than one batch takes.
    """

    num_samples: int
    batch_samples: int
    seed: int
    apart: bool = False
    """Whether samples cannot be stacked."""
    order: Order | None = None
    """Of samples that do not all go together; without it, each batch takes any."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_samples <= self.num_samples:
            raise ValueError(f"a batch takes {self.batch_samples} samples of {self.num_samples}")

    @property
    def epoch_batches(self) -> int:
        """Batches of one epoch."""
        return self.num_samples // self.batch_samples

    def indices(self, number: int) -> tuple[int, np.ndarray]:
        """The epoch of a batch, counted from 0 over all epochs, and its sample numbers [batch_samples]."""
        epoch, place = divmod(number, self.epoch_batches)
        if self.order is not None:
            whole = self.order(self.seed, epoch, self.batch_samples)
            return epoch, whole[place * self.batch_samples : (place + 1) * self.batch_samples]
        positions = np.arange(place * self.batch_samples, (place + 1) * self.batch_samples)
        return epoch, Permutation(self.num_samples, f"{self.seed}/{epoch}")(positions)


Batch = dict[str, Tensor] | list[dict[str, Tensor]]
"""Samples collated into tensors; or each in tensors of its own, where they differ in shape."""


def collated(samples: Samples, indices: np.ndarray, epoch: int, apart: bool) -> Batch:
    """The samples of these numbers as one batch, or, where they stand apart, one by one."""
    if apart:
        return [samples.batch(indices[place : place + 1], epoch) for place in range(len(indices))]
    return samples.batch(indices, epoch)


def micro_batches(batch: Batch, num_samples: int) -> Iterator[dict[str, Tensor]]:
    """A batch in parts of so many samples, the last one with what is left; samples that stand apart one by one."""
    if isinstance(batch, list):
        yield from batch
        return
    total = len(next(iter(batch.values())))
    for start in range(0, total, num_samples):
        yield {key: value[start : start + num_samples] for key, value in batch.items()}


def prepared(objective: Any, parts: Iterable[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Micro-batches with what chance decides of them, where an objective leaves anything to chance."""
    return [objective.prepared(part) if hasattr(objective, "prepared") else part for part in parts]


def counted(objective: Any, parts: list[dict[str, Tensor]]) -> tuple[int, int]:
    """Items and FLOPs of a batch."""
    return sum(map(objective.num_items, parts)), sum(map(objective.num_flops, parts))


def valid_batches(training: Any, samples: Samples) -> Iterator[dict[str, Tensor]]:
    """The held-out samples of every validation, the same ones each time, as micro-batches.

    Spread evenly over all there are, so that each part of a mixture has its share. Samples that do not all go together
    come in whole batches of their own order.
    """
    size, count = training.samples.micro_batch_samples, min(training.valid_samples, len(samples))
    if order := getattr(samples, "order", None):
        size = min(size, count)
        numbers = order(0, 0, size)[: count // size * size]
    else:
        numbers = np.arange(count) * len(samples) // count
    for start in range(0, len(numbers), size):
        yield samples.batch(numbers[start : start + size], 0)


class BatchStream(IterableDataset[tuple[int, Batch]]):
    """Numbered batches from a given number on, without end, or one rank's share of each.

    Worker w of n yields every n-th, and the loader takes turns.
    """

    def __init__(self, samples: Samples, plan: BatchPlan, start: int, skipped: frozenset[int]) -> None:
        self.samples, self.plan, self.start, self.skipped = samples, plan, start, skipped
        self.share = slice(ranks.rank(), None, ranks.num_ranks())

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        numbers: Iterator[int] = itertools.filterfalse(self.skipped.__contains__, itertools.count(self.start))
        if worker := get_worker_info():
            numbers = itertools.islice(numbers, worker.id, None, worker.num_workers)
        for number in numbers:
            epoch, indices = self.plan.indices(number)
            yield number, collated(self.samples, indices[self.share], epoch, self.plan.apart)


def _start_worker(_: int) -> None:
    die_with_parent()


class Feed:
    """Where a training's batches come from; it can be set back, and leave out batches that did harm."""

    def __init__(self, samples: Samples, plan: BatchPlan, num_workers: int, pin_memory: bool) -> None:
        self.samples, self.plan, self.num_workers, self.pin_memory = samples, plan, num_workers, pin_memory
        self.batches: Iterator[tuple[int, Batch]] = iter(())

    def go_to(self, number: int, skipped: Iterable[int]) -> None:
        """Let the next batch be this number, or the first after it that is not skipped; for any number of workers."""
        loader = DataLoader(
            BatchStream(self.samples, self.plan, number, frozenset(skipped)),
            batch_size=None,
            num_workers=self.num_workers,
            # A worker of a fork server is no child of this process, and would outlive its kill.
            multiprocessing_context="fork" if self.num_workers and sys.platform == "linux" else None,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
        )
        self.batches = iter(loader)

    def next(self) -> tuple[int, Batch]:
        """The next batch, behind its number; of several ranks each gets its share."""
        return next(self.batches)
