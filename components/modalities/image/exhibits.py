"""What a person looks at of a pair of towers: what it retrieves, how near things are, which classes it confuses."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from components.grids import Strip, Tile, matrix, strips

if TYPE_CHECKING:
    from torch import Tensor

NUM_QUERIES = 12
NUM_SHOWN = 6
NUM_CELLS = 24
"""Rows and columns of a matrix of similarities."""
MOST_CLASSES = 60
"""Of a confusion; of more, those that are confused most."""


def _exhibit(name: str, svg: str) -> dict[str, Any]:
    return {"item": None, "picture": name, "svg": svg}


def _spread(count: int, most: int) -> list[int]:
    """So many numbers, evenly spread."""
    size = min(count, most)
    return [place * count // size for place in range(size)]


def retrieved(
    texts: list[str],
    look: Callable[[list[int]], list[bytes]],
    words: "Tensor",
    seen: "Tensor",
    keys: list[np.ndarray],
) -> dict[str, Any]:
    """Captions with the pictures that are nearest to them, the right ones marked.

    Args:
        texts: captions.
        look: numbers of records -> their small pictures.
        words: float [records, width] of the captions.
        seen: the same of the pictures.
        keys: by which pictures are right; see `components.modalities.image.similarity.ranks`.
    """
    queries = _spread(len(texts), NUM_QUERIES)
    near = words[queries] @ seen.T
    best = near.topk(min(NUM_SHOWN, len(seen)), dim=1).indices.tolist()
    numbers = sorted({each for row in best for each in row})
    pictures = dict(zip(numbers, look(numbers), strict=True))
    rows = []
    for place, number in enumerate(queries):
        tiles = [
            Tile(pictures[each], f"{float(near[place, each]):.2f}", any(key[each] == key[number] for key in keys))
            for each in best[place]
        ]
        rows.append(Strip(texts[number], tiles))
    title = f"Nearest of {len(seen):,} pictures to a caption, with cosines; right ones are framed"
    return _exhibit("retrieval.svg", strips(title, rows))


def similarities(texts: list[str], words: "Tensor", seen: "Tensor") -> dict[str, Any]:
    """Cosines of some captions and pictures; a good model has a dark diagonal."""
    chosen = _spread(len(texts), NUM_CELLS)
    values = (words[chosen] @ seen[chosen].T).tolist()
    names = [texts[each] for each in chosen]
    return _exhibit("similarities.svg", matrix("Cosines of captions (rows) and pictures", values, names, names))


def confusion(names: list[str], wanted: np.ndarray, said: np.ndarray) -> dict[str, Any]:
    """How often pictures of a class (rows) are taken for another, in shares of the class."""
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (wanted, said), 1)
    wrong = counts - np.diag(np.diag(counts))
    amount = wrong.sum(axis=0) + wrong.sum(axis=1)
    kept = np.sort(np.argsort(-amount, kind="stable")[:MOST_CLASSES])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    shown = [names[each] for each in kept]
    title = "What pictures of a class (rows) are taken for"
    title += "" if len(kept) == len(names) else f": the {len(kept)} of {len(names)} classes that are confused most"
    return _exhibit("confusion.svg", matrix(title, shares[np.ix_(kept, kept)].tolist(), shown, shown))
