"""A uniform sample of records that is bounded in size, read in one pass: those with the smallest hashes of their ids.

Whatever the corpora hold, memory has one record and two numbers for each sampled one; the texts lie on the disk. A
larger sample holds a smaller one, and more data of the same kind replace few of its records. The file is kept until the
fit has come to its end, so that a run that was killed after the pass does not read again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

WHOLE = 1 << 64
SLACK = 2.0
"""The file may hold so many times the bound before it is thinned."""


def place_of(record_id: str) -> int:
    """Where a record stands among all: uniform in [0, 2^64), and another place than the one that decides its split."""
    return int.from_bytes(hashlib.sha256(f"fit\0{record_id}".encode()).digest()[:8], "big")


class Reservoir:
    """Strings of records, up to so many characters.

    Args:
        path: of the file, without its ending; what a finished pass left there is taken as it is.
        max_chars: of all strings together.
    """

    def __init__(self, path: Path, max_chars: int) -> None:
        self.lines, self.done = path.with_suffix(".jsonl"), path.with_suffix(".json")
        self.max_chars = max_chars
        self.limit = WHOLE

    @property
    def is_filled(self) -> bool:
        """Whether a pass came to its end."""
        return self.done.is_file()

    def fill(self, values: Iterable[tuple[str, str]]) -> None:
        """Read all records once: pairs of an id and a string."""
        places: list[int] = []
        sizes: list[int] = []
        num_chars = 0
        stream = self.lines.open("w", encoding="utf-8")
        try:
            for record_id, value in values:
                place = place_of(record_id)
                if place >= self.limit:
                    continue
                stream.write(json.dumps([place, value], ensure_ascii=False) + "\n")
                places.append(place)
                sizes.append(len(value))
                num_chars += len(value)
                if num_chars > SLACK * self.max_chars:
                    stream.close()
                    places, sizes = self._thin(places, sizes)
                    num_chars = sum(sizes)
                    stream = self.lines.open("a", encoding="utf-8")
        finally:
            stream.close()
        if num_chars > self.max_chars:
            places, sizes = self._thin(places, sizes)
        told = {"records": len(places), "characters": sum(sizes), "share": self.limit / WHOLE}
        partial = self.done.with_suffix(".partial")
        partial.write_text(json.dumps(told), encoding="utf-8")
        partial.replace(self.done)

    def _thin(self, places: list[int], sizes: list[int]) -> tuple[list[int], list[int]]:
        """Leave the records with the smallest places that fit into the bound; the first one stays in any case."""
        all_places, all_sizes = np.array(places, np.uint64), np.array(sizes, np.int64)
        order = np.argsort(all_places, kind="stable")
        num_kept = max(1, int(np.searchsorted(np.cumsum(all_sizes[order]), self.max_chars, side="right")))
        if num_kept < len(order):
            self.limit = int(all_places[order[num_kept]])
        partial = self.lines.with_suffix(".partial")
        with self.lines.open(encoding="utf-8") as lines, partial.open("w", encoding="utf-8") as kept:
            for line, place in zip(lines, places, strict=True):
                if place < self.limit:
                    kept.write(line)
        partial.replace(self.lines)
        chosen = all_places < self.limit if self.limit < WHOLE else np.ones(len(places), bool)
        return all_places[chosen].tolist(), all_sizes[chosen].tolist()

    def values(self) -> Iterator[str]:
        """The sampled strings, in the order in which they were read."""
        with self.lines.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)[1]

    def report(self) -> dict[str, float]:
        """Records and characters of the sample, and the share of all records that it is."""
        told: dict[str, float] = json.loads(self.done.read_text(encoding="utf-8"))
        return told
