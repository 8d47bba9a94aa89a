"""Pairs of a text and its translation that a person should look at, by what shows without knowing either language.

None of it proves a translation wrong: names and code are rightly copied, and songs repeat themselves.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from components.translators.schema import Suspicion
from components.wording import one_line

NUM_EXAMPLES = 5
SHORT_CHARS = 20
"""Of sources with fewer characters the ratio of lengths says nothing."""
JAPANESE_RUN = 10
RUN = 6
LETTERS_PER_RUN = 0.6
"""Share of letters in a copied run; what has fewer is a table, a rule or a number."""

EMPTY = "the translation is empty"
SHORT = "the translation is too short for its source"
LONG = "the translation is too long for its source"
COPIED = "a part of the source was not translated"
REPEATED = "the translation repeats itself"


def reasons(source: str, translation: str, bounds: Suspicion) -> list[str]:
    """What is suspicious about a pair; nothing if it is not."""
    if not translation.strip():
        return [EMPTY]
    found = []
    ratio = len(translation) / max(len(source), 1)
    if len(source) >= SHORT_CHARS and ratio < bounds.min_length_ratio:
        found.append(SHORT)
    if len(source) >= SHORT_CHARS and ratio > bounds.max_length_ratio:
        found.append(LONG)
    if _is_copied(source, translation, bounds.max_copied_chars):
        found.append(COPIED)
    if repeated_share(translation) > bounds.max_repeated_share >= repeated_share(source):
        found.append(REPEATED)
    return found


def _is_copied(source: str, translation: str, longest: int) -> bool:
    """Whether a run of letters longer than `longest` (of kana and kanji: JAPANESE_RUN) stands in both."""
    for size, is_japanese in ((longest + 1, False), (JAPANESE_RUN + 1, True)):
        runs = {run for run in _runs(source, size) if _counts(run, is_japanese)}
        if any(run in runs for run in _runs(translation, size)):
            return True
    return False


def _counts(run: str, is_japanese: bool) -> bool:
    letters = sum(each.isalpha() for each in run)
    if letters < LETTERS_PER_RUN * len(run):
        return False
    return not is_japanese or sum("\u3041" <= each <= "\u9fff" for each in run) >= 0.8 * len(run)


def _runs(text: str, size: int) -> list[str]:
    flat = " ".join(text.split())
    return [flat[start : start + size] for start in range(len(flat) - size + 1)]


def repeated_share(text: str) -> float:
    """The share of a text's runs of `RUN` characters that stand in it before; 0 of a short text."""
    runs = _runs(text, RUN)
    return 1 - len(set(runs)) / len(runs) if len(runs) > 5 * RUN else 0.0


@dataclass
class Suspects:
    """What was found of all pairs."""

    bounds: Suspicion
    num_pairs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def look(self, place: str, source: str, translation: str) -> list[str]:
        """Count a pair; what is suspicious about it comes back."""
        self.num_pairs += 1
        found = reasons(source, translation, self.bounds)
        for reason in found:
            self.counts[reason] += 1
            kept = self.examples.setdefault(reason, [])
            if len(kept) < NUM_EXAMPLES:
                kept.append({"id": place, "source": one_line(source), "translation": one_line(translation)})
        return found

    def report(self) -> dict[str, Any]:
        """Counts and examples by reason."""
        return {"pairs": self.num_pairs, "suspicious": dict(self.counts.most_common()), "examples": self.examples}
