"""Two models on the same items: whether the challenger is better, worse, or nobody can tell from so many.

0/1 metrics go through McNemar's test in its exact form (McNemar 1947, doi:10.1007/BF02295996; the binomial test of the
items on which the two differ), with the interval of Clopper & Pearson (1934, doi:10.1093/biomet/26.4.404), which holds
0 exactly where that test finds nothing. Anything else goes through the paired bootstrap (Efron & Tibshirani 1993) in
its symmetric studentised form (Hall 1988, doi:10.1111/j.2517-6161.1988.tb01741.x), which stays honest with ten items,
where percentiles are too sure of themselves. P-values of several tests are corrected by Holm (1979).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from components.measures import Measure
from components.outcomes import Refused

if TYPE_CHECKING:
    import pyarrow as pa

NUM_RESAMPLES = 10_000
SEED = 0
LEVEL = 0.05
"""Of the corrected p-values; intervals are of 1 - LEVEL."""
MAX_DRAWS = 2**22
"""Numbers drawn at once: 32 MB."""
ROUNDING = 1e-12
"""Relative spread of differences that is none."""

Verdict = Literal["first", "better", "worse", "cannot-tell"]
IN_WORDS: dict[Verdict, str] = {
    "first": "the first version: there is no champion to compare with",
    "better": "better",
    "worse": "worse",
    "cannot-tell": "can't tell",
}


@dataclass(frozen=True)
class PairedTest:
    """One measure of one task."""

    task: str
    measure: Measure
    num_items: int
    champion: float
    challenger: float
    gain: float
    """How much better the challenger is, in units of the measure; negative if it is worse."""
    low: float
    high: float
    """The interval of the gain; infinite where the items cannot tell."""
    p: float
    """Two-sided, of this test alone."""
    method: str
    corrected: float = 1.0
    """The p-value among all tests of the comparison, by Holm."""

    @property
    def verdict(self) -> Verdict:
        """Whether the gain is more than noise."""
        if self.corrected >= LEVEL or self.gain == 0:
            return "cannot-tell"
        return "better" if self.gain > 0 else "worse"

    @property
    def words(self) -> str:
        """The verdict as a person says it."""
        said = IN_WORDS[self.verdict]
        return f"{said} at n = {self.num_items:,}" if self.verdict == "cannot-tell" else said


@dataclass(frozen=True)
class Unpaired:
    """A measure that only one of two models has, as where a part of a task does not fit into the other's context."""

    task: str
    measure: Measure
    is_lost: bool
    """Whether it is the challenger that lacks it."""


@dataclass(frozen=True)
class Comparison:
    """A challenger beside the champion."""

    tests: tuple[PairedTest, ...]
    unpaired: tuple[Unpaired, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`worse` if it is on any task, `better` if it is on one and worse on none; without tests it is the first."""
        if not self.tests:
            return "first"
        found = {test.verdict for test in self.tests}
        return next((each for each in ("worse", "better") if each in found), "cannot-tell")

    @property
    def method(self) -> str:
        """How it was found out, in a sentence."""
        if not self.tests:
            return ""
        parts = " and ".join(sorted({test.method for test in self.tests}))
        several = f", p-values corrected for {len(self.tests)} tests by Holm" if len(self.tests) > 1 else ""
        return f"Paired on the same items by {parts}{several}; level {LEVEL:g}, intervals of {1 - LEVEL:.0%}."


# ---- tests on arrays -------------------------------------------------------------------------------------------------


def mcnemar(num_gains: int, num_losses: int) -> float:
    """The exact two-sided p-value of so many items on which only one of two models is right."""
    discordant = num_gains + num_losses
    term = tail = 1  # binomial coefficients, in whole numbers
    for k in range(1, min(num_gains, num_losses) + 1):
        term = term * (discordant - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / 2**discordant)


def share_interval(num_gains: int, num_losses: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of the share of gains among the items on which two models differ.

    It holds one half exactly where `mcnemar` of the same numbers is at least LEVEL.
    """
    return 1 - _highest_share(num_losses, num_gains), _highest_share(num_gains, num_losses)


def _highest_share(successes: int, failures: int) -> float:
    """The share at which so few successes are LEVEL / 2 likely, by bisection; the likelihood falls as it grows."""
    if not failures:
        return 1.0
    total, k = successes + failures, np.arange(successes + 1)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, total + 1)))))
    log_ways = log_factorials[total] - log_factorials[k] - log_factorials[total - k]
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        likelihood = np.exp(log_ways + k * math.log(middle) + (total - k) * math.log1p(-middle)).sum()
        low, high = (middle, high) if likelihood > LEVEL / 2 else (low, middle)
    return high


