"""Heaps of near duplicates: records that pairs connect, of which the first stays and what is near to it goes.

In memory are about 100 bytes for each pair of near records; signatures are read from the disk.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.cleaning_schema import NearDuplicates
from components.records import SPLITS

PAIRS_AT_ONCE = 50_000
MOST_KEEPERS = 1_000
"""Records of one heap that may stay and be compared with the others; what is left of a greater heap stays too."""
HELD_OUT_FIRST = {"test": 0, "valid": 1, "train": 2}
REMOVED = np.dtype([("record", "<u4"), ("keeper", "<u8"), ("similarity", "<f4")])


class Rows:
    """Signatures by the number of a record: its file in the upper 32 bits, its place in the lower."""

    def __init__(self, paths: list[Path], num_hashes: int) -> None:
        self.files = [
            np.memmap(path, "<u4", "r").reshape(-1, num_hashes)
            if path.stat().st_size
            else np.empty((0, num_hashes), "<u4")
            for path in paths
        ]
        self.num_hashes = num_hashes

    def __getitem__(self, records: np.ndarray) -> np.ndarray:
        found = np.empty((len(records), self.num_hashes), "<u4")
        numbers = (records >> np.uint64(32)).astype(np.int64)
        places = (records & np.uint64(0xFFFFFFFF)).astype(np.int64)
        for number in np.unique(numbers):
            own = numbers == number
            found[own] = self.files[number][places[own]]
        return found

    def similarity(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The share of hashes that agree: an estimate of the similarity of Jaccard, float32 [pairs]."""
        return np.asarray((self[one] == self[other]).mean(axis=1), np.float32)


def _near_pairs(run: Path, rows: Rows, least: float) -> np.ndarray:
    """Pairs that share a band and are near, each once, uint64 [pairs, 2]."""
    near = np.empty((0, 2), np.uint64)
    for path in sorted((run / "pairs").glob("*.dups")):
        found = [near]  # of one band alone: most pairs are in nearly all of them
        with path.open("rb") as stream:
            while len(raw := np.fromfile(stream, "<u4", 4 * PAIRS_AT_ONCE).reshape(-1, 4).astype(np.uint64)):
                one, other = raw[:, 0] << np.uint64(32) | raw[:, 1], raw[:, 2] << np.uint64(32) | raw[:, 3]
                is_near = rows.similarity(one, other) >= least
                found.append(np.stack([one[is_near], other[is_near]], axis=1))
        near = np.unique(np.concatenate(found), axis=0)
    return near


def write_removed(
    run: Path, paths: list[Path], files: list[tuple[int, int]], cleaned: int, settings: NearDuplicates
) -> None:
    """Write what goes of each part of the corpus that is cleaned, of type `REMOVED` in the order of records.

    Args:
        run: holds `pairs`, and receives `removed`.
        paths: the signatures of each file.
        files: (corpus, part) by the number of a file.
        cleaned: the number of the corpus.
        settings: how records are compared.
    """
    rows = Rows(paths, settings.num_bands * settings.band_rows)
    pairs = _near_pairs(run, rows, settings.min_similarity)
    removed = heaps(pairs, rows, _order(paths, files, cleaned), settings.min_similarity)
    removed = removed[np.argsort(removed[:, 0])]
    starts = np.searchsorted(removed[:, 0], np.arange(len(files) + 1, dtype=np.uint64) << np.uint64(32))
    folder = run / "removed"
    folder.mkdir(exist_ok=True)
    for number, (corpus, part) in enumerate(files):
        if corpus != cleaned:
            continue
        own = removed[starts[number] : starts[number + 1]]
        table = np.empty(len(own), REMOVED)
        table["record"], table["keeper"] = own[:, 0] & np.uint64(0xFFFFFFFF), own[:, 1]
        table["similarity"] = rows.similarity(own[:, 0], own[:, 1])
        content = io.BytesIO()  # numpy's own writing tells nothing of a full disk
        np.save(content, table, allow_pickle=False)
        (folder / f"{part:05d}.npy").write_bytes(content.getvalue())


def _order(paths: list[Path], files: list[tuple[int, int]], cleaned: int) -> Callable[[np.ndarray], np.ndarray]:
    """Who stays: what stays in any case, then what is held out, then what was read first; indices that sort so."""
    splits = [np.frombuffer(path.with_suffix(".splits").read_bytes(), np.uint8) for path in paths]
    rank = np.array([HELD_OUT_FIRST[split] for split in SPLITS])
    is_cleaned = np.array([corpus == cleaned for corpus, _ in files])

    def sorted_by(records: np.ndarray) -> np.ndarray:
        numbers, places = (records >> np.uint64(32)).astype(np.int64), records & np.uint64(0xFFFFFFFF)
        split = np.array([rank[splits[n][int(p)]] for n, p in zip(numbers, places, strict=True)])
        return np.lexsort((records, split, is_cleaned[numbers]))

    return sorted_by


def heaps(pairs: np.ndarray, rows: Any, sorted_by: Callable[[np.ndarray], np.ndarray], least: float) -> np.ndarray:
    """Of each heap of records that pairs connect, the first stays and what is near to it goes, and so on.

    Args:
        pairs: numbers of records, uint64 [pairs, 2].
        rows: their `similarity`.
        sorted_by: indices that sort records by who stays.
        least: the similarity from which on two are near.

    Returns:
        (record that goes, record that stays), uint64 [removed, 2].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    records, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(records), len(records)))
    _, labels = connected_components(graph, directed=False)
    removed = bytearray()
    order = np.argsort(labels, kind="stable")
    ordered, ends_of_heaps = records[order], np.flatnonzero(np.diff(labels[order], append=-1)) + 1
    start = 0
    for end in map(int, ends_of_heaps):
        heap, start = ordered[start:end], end
        left = heap[sorted_by(heap)]
        for _ in range(MOST_KEEPERS):
            if len(left) < 2:
                break
            keeper, left = left[0], left[1:]
            near = np.concatenate(
                [
                    rows.similarity(part, np.full(len(part), keeper)) >= least
                    for part in np.split(left, range(PAIRS_AT_ONCE, len(left), PAIRS_AT_ONCE))
                ]
            )
            removed += np.stack([left[near], np.full(near.sum(), keeper)], axis=1).tobytes()
            left = left[~near]
    return np.frombuffer(bytes(removed), np.uint64).reshape(-1, 2)
