"""Batches in which nothing comes twice: a sample that shares something with its batch waits for a later one.

Measured: the order of ten million pairs, a tenth of which have a twin, takes 2.6 s of one core.
"""

from collections import deque

import numpy as np

MOST_TRIES = 4
"""Lists of waiting samples that a batch looks through: where half of all share a key, all of them would take hours."""
LAST_TRIES = 16
"""The same when no other sample is left."""


class TooFew(ValueError):
    """There are fewer samples that go together than one batch takes."""

    def __init__(self, found: int) -> None:
        super().__init__(f"{found} samples go together")
        self.found = found


def distinct_batches(order: np.ndarray, keys: list[np.ndarray], batch_samples: int) -> np.ndarray:
    """The samples of an order batch by batch, so that no two of a batch share a key.

    Samples come in their order but for those that wait. At the end of an order, where only such are left as cannot
    stand together, others come a second time.

    Args:
        order: int64 [samples], each number once.
        keys: of each kind of likeness an array [samples] by sample number: equal for what must not meet.
        batch_samples: of one batch.

    Returns:
        int64 [samples // batch_samples * batch_samples].

    Raises:
        TooFew: one batch alone cannot be filled.
    """
    return _Batches(order, keys, batch_samples).filled()


def may_be_shared(keys: np.ndarray) -> np.ndarray:
    """Which of some keys occur more than once, bool [keys]; a few others are among them.

    Exact would take an `argsort`, ten times as long as the sort and the table here.
    """
    ordered = np.sort(keys)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    table = np.zeros(TABLE_SIZE, bool)
    table[twice % TABLE_SIZE] = True
    found: np.ndarray = table[keys % TABLE_SIZE]
    return found


TABLE_SIZE = 1 << 24


class _Batches:
    def __init__(self, order: np.ndarray, keys: list[np.ndarray], batch_samples: int) -> None:
        self.order, self.size = order, batch_samples
        # Most samples are like no other one; only the rest is ever looked at.
        shared = [may_be_shared(key) for key in keys]
        self.is_shared = np.logical_or.reduce(shared) if shared else np.zeros(len(order), bool)
        self.keys = keys
        self.waiting: deque[np.ndarray] = deque()
        self.place = self.again = 0

    def filled(self) -> np.ndarray:
        num_batches = len(self.order) // self.size
        if not self.is_shared.any():
            return self.order[: num_batches * self.size]
        return np.concatenate([self._batch() for _ in range(num_batches)] or [self.order[:0]])

    def _batch(self) -> np.ndarray:
        chosen = self.order[:0]
        is_end = self.place >= len(self.order)
        for _ in range(min(len(self.waiting), LAST_TRIES if is_end else MOST_TRIES)):
            chosen, left = self._joined(chosen, self.waiting.popleft())
            if len(left):
                self.waiting.append(left)
            if len(chosen) == self.size:
                return chosen
        refused = []
        while len(chosen) < self.size and self.place < len(self.order):
            fresh = self.order[self.place : self.place + self.size - len(chosen)]
            self.place += len(fresh)
            chosen, left = self._joined(chosen, fresh)
            refused.append(left)
        if refused and len(left := np.concatenate(refused)):
            self.waiting.append(left)
        return chosen if len(chosen) == self.size else self._with_others(chosen)

    def _with_others(self, chosen: np.ndarray) -> np.ndarray:
        """Filled up with samples that an earlier batch had."""
        looked_at = 0
        while len(chosen) < self.size:
            if looked_at >= len(self.order):
                raise TooFew(len(chosen))
            part = self.order[self.again : self.again + self.size]
            looked_at += len(part)
            self.again = (self.again + len(part)) % len(self.order)
            chosen, _ = self._joined(chosen, part[~np.isin(part, chosen)])
        return chosen

    def _joined(self, chosen: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is chosen with as many others as go together with it and have room, and the others that are left."""
        both = np.concatenate([chosen, others])
        fits = np.ones(len(both), bool)
        places = np.flatnonzero(self.is_shared[both])
        if len(places) > 1:
            for key in self.keys:
                firsts = np.unique(key[both[places]], return_index=True)[1]
                is_first = np.zeros(len(places), bool)
                is_first[firsts] = True
                fits[places] &= is_first
        fits[: len(chosen)] = True
        fits &= np.cumsum(fits) <= self.size
        return both[fits], both[~fits]
