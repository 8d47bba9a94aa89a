"""The profile of a validated corpus: numbers only, over edges that never move, so that two profiles can be compared."""

import bisect
import math
from collections.abc import Iterable
from typing import Any

from components.facts import FactTable

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SHARE_EDGES = [round(0.05 * step, 2) for step in range(21)]
MOST_NAMES = 1000
"""Names of one kind (sources, say) that a profile lists; the rest are counted together."""
REST = "(others)"
NO_FACTS = ("id", "split", "licence", "source", "file", "digest")


def count_edges(most: float) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on: two edges per doubling, up to beyond `most`."""
    edges = [0, 1, 2, 3]
    while edges[-1] <= most:
        edges.append(2 * edges[-2])
    return edges


def profile_of(table: FactTable, without: Iterable[str] = ()) -> dict[str, Any]:
    """Numbers about a table of facts, one row a record; one column is read at a time, in its order.

    Args:
        table: the facts.
        without: columns that say nothing about single records.

    Returns:
        `num_records`, `splits`, `licences`, `sources` (counts by name), `facts` (each numeric fact: sum, mean,
        quantiles, histogram), `categories` (each other fact: counts by value; digests have none).
    """
    facts: dict[str, Any] = {}
    categories: dict[str, Any] = {}
    for name, kind in table.kinds.items():
        if name in NO_FACTS or name in without or name.startswith("num_splits") or name.endswith("_digest"):
            continue  # numbers of other records, and names of single ones
        if kind in (int, float):
            facts[name] = _distribution(table, name, kind)
        else:
            categories[name] = _counts(table, name)
    return {
        "num_records": table.num_rows,
        "splits": _counts(table, "split"),
        "licences": _counts(table, "licence"),
        "sources": _counts(table, "source"),
        "facts": facts,
        "categories": categories,
    }


def _counts(table: FactTable, name: str) -> dict[str, int]:
    """Value -> number of records, most frequent first, equal ones by name."""
    is_flag = table.kinds[name] is bool
    found = {
        str(bool(value) if is_flag and value is not None else value): count
        for value, count in table.most_frequent(name, MOST_NAMES)
    }
    rest = table.num_rows - sum(found.values())
    ordered = dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
    return ordered | ({REST: rest} if rest else {})


def _distribution(table: FactTable, name: str, kind: type) -> dict[str, Any]:
    """Sum, mean, quantiles and a histogram whose last bin includes its upper edge."""
    low, high, total, count = table.range_of(name)
    is_share = kind is float and low >= 0 and high <= 1
    edges: list[float] = list(SHARE_EDGES if is_share else count_edges(high))
    histogram = [0] * (len(edges) - 1)
    places = [share * (count - 1) for share in QUANTILES]
    wanted = sorted({each for place in places for each in (math.floor(place), math.ceil(place))})
    at: dict[int, float] = {}
    seen = 0
    for value, times in table.counts(name):
        if edges[0] <= value <= edges[-1]:
            histogram[min(bisect.bisect_right(edges, value), len(histogram)) - 1] += times
        while len(at) < len(wanted) and wanted[len(at)] < seen + times:
            at[wanted[len(at)]] = value
        seen += times

    def quantile(place: float) -> float:
        below, above = at[math.floor(place)], at[math.ceil(place)]
        return below + (above - below) * (place - math.floor(place))

    return {
        "sum": int(total) if kind is int else round(float(total), 4),
        "mean": round(float(total) / count, 4),
        "quantiles": {f"{share:g}": round(quantile(place), 4) for share, place in zip(QUANTILES, places, strict=True)},
        "edges": edges,
        "histogram": histogram,
    }
