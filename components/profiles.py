"""The profile of a validated corpus: numbers only, over edges that never move, so that two profiles can be compared."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SHARE_EDGES = [round(0.05 * step, 2) for step in range(21)]
MOST_NAMES = 1000
"""Names of one kind (sources, say) that a profile lists; the rest are counted together."""
REST = "(others)"


def count_edges(most: float) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on: two edges per doubling, up to beyond `most`."""
    edges = [0, 1, 2, 3]
    while edges[-1] <= most:
        edges.append(2 * edges[-2])
    return edges


def profile_of(frame: "pd.DataFrame") -> dict[str, Any]:
    """Numbers about a frame of facts, one row a record.

    Returns:
        `num_records`, `splits`, `licences`, `sources` (counts by name), `facts` (each numeric fact: sum, mean,
        quantiles, histogram), `categories` (each other fact: counts by value; digests
        have none).
    """
    facts: dict[str, Any] = {}
    categories: dict[str, Any] = {}
    for name in frame.columns.drop(["id", "split", "licence", "source", "digest"]):
        if name.startswith("num_splits") or name.endswith("_digest"):
            continue  # numbers of other records, and names of single ones
        column = frame[name]
        if column.dtype.kind == "b" or column.dtype.kind not in "iuf":
            categories[name] = _counts(column)
        else:
            facts[name] = _distribution(column.to_numpy())
    return {
        "num_records": len(frame),
        "splits": _counts(frame["split"]),
        "licences": _counts(frame["licence"]),
        "sources": _counts(frame["source"]),
        "facts": facts,
        "categories": categories,
    }


def _counts(column: "pd.Series") -> dict[str, int]:
    """Value -> number of records, most frequent first, equal ones by name."""
    counts = column.astype(str).value_counts()
    ordered = sorted(counts.items(), key=lambda pair: (-int(pair[1]), str(pair[0])))
    named = {str(value): int(count) for value, count in ordered[:MOST_NAMES]}
    rest = sum(int(count) for _, count in ordered[MOST_NAMES:])
    return named | ({REST: rest} if rest else {})


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Sum, mean, quantiles and a histogram whose last bin includes its upper edge."""
    is_share = values.dtype.kind == "f" and float(values.min()) >= 0 and float(values.max()) <= 1
    edges = SHARE_EDGES if is_share else count_edges(float(values.max()))
    counts, _ = np.histogram(values, bins=np.asarray(edges, dtype=np.float64))
    total = values.sum()
    return {
        "sum": int(total) if values.dtype.kind in "iu" else round(float(total), 4),
        "mean": round(float(values.mean()), 4),
        "quantiles": {f"{share:g}": round(float(np.quantile(values, share)), 4) for share in QUANTILES},
        "edges": edges,
        "histogram": [int(count) for count in counts],
    }
