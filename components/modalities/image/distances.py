"""Distances between lots of pictures by their features, each total a mean of jackknife pseudo-values of pictures.

Of an estimator T of n pictures, the pseudo-value of picture i is n T - (n - 1) T without i. For means over pairs their
mean is T itself, and their spread gives its standard error (Arvesen 1969, Jackknifing U-statistics).
"""

from collections.abc import Callable, Iterator

import numpy as np

BLOCK_ROWS = 1024
"""Rows of a matrix of pairs that are in memory together."""
DEGREE, OFFSET = 3, 1.0

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """KID's kernel (x·y / width + 1)^3 (Bińkowski et al. 2018, section 4), float64 [left, right].

    Features of unit length are taken √width times as long, so that x·y / width is their cosine.
    """
    found: np.ndarray = (left.astype(np.float64) @ right.astype(np.float64).T + OFFSET) ** DEGREE
    return found


def gap(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 - cosine of features of unit length, float64 [left, right]."""
    found: np.ndarray = 1.0 - left.astype(np.float64) @ right.astype(np.float64).T
    return found


def kernel_distance(ours: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Pseudo-values of the unbiased estimate of MMD² (Gretton et al. 2012, equation 3), float64 [ours].

    Args:
        ours: float [pictures, width], of unit length, three or more.
        real: the same of those they are held against, two or more.
    """
    n, m = len(ours), len(real)
    own, others = _sums_without_self(ours, kernel), _sums(ours, real, kernel) / m
    whole = own.sum()
    among_real = _sums_without_self(real, kernel).sum() / (m * (m - 1))
    pairs: np.ndarray = whole / (n - 1) - (whole - 2 * own) / (n - 2)
    return pairs - 2 * others + among_real


def diversity(ours: np.ndarray) -> np.ndarray:
    """Pseudo-values of the mean of 1 - cosine over pairs, float64 [pictures]; of three or more."""
    n, own = len(ours), _sums_without_self(ours, gap)
    pairs: np.ndarray = own.sum() / (n - 1) - (own.sum() - 2 * own) / (n - 2)
    return pairs


def nearest(ours: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the others is nearest to each, int64, and how far it is, 1 - cosine, float64; both [ours]."""
    numbers, far = np.empty(len(ours), np.int64), np.empty(len(ours))
    for part in _blocks(len(ours)):
        found = gap(ours[part], others)
        numbers[part] = found.argmin(axis=1)
        far[part] = found.min(axis=1)
    return numbers, far


def _sums(ours: np.ndarray, others: np.ndarray, of: Kernel) -> np.ndarray:
    """The sum over others of each, float64 [ours]."""
    return np.concatenate([of(ours[part], others).sum(axis=1) for part in _blocks(len(ours))])


def _sums_without_self(ours: np.ndarray, of: Kernel) -> np.ndarray:
    """The sum over all but itself of each, float64 [ours]."""
    own = np.concatenate([np.diag(of(ours[part], ours[part])) for part in _blocks(len(ours))])
    return _sums(ours, ours, of) - own


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, count))
