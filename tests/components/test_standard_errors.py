"""Standard errors of scores: those of the books, and of the ratio what resampling its items says."""

import numpy as np
import pyarrow as pa
import pytest

from components.measures import Measure
from components.standard_errors import standard_errors

RATIO = (Measure("bits", "lower", per="num_characters", total="bits_per_character"),)


def table_of(**metrics: list[float]) -> pa.Table:
    """Items of task `town`, and one of another that must not count."""
    rows = [
        {"task": "town", "item": f"doc-{number}", "metric": metric, "value": float(value)}
        for metric, values in metrics.items()
        for number, value in enumerate(values)
    ]
    return pa.Table.from_pylist([*rows, {"task": "other", "item": "doc-0", "metric": "bits", "value": 1e9}])


def test_a_mean_has_the_standard_error_of_a_mean() -> None:
    values = [1, 0, 0, 1, 1]
    found = standard_errors(table_of(is_right=values), "town", (Measure("is_right", "higher"),))
    assert found == {"is_right": pytest.approx(np.std(values, ddof=1) / np.sqrt(5))}


def test_a_ratio_of_sums_has_the_spread_that_resampling_its_items_shows() -> None:
    generator = np.random.default_rng(0)
    characters = generator.integers(20, 400, 300)
    bits = characters * generator.normal(3.0, 0.4, 300) + generator.normal(0, 30, 300)
    found = standard_errors(table_of(bits=list(bits), num_characters=list(characters)), "town", RATIO)
    drawn = generator.integers(0, 300, (4000, 300))
    resampled = (bits[drawn].sum(axis=1) / characters[drawn].sum(axis=1)).std()
    assert found["bits_per_character"] == pytest.approx(resampled, rel=0.05)
    naive = (bits / characters).std(ddof=1) / np.sqrt(300)
    assert abs(naive / resampled - 1) > 0.1, "a test that the mean of ratios passes too says nothing"


def test_the_order_of_rows_does_not_matter() -> None:
    rows = table_of(bits=[10, 40, 90], num_characters=[5, 10, 30])
    turned = pa.Table.from_pylist(rows.to_pylist()[::-1])
    assert standard_errors(rows, "town", RATIO) == pytest.approx(standard_errors(turned, "town", RATIO))


def test_what_single_items_do_not_tell_has_none() -> None:
    assert standard_errors(table_of(bits=[10], num_characters=[5]), "town", RATIO) == {}
    assert standard_errors(table_of(bits=[10, 20], num_characters=[5]), "town", RATIO) == {}
    assert standard_errors(table_of(bits=[10, 20]), "town", ()) == {}
