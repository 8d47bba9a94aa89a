"""Which stretches of some texts stand in others: n-grams of characters, indexed once, looked for in one pass.

Texts are compared as letters and digits alone, in one case and width. A stretch is known by a hash of 64 bits: among
10^10 stretches of a corpus and 10^6 of a task one is taken for another with a likelihood below 10^-3.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np

from components.characters import letters_and_digits

REVISION = 1
"""Of normalisation and hashes: what was found before is looked for anew when it is raised."""
LENGTH_PERCENTILE = 5
"""Of the lengths of a task's texts: how long a stretch is, within bounds; GPT-3, arXiv 2005.14165, appendix C."""
CHUNK_CHARS = 2_000_000
SEPARATOR = "\0"
"""Stands between two texts; no stretch that is looked for has one."""
FILTER_BITS = range(16, 28)

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


def normal(text: str) -> np.ndarray:
    """Code points of the letters and digits of a text, in one case and width (NFKC), uint32 [characters]."""
    return letters_and_digits(unicodedata.normalize("NFKC", text).casefold(), SEPARATOR)


def hashes_of(points: np.ndarray, length: int) -> np.ndarray:
    """A hash of every stretch of so many characters, uint64 [characters - length + 1].

    A polynomial modulo 2^64 by doubling: about log2(length) passes over the text.
    """
    if len(points) < length:
        return np.empty(0, np.uint64)
    single = points.astype(np.uint64) * _MIX
    single ^= single >> np.uint64(31)
    found, known = single, 1
    for bit in f"{length:b}"[1:]:
        found = found[:-known] * np.uint64(pow(int(_BASE), known, 1 << 64)) + found[known:]
        known *= 2
        if bit == "1":
            found = found[:-1] * _BASE + single[known:]
            known += 1
    found = (found ^ (found >> np.uint64(32))) * _MIX
    return np.asarray(found ^ (found >> np.uint64(29)))


def _pieces(points: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Pieces of a text that have each of its stretches once, so that memory does not grow with its length."""
    for start in range(0, max(len(points) - length + 1, 1), CHUNK_CHARS):
        yield points[start : start + CHUNK_CHARS + length - 1]


def shingles(text: str, length: int) -> Iterator[np.ndarray]:
    """Hashes of every stretch of a text, piece by piece, uint64 [any number]; of a shorter text the one of it all."""
    points = normal(text)
    if len(points):
        length = min(length, len(points))
        yield from (hashes_of(part, length) for part in _pieces(points, length))


def _looked_for(parts: list[np.ndarray], length: int) -> list[np.ndarray]:
    """The texts of an item; as one if so many characters are more than most of it has in one."""
    sizes = [len(each) for each in parts]
    is_short = bool(parts) and sizes[0] < length and 2 * sum(size for size in sizes if size >= length) < sum(sizes)
    return [np.concatenate(parts)] if is_short else parts


class Index:
    """The stretches of a task's items.

    A stretch lies within one text of an item, so a question that stands somewhere without its choices is known again.
    Only an item that begins with a text shorter than a stretch and has most of its letters in such texts, like a short
    question and its choices, is looked for as one text, in their order.

    Args:
        texts: item -> its texts.
        min_chars: bounds of how long a stretch is.
        max_chars: the upper one.
    """

    def __init__(self, texts: Mapping[str, list[str]], min_chars: int, max_chars: int) -> None:
        points = {item: [normal(text) for text in parts] for item, parts in texts.items()}
        lengths = sorted(max(map(len, _looked_for(parts, min_chars)), default=0) for parts in points.values())
        short = lengths[len(lengths) * LENGTH_PERCENTILE // 100] if lengths else 0
        self.num_chars = min(max_chars, max(min_chars, short))
        """How long a stretch is."""
        self._own = {item: self._stretches(parts) for item, parts in points.items()}
        self.keys = np.unique(np.concatenate([*self._own.values(), np.empty(0, np.uint64)]))
        """The hashes of all, sorted, uint64 [stretches]."""
        bits = min(max(int(len(self.keys) * 16).bit_length(), FILTER_BITS[0]), FILTER_BITS[-1])
        self._shift = np.uint64(64 - bits)
        self._may_be = np.zeros(1 << bits, dtype=bool)
        self._may_be[self.keys >> self._shift] = True

    def _stretches(self, parts: list[np.ndarray]) -> np.ndarray:
        hashes = [hashes_of(each, self.num_chars) for each in _looked_for(parts, self.num_chars)]
        return np.unique(np.concatenate([*hashes, np.empty(0, np.uint64)]))

    @property
    def digest(self) -> str:
        """Names what is looked for."""
        head = f"{REVISION} {self.num_chars} ".encode()
        return hashlib.sha256(head + self.keys.tobytes()).hexdigest()

    def places_in(self, points: np.ndarray) -> np.ndarray:
        """Which of `keys` stand in a text, int64 [any number]."""
        found = hashes_of(points, self.num_chars)
        found = found[self._may_be[found >> self._shift]]
        places = np.searchsorted(self.keys, found)
        places[places == len(self.keys)] = 0
        return np.asarray(places[self.keys[places] == found])

    @cached_property
    def _owners(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of items by stretch, int64 [pairs], and where those of each stretch begin, int64 [stretches + 1]."""
        items = np.repeat(np.arange(len(self._own)), [len(own) for own in self._own.values()])
        places = np.searchsorted(self.keys, np.concatenate([*self._own.values(), np.empty(0, np.uint64)]))
        order = np.argsort(places, kind="stable")
        return items[order], np.searchsorted(places[order], np.arange(len(self.keys) + 1))

    def items_in(self, text: str) -> dict[str, float]:
        """Item -> the share of its stretches that stand in one text, of those that have one there."""
        if not len(self.keys):
            return {}
        points = normal(text)
        found = [self.places_in(part) for part in _pieces(points, self.num_chars)]
        places = np.unique(np.concatenate([*found, np.empty(0, np.int64)]))
        if not len(places):
            return {}
        items, starts = self._owners
        owners = np.concatenate([items[starts[place] : starts[place + 1]] for place in places])
        names = list(self._own)
        counts = np.bincount(owners)
        return {names[item]: float(counts[item] / len(self._own[names[item]])) for item in np.flatnonzero(counts)}

    def shares(self, seen: np.ndarray) -> dict[str, float]:
        """Item -> the share of its stretches that were seen, bool [stretches]; one without a stretch is left out."""
        return {
            item: float(seen[np.searchsorted(self.keys, own)].mean()) for item, own in self._own.items() if len(own)
        }


def look(indices: list[Index], texts: Iterable[str]) -> list[np.ndarray]:
    """Look for all of some indices in texts, in one pass: which of each one's `keys` stand there, bool [stretches]."""
    seen = [np.zeros(len(index.keys), dtype=bool) for index in indices]

    def look_in(part: list[str]) -> None:
        points = normal(SEPARATOR.join(part))
        for index, marks in zip(indices, seen, strict=True):
            if len(marks):
                marks[index.places_in(points)] = True

    part: list[str] = []
    num_chars = 0
    for text in texts:
        part.append(text)
        num_chars += len(text)
        if num_chars >= CHUNK_CHARS:
            look_in(part)
            part, num_chars = [], 0
    look_in(part)
    return seen