def bootstrap(gains: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """The paired bootstrap of sum(gains) / sum(weights).

    Args:
        gains: [items] how much better the challenger is on each.
        weights: [items] what each counts; ones for a mean.

    Returns:
        The ends of the interval and the two-sided p-value, in agreement: the interval holds 0 where p >= LEVEL.
    """
    ratio, error = _ratio_and_error(gains.sum(), weights.sum(), gains, weights)
    if error <= ROUNDING * abs(ratio):  # every item says the same, so resampling has no spread: count their signs
        p = mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
        return (ratio, ratio, p) if p < LEVEL else (-math.inf, math.inf, p)
    # Linearised: t* = |mean* of residuals| / its standard error, residuals being gains - ratio * weights.
    residuals = gains - ratio * weights
    generator = np.random.default_rng(SEED)
    deviations = [_studentised(residuals, gains, weights, ratio, generator, size) for size in _chunks(len(gains))]
    t = np.concatenate(deviations)
    p = (1 + int((t >= abs(ratio) / error).sum())) / (len(t) + 1)
    reach = float(np.quantile(t, 1 - LEVEL, method="higher")) * error
    return ratio - reach, ratio + reach, p


def _chunks(num_items: int) -> list[int]:
    size = max(1, min(NUM_RESAMPLES, MAX_DRAWS // num_items))
    return [min(size, NUM_RESAMPLES - start) for start in range(0, NUM_RESAMPLES, size)]


def _studentised(
    residuals: np.ndarray,
    gains: np.ndarray,
    weights: np.ndarray,
    ratio: float,
    generator: np.random.Generator,
    num_resamples: int,
) -> np.ndarray:
    """|ratio* - ratio| / standard error* of so many resamples; infinite where one has no spread."""
    chosen = generator.integers(0, len(gains), (num_resamples, len(gains)))
    gain, weight = gains[chosen], weights[chosen]
    total = weight.sum(axis=1)
    other = gain.sum(axis=1) / total
    spread = np.sqrt(((gain - other[:, None] * weight) ** 2).sum(axis=1)) / total
    distance = np.abs(residuals[chosen].sum(axis=1)) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        found = distance / spread
    return np.where(spread <= ROUNDING * abs(ratio), np.inf, found)


def _ratio_and_error(gain: float, weight: float, gains: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """A ratio of sums and its standard error, linearised."""
    ratio = gain / weight
    return float(ratio), float(np.sqrt(((gains - ratio * weights) ** 2).sum()) / weight)


def holm(p_values: list[float]) -> list[float]:
    """Corrected p-values, in the order given: the k-th smallest of m counts m - k times, and none before it more."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


# ---- models ----------------------------------------------------------------------------------------------------------


def compare(champion: "pa.Table", challenger: "pa.Table", measures: Mapping[str, tuple[Measure, ...]]) -> Comparison:
    """Compare two models by every measure of every task.

    Args:
        champion: rows of task, item, metric, value.
        challenger: the same of the other model.
        measures: task -> what it is compared by.

    Raises:
        Refused: a task or metric that may not be missing is, or the items are not the same ones.
    """
    tests, unpaired = [], []
    for task, measure in ((task, measure) for task, found in measures.items() for measure in found):
        is_old, is_new = (_is_scored(items, task, measure.metric) for items in (champion, challenger))
        if measure.may_miss and not (is_old and is_new):
            unpaired += [Unpaired(task, measure, is_lost=is_old)] if is_old or is_new else []
            continue
        pairs = _paired(champion, challenger, task, measure.metric)
        tests.append(_test(task, measure, pairs, _weights(challenger, task, measure)))
    corrected = holm([test.p for test in tests])
    rows = (PairedTest(**{**vars(test), "corrected": p}) for test, p in zip(tests, corrected, strict=True))
    return Comparison(tuple(rows), tuple(unpaired))


def _is_scored(items: "pa.Table", task: str, metric: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.and_(pc.equal(items["task"], task), pc.equal(items["metric"], metric))).as_py())


def _test(task: str, measure: Measure, pairs: "dict[str, tuple[float, float]]", per: dict[str, float]) -> PairedTest:
    values = np.array(list(pairs.values()), dtype=np.float64)  # [items, 2]: champion, challenger
    weights = np.array([per[item] for item in pairs]) if per else np.ones(len(pairs))
    sign = 1.0 if measure.better == "higher" else -1.0
    gains = sign * (values[:, 1] - values[:, 0])
    if not per and np.isin(values, (0.0, 1.0)).all():
        method = "McNemar's exact test"
        low, high, p = _of_signs(gains)
    else:
        method = f"the bootstrap ({NUM_RESAMPLES:,} resamples, seed {SEED})"
        low, high, p = bootstrap(gains, weights)
    before, after = values.sum(axis=0) / weights.sum()
    return PairedTest(
        task, measure, len(pairs), float(before), float(after), float(gains.sum() / weights.sum()), low, high, p, method
    )


def _of_signs(gains: np.ndarray) -> tuple[float, float, float]:
    """Interval of the mean and p-value of gains that are -1, 0 or 1, given how many of them are not 0."""
    num_gains, num_losses = int((gains > 0).sum()), int((gains < 0).sum())
    p = mcnemar(num_gains, num_losses)
    if num_gains + num_losses == 0:
        return -math.inf, math.inf, p
    low, high = share_interval(num_gains, num_losses)
    differing = (num_gains + num_losses) / len(gains)
    return (2 * low - 1) * differing, (2 * high - 1) * differing, p


def _paired(champion: "pa.Table", challenger: "pa.Table", task: str, metric: str) -> dict[str, tuple[float, float]]:
    """Item -> (value of the champion, value of the challenger), in the order of the items' names."""
    old, new = values_of(champion, task, metric, "the champion"), values_of(challenger, task, metric, "the challenger")
    if old.keys() != new.keys():
        raise Refused(
            f"Task '{task}' has {len(old.keys() - new.keys())} items that only the champion was scored on and "
            f"{len(new.keys() - old.keys())} that only the challenger was, expected the same ones. Score the newer "
            "data with both: hiraku promote does so when the challenger comes from a release of today's recipes."
        )
    return {item: (old[item], new[item]) for item in sorted(new)}


def _weights(items: "pa.Table", task: str, measure: Measure) -> dict[str, float]:
    return values_of(items, task, measure.per, "the challenger") if measure.per else {}


def values_of(items: "pa.Table", task: str, metric: str, whose: str) -> dict[str, float]:
    """Item -> value of one metric.

    Raises:
        Refused: there is none, an item stands there twice, or a value is no finite number.
    """
    import pyarrow.compute as pc

    of_task = items.filter(pc.equal(items["task"], task))
    rows = of_task.filter(pc.equal(of_task["metric"], metric))
    if not rows.num_rows:
        known = sorted(set(of_task["metric"].to_pylist()))
        raise Refused(
            f"The scores of {whose} have no '{metric}' of task '{task}'; they have "
            f"{', '.join(known) or 'nothing of it'}. Score it again (hiraku evaluate RECIPE), "
            "or mend MEASURES of that kind of task."
        )
    values = dict(zip(rows["item"].to_pylist(), rows["value"].to_pylist(), strict=True))
    if len(values) != rows.num_rows:
        raise Refused(
            f"The scores of {whose} have {rows.num_rows} rows of '{metric}' for {len(values)} items of task '{task}', "
            "expected one each. The modality's score() must name each item once."
        )
    if strange := [item for item, value in values.items() if not math.isfinite(value)]:
        raise Refused(
            f"The scores of {whose} give '{metric}' of task '{task}' as {values[strange[0]]} for {len(strange)} of "
            f"{len(values)} items, such as '{strange[0]}', expected finite numbers: its weights are broken, or the "
            "modality's score() is. Look at its curves; a broken champion is taken back by: hiraku rollback RECIPE"
        )
    return values
