"""What all texts of a column are together: which characters they have, and how many of their lines come again.

Memory is bounded: a counter for each code point, and the hashes of a share of all lines that becomes smaller as lines
become more (Flajolet 1990, adaptive sampling, doi 10.1007/BF02241657).
"""

import hashlib
from typing import Any

import numpy as np

from components.modalities.text import conversations

NUM_CODE_POINTS = 0x110000
BUFFER_CHARS = 1 << 20
MOST_CHARACTERS = 1000
"""The most frequent ones, which a profile lists; the rest are counted together."""
REST = "(others)"
MIN_LINE_CHARS = 10
"""Shorter lines come again in any text."""
MOST_LINES = 100_000
"""Hashes of lines that are kept."""


class Survey:
    """Counts over values that are added one by one.

    Args:
        conversations: values are turns or answers as JSON, of which each is a text.
    """

    def __init__(self, conversations: bool = False) -> None:
        self.conversations = conversations
        self.counts = np.zeros(NUM_CODE_POINTS, np.int64)
        self.waiting: list[str] = []
        self.num_waiting = 0
        self.num_lines = 0
        self.lines: dict[int, int] = {}
        """Hash of a line below `limit` -> how often the line came."""
        self.limit = 1 << 64

    def add(self, value: str) -> None:
        """Count a value."""
        for text in conversations.texts_of(value) if self.conversations else [value]:
            self._add(text)

    def _add(self, value: str) -> None:
        self.waiting.append(value)
        self.num_waiting += len(value)
        if self.num_waiting >= BUFFER_CHARS:
            self._count()
        for line in value.split("\n"):
            if len(line) >= MIN_LINE_CHARS:
                self._add_line(line)

    def _count(self) -> None:
        text = "".join(self.waiting)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self.counts += np.bincount(points, minlength=NUM_CODE_POINTS)
        self.waiting, self.num_waiting = [], 0

    def _add_line(self, line: str) -> None:
        self.num_lines += 1
        place = int.from_bytes(hashlib.blake2b(line.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        if place >= self.limit:
            return
        self.lines[place] = self.lines.get(place, 0) + 1
        if len(self.lines) > MOST_LINES:
            self.limit //= 2
            self.lines = {each: count for each, count in self.lines.items() if each < self.limit}

    def report(self) -> dict[str, Any]:
        """Numbers for a profile.

        Returns:
            `num_characters`, `num_distinct_characters`, `num_seen_once`, `characters` (the most frequent ones, with
            counts), `num_lines` (of at least 10 characters), and `repeated_line_share`: of those, the ones that had
            come before, estimated.
        """
        self._count()
        order = np.lexsort((np.arange(NUM_CODE_POINTS), -self.counts))[:MOST_CHARACTERS]
        listed = {chr(point): int(self.counts[point]) for point in order if self.counts[point]}
        total = int(self.counts.sum())
        rest = total - sum(listed.values())
        seen = sum(self.lines.values())
        return {
            "num_characters": total,
            "num_distinct_characters": int(np.count_nonzero(self.counts)),
            "num_seen_once": int(np.count_nonzero(self.counts == 1)),
            "characters": listed | ({REST: rest} if rest else {}),
            "num_lines": self.num_lines,
            "repeated_line_share": round(1 - len(self.lines) / seen, 4) if seen else 0.0,
        }
