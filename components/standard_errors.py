"""How sure a score is: the standard error of a total that comes from single items."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from components.measures import CLEAN, CONTAMINATED, Measure, expanded

if TYPE_CHECKING:
    import pyarrow as pa

Values = dict[str, dict[str, float]]
"""Metric -> item -> value, of one task."""


def standard_errors(items: "pa.Table", task: str, measures: Iterable[Measure]) -> dict[str, float]:
    """The standard error of every total of a task that a measure tells of, as if other items had been drawn.

    A mean over items has the usual one. A ratio of sums, such as bits per character, has that of the ratio estimator
    (Cochran 1977, Sampling Techniques, section 2.11): the spread of what each item adds beyond its share, so long
    items count as much as they weigh. A perplexity has that of its exponent times its slope there (the delta method),
    and what only all items together have the jackknife's (Efron & Stein 1981: on average not too small). Items are
    taken as independent; several of one source are less.

    Args:
        items: rows of task, item, metric, value, as `evaluate` leaves them.
        task: whose.
        measures: of its kind; `Measure.total` names the total that each one is. A mean comes after what it is of.

    Returns:
        Total -> standard error, in its unit, and of clean scores likewise; nothing for one that fewer than two items
        tell of.
    """
    values = by_metric(items, task)
    own = expanded(measures, values)
    found = _errors(values, own)
    if (clean := clean_of(values)) is not None:
        found |= {total + CLEAN: error for total, error in _errors(clean, own).items()}
    return found


def by_metric(items: "pa.Table", task: str) -> Values:
    """The values of one task's items by metric."""
    import pyarrow.compute as pc

    rows = items.filter(pc.equal(items["task"], task))
    found: Values = {}
    columns = (rows[key].to_pylist() for key in ("metric", "item", "value"))
    for metric, item, value in zip(*columns, strict=True):
        found.setdefault(metric, {})[item] = value
    return found


def clean_of(values: Values) -> Values | None:
    """The values of the items that were looked for in training data and do not stand there.

    Returns:
        None if no item was looked for, or if all were and none stands there: then clean scores are the scores.
    """
    marks = values.get(CONTAMINATED, {})
    everything = {item for rows in values.values() for item in rows}
    if not marks or (everything == marks.keys() and not any(marks.values())):
        return None
    return {
        metric: {item: value for item, value in rows.items() if marks.get(item) == 0} for metric, rows in values.items()
    }


def total_of(measure: Measure, values: Values) -> float | None:
    """The total that a measure is; None if no item tells of it, or only all of a task together."""
    if measure.mean_of or measure.is_of_others:
        return None
    tops = values.get(measure.metric, {})
    weights = values.get(measure.per, {}) if measure.per else dict.fromkeys(tops, 1.0)
    common = [item for item in tops if item in weights]
    weight = sum(weights[item] for item in common)
    if not weight:
        return None
    ratio = sum(tops[item] - measure.less for item in common) / weight
    return ratio if measure.base is None else measure.base**ratio


def _errors(values: Values, measures: list[Measure]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure in measures:
        if measure.mean_of:
            parts = [metric for metric in measure.mean_of if values.get(metric)]
            is_known = bool(parts) and all(metric in found for metric in parts)
            error = math.hypot(*(found[metric] for metric in parts)) / len(parts) if is_known else None
        else:
            error = _error_of(measure, values)
        if error is not None:
            found[measure.total or measure.metric] = error
    return found


def _error_of(measure: Measure, values: Values) -> float | None:
    """Of one mean, ratio or total of all others; None of fewer than two items."""
    rows = values.get(measure.metric, {})
    weights = values.get(measure.per, {}) if measure.per else dict.fromkeys(rows, 1.0)
    if len(rows) < 2 or rows.keys() != weights.keys():
        return None
    tops, bottoms = (np.array([each[item] for item in rows]) for each in (rows, weights))
    if measure.is_of_others:
        return math.sqrt((len(tops) - 1) / len(tops) * ((tops - tops.mean()) ** 2).sum())
    tops = tops - measure.less
    ratio = tops.sum() / bottoms.sum()
    spread = math.sqrt(((tops - ratio * bottoms) ** 2).sum() * len(tops) / (len(tops) - 1))
    error = spread / bottoms.sum()
    return float(error if measure.base is None else error * math.log(measure.base) * measure.base**ratio)
