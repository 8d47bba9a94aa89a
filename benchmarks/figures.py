"""What benchmarks say: medians with their spread, ratios of two sides, and rows of one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from components.markdown import number


@dataclass(frozen=True)
class Spread:
    """A median and what it was taken from."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median, the least and the greatest of repeated measurements."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        told = _short(self.median)
        ends = (_short(self.low), _short(self.high))
        return told if ends == (told, told) else f"{told} ({ends[0]}..{ends[1]})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else number(value)


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs: the ratio of the medians, with the spread of the ratios of each pair.

    Args:
        ours: repeated measurements, each taken beside the one of `theirs` at its place, so that what drifts (a clock
            rate, a neighbour) is in both.
        theirs: as many.
    """
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Spread(median(ours) / median(theirs), min(pairs), max(pairs))


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure of ours beside the same figure of a peer."""

    figure: str
    """What was measured, with its unit."""
    peer: str
    """Whom it is compared with."""
    theirs: Spread
    ours: Spread | None = None
    """None for a baseline that nothing of ours was measured beside."""
    ratio: Spread | None = None
    """Ours over theirs."""
    at_least: float | None = None
    """What the ratio must reach, for a figure of which more is better."""
    at_most: float | None = None
    """What the ratio must not pass, for a figure of which less is better."""

    @classmethod
    def compare(
        cls,
        figure: str,
        peer: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> "Row":
        """A row from paired measurements, see `ratio_of`."""
        ratio = ratio_of(ours, theirs)
        return cls(figure, peer, Spread.of(theirs), Spread.of(ours), ratio, at_least=at_least, at_most=at_most)

    @property
    def verdict(self) -> str:
        """What was wanted of the ratio, and whether it is so; empty if nothing was."""
        if self.ratio is None or (self.at_least is None and self.at_most is None):
            return ""
        if self.at_least is not None:
            told, is_met = f"at least {number(self.at_least)}", self.ratio.median >= self.at_least
        else:
            assert self.at_most is not None
            told, is_met = f"at most {number(self.at_most)}", self.ratio.median <= self.at_most
        return f"{told}: {number(is_met)}"


def rows_of(
    title: str,
    ours: Sequence[Any],
    theirs: Sequence[Any],
    figures: Mapping[str, tuple[Callable[[Any], float], float | None]],
) -> list[Row]:
    """A row for each figure of repeated pairs of runs.

    Args:
        title: begins each row.
        ours: runs.
        theirs: as many, which have a `name`.
        figures: what was measured -> what a run has of it, and what the ratio must reach.
    """
    return [
        Row.compare(
            f"{title}: {figure}", theirs[0].name, [of(run) for run in ours], [of(run) for run in theirs], wanted
        )
        for figure, (of, wanted) in figures.items()
    ]
