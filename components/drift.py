"""Drift: how far the profile of a corpus is from the one that a champion was trained on.

Two measures a fact, over the bins and names that `components.profiles` keeps still: the population stability index,
sum of (q - p) ln(q / p), and the Jensen-Shannon divergence in bits, between 0 and 1. What either is by chance alone,
from two samples of one population, is the index's noise: about chi-squared with B - 1 degrees of freedom times
(1/n + 1/m) (Yurdakul and Naranjo 2020, doi 10.21314/JRMV.2020.227). Drift depends on history, so this is no stage.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOTABLE = 0.1
"""Index from which the users of the index speak of a shift; 0.25, of a major one. `schedule.max_drift` is the bound."""
HALF = 0.5
"""Added to every count, so that an empty bin has a logarithm."""
SIGMAS = 4.0
"""How far above its mean chance may lift the index before it counts."""
WHERE_FROM = ("splits", "licences", "sources")
"""Counts that are reported and bound nothing: new files are new sources."""


@dataclass(frozen=True)
class Shift:
    """One fact of one corpus, then and now."""

    fact: str
    index: float
    """Population stability index."""
    divergence: float
    """Jensen-Shannon, in bits."""
    noise: float
    """The index that chance alone may reach."""
    binds: bool
    """Whether it can stop a release."""

    @property
    def is_notable(self) -> bool:
        """Beyond chance, and more than a slight shift."""
        return self.index >= max(NOTABLE, self.noise)

    def is_beyond(self, bound: float) -> bool:
        """Whether it stops a release that nobody forces."""
        return self.binds and self.index > max(bound, self.noise)


@dataclass(frozen=True)
class Drift:
    """One corpus, then and now."""

    corpus: str
    num_before: int
    num_now: int
    shifts: tuple[Shift, ...]
    """Greatest index first."""

    @property
    def largest(self) -> float:
        """The greatest index of a fact that can stop a release; 0 if there is none."""
        return max((shift.index for shift in self.shifts if shift.binds), default=0.0)

    def beyond(self, bound: float) -> list[Shift]:
        """The facts that stop a release."""
        return [shift for shift in self.shifts if shift.is_beyond(bound)]


def drift_between(corpus: str, before: dict[str, Any], now: dict[str, Any]) -> Drift:
    """Compare two profiles of one corpus, fact by fact.

    Args:
        corpus: its name.
        before: `profile.json` of the data that the champion was trained on.
        now: that of the data there are.
    """
    shifts = sorted(_shifts(before, now), key=lambda shift: (-shift.index, shift.fact))
    return Drift(corpus, int(before["num_records"]), int(now["num_records"]), tuple(shifts))


def _shifts(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Shift]:
    for kind in WHERE_FROM:
        yield _shift(kind, *_by_name(before.get(kind, {}), now.get(kind, {})), binds=False)
    for fact in sorted(before["facts"].keys() & now["facts"].keys()):
        yield _shift(fact, *_by_bin(before["facts"][fact], now["facts"][fact]), binds=True)
    for fact in sorted(before["categories"].keys() & now["categories"].keys()):
        yield _shift(fact, *_by_name(before["categories"][fact], now["categories"][fact]), binds=True)
    then, today = before.get("surveys", {}), now.get("surveys", {})
    for column in sorted(then.keys() & today.keys()):
        pair = _by_name(then[column]["characters"], today[column]["characters"])
        yield _shift(f"{column}_characters", *pair, binds=True)


def _by_name(before: dict[str, int], now: dict[str, int]) -> tuple[list[int], list[int]]:
    names = sorted(before.keys() | now.keys())
    return [before.get(name, 0) for name in names], [now.get(name, 0) for name in names]


def _by_bin(before: dict[str, Any], now: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Counts of equal bins: edges of one kind only ever go on, so a bin is named by its lower edge.

    The last bin of a histogram includes its upper edge, which no value of counts reaches: edges go beyond the most.
    """
    pairs = [
        {str(edge): count for edge, count in zip(each["edges"], each["histogram"], strict=False)}
        for each in (before, now)
    ]
    return _by_name(*pairs)


def _shift(fact: str, before: list[int], now: list[int], binds: bool) -> Shift:
    pairs = [(p, q) for p, q in zip(before, now, strict=True) if p or q]
    n, m = sum(p for p, _ in pairs), sum(q for _, q in pairs)
    if not n or not m:  # a fact that one of them has no value of is not comparable
        return Shift(fact, 0.0, 0.0, 0.0, binds=False)
    shares = [
        ((p + HALF) / (n + HALF * len(pairs)), (q + HALF) / (m + HALF * len(pairs)))  # both sum to 1
        for p, q in pairs
    ]
    index = sum((q - p) * math.log(q / p) for p, q in shares)
    middle = [(p + q) / 2 for p, q in shares]
    divergence = sum(
        (p * math.log2(p / mid) + q * math.log2(q / mid)) / 2 for (p, q), mid in zip(shares, middle, strict=True)
    )
    degrees = len(pairs) - 1
    noise = (degrees + SIGMAS * math.sqrt(2 * degrees)) * (1 / n + 1 / m)
    return Shift(fact, round(index, 4), round(max(0.0, divergence), 4), round(noise, 4), binds)


def as_markdown(drifts: list[Drift], bound: float) -> str:
    """A table for a person: what has shifted, and what that means."""
    lines = [
        f"Compared with the data that the champion was trained on. From a PSI of {NOTABLE:g} on a fact has shifted.",
        f"Above {bound:g} (`schedule.max_drift`) a release needs `force`. Neither counts below what chance may reach.",
        "PSI: population stability index. JS: Jensen-Shannon divergence in bits.",
    ]
    for drift in drifts:
        lines += ["", f"### {drift.corpus}: {drift.num_before:,} → {drift.num_now:,} records", ""]
        lines += ["| fact | PSI | JS | by chance | |", "|---|---:|---:|---:|---|"]
        lines += [_row(shift, bound) for shift in drift.shifts]
    return "\n".join(lines) + "\n"


def in_a_line(drift: Drift, bound: float) -> str:
    """What has shifted most of what can stop a release, and of the rest, for a log."""
    binding = [shift for shift in drift.shifts if shift.binds]
    others = [shift for shift in drift.shifts if not shift.binds and shift.is_notable]
    if not binding:
        return f"drift of {drift.corpus}: nothing can be compared"
    words = f"drift of {drift.corpus}: most shifted: {binding[0].fact} {binding[0].index:.3f} (bound {bound:g})"
    told = ", ".join(f"{shift.fact} {shift.index:.3f}" for shift in others)
    return words + (f"; reported only: {told}" if told else "")


def _row(shift: Shift, bound: float) -> str:
    verdict = "**too far**" if shift.is_beyond(bound) else "shifted" if shift.is_notable else ""
    verdict += "" if shift.binds or not verdict else " (reported only)"
    return f"| {shift.fact} | {shift.index:.3f} | {shift.divergence:.3f} | {shift.noise:.3f} | {verdict} |"
