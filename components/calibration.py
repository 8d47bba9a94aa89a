"""What scores of pairs are worth: true pairs against shuffled ones, what each threshold keeps, and whom it favours."""

from array import array
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from components.grids import Strip, Tile, strips
from components.outcomes import Refused

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Of all pairs: what the table of thresholds keeps."""
LENGTHS = (0, 8, 16, 32, 64, 128)
"""Characters at which a class of captions begins."""
MOST_SOURCES = 20
NUM_SHOWN = 12
"""Pairs above the threshold, and as many below, that are shown."""
PICTURE_NAME = "threshold.svg"


class Calibration:
    """Scores as they come, and then what they say.

    Args:
        keep_share: of pairs; the threshold is the quantile that keeps so many.
        min_score: the threshold itself, in its place.
    """

    def __init__(self, keep_share: float | None, min_score: float | None) -> None:
        self.keep_share, self.min_score = keep_share, min_score
        self.scores, self.lengths, self.sources = array("d"), array("q"), array("q")
        self.names: dict[str, int] = {}
        self.strangers = array("d")
        self.threshold = 0.0
        self.shown: dict[int, Tile] = {}
        self.near: set[int] = set()

    def __len__(self) -> int:
        return len(self.scores)

    def add(self, scores: list[float], lengths: list[int], source: str, stranger: float | None) -> None:
        """Take the scores of a record's captions, their lengths, its source, and the score of another's caption."""
        self.scores.extend(scores)
        self.lengths.extend(lengths)
        number = self.names.setdefault(source, len(self.names))
        self.sources.extend([number] * len(scores))
        if stranger is not None:
            self.strangers.append(stranger)

    def settle(self) -> None:
        """Find the threshold, once all scores are there.

        Raises:
            Refused: no pair reaches it.
        """
        found = np.array(self.scores)
        self.ordered = np.sort(found)
        if self.min_score is not None:
            self.threshold = self.min_score
        else:
            assert self.keep_share is not None  # noqa: S101 - the schema has one of both
            self.threshold = threshold_of(self.ordered, self.keep_share)
        if self.ordered[-1] < self.threshold:
            raise Refused(
                f"The nearest of {len(found):,} pairs has a cosine of {self.ordered[-1]:.4f}, but source.min_score is "
                f"{self.threshold:g}: cosines of one model mean nothing in another. Give source.keep_share in its "
                "place."
            )
        gaps = found - self.threshold
        above, below = np.where(gaps >= 0, gaps, np.inf), np.where(gaps < 0, -gaps, np.inf)
        for part in (above, below):
            nearest = np.argsort(part, kind="stable")[:NUM_SHOWN]
            self.near |= {int(each) for each in nearest if np.isfinite(part[each])}

    def judged(self, number: int) -> tuple[float, float]:
        """The score of a caption, by its number, and the share of scores that lie below."""
        score = self.scores[number]
        return score, round(float(np.searchsorted(self.ordered, score) / len(self.ordered)), 6)

    def see(self, start: int, end: int, look: Callable[[], tuple[bytes, list[str]]]) -> None:
        """Keep the small picture of a record that has captions near the threshold.

        Args:
            start: the number of its first caption.
            end: that behind its last one.
            look: gives its small picture and its captions.
        """
        if not self.near.isdisjoint(range(start, end)):
            picture, texts = look()
            for number in self.near.intersection(range(start, end)):
                self.shown[number] = Tile(picture, texts[number - start])

    # ---- what they say ----

    def facts(self) -> dict[str, Any]:
        """The threshold, and the share of pairs that it keeps."""
        kept = float((self.ordered >= self.threshold).mean())
        return {"threshold": round(self.threshold, 6), "quantile": round(1 - kept, 6), "pairs": len(self)}

    def report(self) -> dict[str, Any]:
        """Numbers for a person: AUC, thresholds, and the kept share by length and source."""
        scores, strangers = np.array(self.scores), np.array(self.strangers)
        found: dict[str, Any] = {"mean_score": float(scores.mean()), "shuffled_pairs": len(strangers)}
        if len(strangers):
            found |= {"mean_shuffled_score": float(strangers.mean()), "auc": auc(scores, strangers)}
        found["thresholds"] = [
            {
                "keep_share": share,
                "threshold": round(at, 6),
                "true_kept": float((scores >= at).mean()),
                "shuffled_kept": float((strangers >= at).mean()) if len(strangers) else None,
            }
            for share, at in ((share, threshold_of(self.ordered, share)) for share in SHARES)
        ]
        classes = np.searchsorted(LENGTHS, np.array(self.lengths), side="right") - 1
        names = [f"{low}-{high - 1}" for low, high in pairwise(LENGTHS)] + [f"{LENGTHS[-1]}-"]
        found["by_length"] = {
            name: self._group(scores[classes == number]) for number, name in enumerate(names) if number in classes
        }
        sources = np.array(self.sources)
        most = [number for number, _ in Counter(sources.tolist()).most_common(MOST_SOURCES)]
        by_number = {number: name for name, number in self.names.items()}
        found["by_source"] = {by_number[number]: self._group(scores[sources == number]) for number in most}
        return found

    def _group(self, scores: np.ndarray) -> dict[str, Any]:
        """How many pairs there are, their mean score, and the share that is kept."""
        kept = float((scores >= self.threshold).mean())
        return {"pairs": len(scores), "mean_score": float(scores.mean()), "kept": kept}

    def pictures(self) -> dict[str, str]:
        """The pairs that lie nearest above and below the threshold, as SVG by the name of a file."""
        above = sorted((each for each in self.shown if self.scores[each] >= self.threshold), key=self._by_score)
        below = sorted((each for each in self.shown if self.scores[each] < self.threshold), key=self._by_score)
        rows = [self._strip("kept", number) for number in reversed(above)]
        rows += [self._strip("left out", number) for number in reversed(below)]
        title = f"Pairs at the threshold of {self.threshold:.4f}, nearest first of each side"
        return {PICTURE_NAME: strips(title, rows)}

    def _by_score(self, number: int) -> float:
        return self.scores[number]

    def _strip(self, verdict: str, number: int) -> Strip:
        tile = self.shown[number]
        is_kept = verdict == "kept"
        return Strip(f"{verdict}: {tile.word}", [Tile(tile.picture, f"{self.scores[number]:.4f}", is_kept)])


def threshold_of(ordered: np.ndarray, keep_share: float) -> float:
    """The score that the nearest so many pairs reach; of rising scores."""
    place = len(ordered) - max(1, round(keep_share * len(ordered)))
    return float(ordered[place])


def auc(true: np.ndarray, shuffled: np.ndarray) -> float:
    """How often a true pair scores above a shuffled one, ties counted half (Mann and Whitney 1947)."""
    from sklearn.metrics import roc_auc_score

    wanted = np.concatenate([np.ones(len(true)), np.zeros(len(shuffled))])
    return float(roc_auc_score(wanted, np.concatenate([true, shuffled])))
