"""Which samples stand in which batch: a pure function of (seed, epoch, position), so exact resume is one integer.

The order of an epoch is a keyed permutation that is computed, not stored: a Feistel cipher on the smallest even number
of bits that holds all samples, walked until it falls among them (Black and Rogaway 2002, "Ciphers with arbitrary finite
domains"). So a billion samples need no table, and any batch of any epoch is found in constant time.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

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


@dataclass(frozen=True)
class BatchPlan:
    """An endless sequence of batches. None straddles an epoch: what is left of one is dropped, other samples each time.

    Raises:
        ValueError: there are fewer samples than one batch takes.
    """

    num_samples: int
    batch_samples: int
    seed: int

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
        positions = np.arange(place * self.batch_samples, (place + 1) * self.batch_samples)
        return epoch, Permutation(self.num_samples, f"{self.seed}/{epoch}")(positions)


class BatchStream(IterableDataset[dict[str, Any]]):
    """Batches from a given number on, without end. Worker w of n yields every n-th, and the loader takes turns."""

    def __init__(self, samples: Samples, plan: BatchPlan, start: int) -> None:
        self.samples, self.plan, self.start = samples, plan, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, stride = (self.start + worker.id, worker.num_workers) if worker else (self.start, 1)
        while True:
            epoch, indices = self.plan.indices(number)
            yield self.samples.batch(indices, epoch)
            number += stride


def _start_worker(_: int) -> None:
    die_with_parent()


def batch_loader(samples: Samples, plan: BatchPlan, start: int, num_workers: int, pin_memory: bool) -> DataLoader:
    """An endless loader whose first batch is number `start`; the same batches for any number of workers."""
    return DataLoader(
        BatchStream(samples, plan, start),
        batch_size=None,
        num_workers=num_workers,
        # A worker of a fork server is no child of this process, and would outlive its kill.
        multiprocessing_context="fork" if num_workers and sys.platform == "linux" else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )
