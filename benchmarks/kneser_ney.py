"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999, section 3.3) over characters, in numpy.

N-grams of length k are integers: the number of the (k - 1)-gram of their first characters, times the size of the
alphabet, plus their last character. That is exact at any length, and sorting puts n-grams of one context side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

START, END, UNKNOWN = 0, 1, 2
"""Ids of the symbols that are no characters. START is never predicted, UNKNOWN never seen in training."""
FIRST_CHARACTER = 3
NUM_SYMBOLS = 1_112_064 + 1
"""The alphabet that the model shares its last probability over: all Unicode scalar values, and END."""
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Where a text is too small for counts of 1, 2, 3 and 4 all to occur (as KenLM's --discount_fallback)."""


@dataclass(frozen=True)
class Level:
    """All n-grams of one length."""

    codes: np.ndarray
    """int64 [number of n-grams], sorted: context number * alphabet + last character."""
    discounted: np.ndarray
    """float64 [number of n-grams]: (count - discount) / count of the context."""
    backoff: np.ndarray
    """float64 [number of contexts]: what is left for shorter n-grams; 1 where the context was never followed."""


@dataclass(frozen=True)
class KneserNey:
    """A fitted model."""

    alphabet: np.ndarray
    """int32 code points seen in training, sorted; a character's id is its place plus FIRST_CHARACTER."""
    levels: list[Level]

    @classmethod
    def fit(cls, texts: Sequence[str], order: int) -> "KneserNey":
        """Count the n-grams of documents up to a length.

        Args:
            texts: documents.
            order: length of the longest n-gram, at least 1.
        """
        points, lengths = _code_points(texts)
        alphabet = np.unique(points)
        symbols, offsets = _symbols(np.searchsorted(alphabet, points).astype(np.int32) + FIRST_CHARACTER, lengths)
        return cls(alphabet, _levels(symbols, offsets, len(alphabet) + FIRST_CHARACTER, order))

    def bits(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Bits of every predicted symbol of documents: their characters and one END each, in order.

        Returns:
            float64 bits and, of the same shape, whether the symbol is known from training.
        """
        points, lengths = _code_points(texts)
        places = np.minimum(np.searchsorted(self.alphabet, points), len(self.alphabet) - 1)
        ids = np.where(self.alphabet[places] == points, places + FIRST_CHARACTER, UNKNOWN).astype(np.int32)
        symbols, offsets = _symbols(ids, lengths)
        targets = np.flatnonzero(offsets > 0)
        probabilities = np.full(len(targets), 1.0 / NUM_SYMBOLS)
        num_ids = len(self.alphabet) + FIRST_CHARACTER
        # The number of the n-gram that ends at each symbol; -1 where training never had it.
        numbers = np.zeros(len(symbols), dtype=np.int64)
        for length, level in enumerate(self.levels, 1):
            reaches = offsets >= length - 1
            contexts = np.zeros(len(symbols), dtype=np.int64) if length == 1 else np.roll(numbers, 1)
            contexts[~reaches] = -1
            numbers = _find(level.codes, contexts, symbols, num_ids)
            context, number = contexts[targets], numbers[targets]
            known_context, known = context >= 0, number >= 0
            probabilities[known_context] *= level.backoff[context[known_context]]
            probabilities[known] += level.discounted[number[known]]
        return -np.log2(probabilities), symbols[targets] != UNKNOWN


def _code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of all texts in a row (int32), and the length of each text."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<i4")
    return points, np.array([len(text) for text in texts], dtype=np.int64)


def _symbols(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """START, characters, END of all documents in a row, and each symbol's offset in its document (int32)."""
    spans = lengths + 2
    starts = np.cumsum(spans) - spans
    offsets = (np.arange(spans.sum()) - np.repeat(starts, spans)).astype(np.int32)
    symbols = np.empty(len(offsets), dtype=np.int32)
    inside = np.ones(len(offsets), dtype=bool)
    inside[starts] = inside[starts + spans - 1] = False
    symbols[starts], symbols[starts + spans - 1], symbols[inside] = START, END, ids
    return symbols, offsets


def _find(codes: np.ndarray, contexts: np.ndarray, symbols: np.ndarray, num_ids: int) -> np.ndarray:
    """Numbers of n-grams among sorted codes; -1 for those that are not there or have no context."""
    wanted = contexts * num_ids + symbols
    places = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where((contexts >= 0) & (codes[places] == wanted), places, -1)


@dataclass(frozen=True)
class _Counts:
    """N-grams of one length as counted: sorted codes, counts, numbers of their endings, and which begin a document."""

    codes: np.ndarray
    counts: np.ndarray
    endings: np.ndarray
    """int32: the number of each n-gram without its first character, among those one shorter."""
    begins: np.ndarray


def _count(
    codes: np.ndarray, positions: np.ndarray, shorter: np.ndarray, offsets: np.ndarray, length: int
) -> tuple[_Counts, np.ndarray]:
    """Count the n-grams of one length.

    Args:
        codes: of the n-grams, in the order of the text.
        positions: where each ends.
        shorter: at every position, the number of the n-gram one shorter that ends there.
        offsets: of every position in its document.
        length: of the n-grams.

    Returns:
        The counts, and at every position the number of the n-gram that ends there (-1 for none).
    """
    order = np.argsort(codes)
    ordered = codes[order]
    first = np.empty(len(codes), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    numbers = np.full(len(shorter), -1, dtype=np.int32)
    numbers[positions[order]] = np.cumsum(first, dtype=np.int32) - 1
    where = positions[order[starts]]
    counts = np.diff(np.append(starts, len(codes)))
    return _Counts(ordered[starts], counts, shorter[where], offsets[where] == length - 1), numbers


def _levels(symbols: np.ndarray, offsets: np.ndarray, num_ids: int, order: int) -> list[Level]:
    """Count all lengths, then smooth each: the longest by its counts, the others by how many contexts they follow."""
    numbers = np.zeros(len(symbols), dtype=np.int32)
    counted: list[_Counts] = []
    for length in range(1, order + 1):
        # START itself stands among the 1-grams, since it is a context; its count is set to 0 below.
        positions = np.flatnonzero(offsets >= length - 1)
        contexts = numbers[positions - 1].astype(np.int64) if length > 1 else np.zeros(len(positions), dtype=np.int64)
        counts, numbers = _count(contexts * num_ids + symbols[positions], positions, numbers, offsets, length)
        counted.append(counts)
    levels = []
    for index, grams in enumerate(counted):
        adjusted = grams.counts
        if index + 1 < len(counted):
            # What begins a document follows nothing, so it keeps its own count.
            follows = np.bincount(counted[index + 1].endings, minlength=len(grams.codes))
            adjusted = np.where(grams.begins, adjusted, follows)
        if index == 0:
            adjusted = np.where(grams.codes == START, 0, adjusted)
        num_contexts = len(counted[index - 1].codes) if index else 1
        levels.append(_smooth(grams.codes, adjusted, grams.codes // num_ids, num_contexts))
    return levels


def _smooth(codes: np.ndarray, counts: np.ndarray, contexts: np.ndarray, num_contexts: int) -> Level:
    """Discount counts and give the rest of each context to shorter n-grams."""
    discounts = np.array([0.0, *discounts_of(counts)])[np.minimum(counts, 3)]
    totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
    taken = np.bincount(contexts, weights=discounts, minlength=num_contexts)
    discounted = (counts - discounts) / np.maximum(totals[contexts], 1)
    backoff = np.divide(taken, totals, out=np.ones(num_contexts), where=totals > 0)
    return Level(codes, discounted, backoff)


def discounts_of(counts: np.ndarray) -> tuple[float, float, float]:
    """What is taken from n-grams counted once, twice, and three times or more (Chen and Goodman, equation 26)."""
    n1, n2, n3, n4 = (int((counts == number).sum()) for number in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK_DISCOUNTS
    ratio = n1 / (n1 + 2 * n2)
    one, two, more = 1 - 2 * ratio * n2 / n1, 2 - 3 * ratio * n3 / n2, 3 - 4 * ratio * n4 / n3
    return (one, two, more) if 0 < one < 1 and 0 < two < 2 and 0 < more < 3 else FALLBACK_DISCOUNTS
