"""Medians, ratios and verdicts against values computed by hand."""

import pytest

from benchmarks.figures import Row, Spread, ratio_of


def test_a_spread_is_the_median_between_the_least_and_the_greatest():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)


def test_a_spread_reads_as_one_number_where_nothing_was_repeated():
    assert str(Spread.of([1.5])) == "1.5"
    assert str(Spread.of([1.5, 1.25, 2.0])) == "1.5 (1.25..2)"
    assert str(Spread.of([1812.4, 790.0, 12815.0])) == "1,812 (790..12,815)"


def test_a_ratio_is_of_the_medians_and_its_spread_of_the_pairs():
    # Medians 30 and 10; pairs 10/5, 30/10, 60/30.
    assert ratio_of([10.0, 30.0, 60.0], [5.0, 10.0, 30.0]) == Spread(3.0, 2.0, 3.0)
    # What drifts in both sides alike leaves no spread.
    assert ratio_of([10.0, 20.0], [5.0, 10.0]) == Spread(2.0, 2.0, 2.0)


def test_sides_that_were_not_measured_in_pairs_have_no_ratio():
    with pytest.raises(ValueError):
        ratio_of([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        ({}, ""),
        ({"at_least": 1.25}, "at least 1.25: yes"),
        ({"at_least": 3}, "at least 3: no"),
        ({"at_most": 2}, "at most 2: yes"),
        ({"at_most": 0.5}, "at most 0.5: no"),
    ],
)
def test_a_row_tells_what_was_wanted_and_whether_it_is_so(wanted, verdict):
    row = Row.compare("tokens per second", "another", [20.0], [10.0], **wanted)
    assert row.ratio == Spread(2.0, 2.0, 2.0)
    assert row.verdict == verdict


def test_a_baseline_alone_has_no_verdict():
    assert Row("bits", "another", Spread.of([1.0]), at_most=1.0).verdict == ""
