"""How sure a score is: the standard error of a total that comes from single items."""

import math
from typing import TYPE_CHECKING

import numpy as np

from components.measures import Measure

if TYPE_CHECKING:
    import pyarrow as pa


def standard_errors(items: "pa.Table", task: str, measures: tuple[Measure, ...]) -> dict[str, float]:
    """The standard error of every total of a task that a measure tells of, as if other items had been drawn.

    A mean over items has the usual one. A ratio of sums, such as bits per character, has that of the ratio estimator
    (Cochran 1977, Sampling Techniques, section 2.11): the spread of what each item adds beyond its share, so long
    items count as much as they weigh. Items are taken as independent; several of one source are less.

    Args:
        items: rows of task, item, metric, value, as `evaluate` leaves them.
        task: whose.
        measures: of its kind; `Measure.total` names the total that each one is. A mean comes after what it is of.

    Returns:
        Total -> standard error, in its unit; nothing for one that fewer than two items tell of.
    """
    found: dict[str, float] = {}
    for measure in measures:
        if measure.mean_of:
            known = [found[metric] for metric in measure.mean_of if metric in found]
            if known:
                found[measure.total or measure.metric] = math.hypot(*known) / len(known)
            continue
        values = values_by_item(items, task, measure.metric)
        weights = values_by_item(items, task, measure.per) if measure.per else dict.fromkeys(values, 1.0)
        if len(values) < 2 or values.keys() != weights.keys():
            continue
        tops, bottoms = (np.array([rows[item] for item in values]) for rows in (values, weights))
        residuals = tops - tops.sum() / bottoms.sum() * bottoms
        spread = math.sqrt((residuals**2).sum() * len(values) / (len(values) - 1))
        found[measure.total or measure.metric] = spread / bottoms.sum()
    return found


def values_by_item(items: "pa.Table", task: str, metric: str) -> dict[str, float]:
    """Item -> value of one metric of a task."""
    import pyarrow.compute as pc

    rows = items.filter(pc.and_(pc.equal(items["task"], task), pc.equal(items["metric"], metric)))
    return dict(zip(rows["item"].to_pylist(), rows["value"].to_pylist(), strict=True))
