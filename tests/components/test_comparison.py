"""Paired comparison against values worked out by hand and against scipy, and its verdicts at few and many items."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from components import comparison
from components.comparison import bootstrap, compare, holm, mcnemar, share_interval
from components.measures import Measure, measures_of
from components.modalities.text.schema import HeldOutBits
from components.outcomes import Refused
from tests.conftest import ROOT

RIGHT = Measure("is_right", "higher")
BITS = HeldOutBits.MEASURES[0]


def table(**metrics: list[float]) -> pa.Table:
    """Items of one task; `task__metric` names another task."""
    rows = [
        {"task": task, "item": f"i{number}", "metric": metric, "value": float(value)}
        for name, values in metrics.items()
        for task, _, metric in [name.rpartition("__")]
        for number, value in enumerate(values)
    ]
    return pa.Table.from_pylist([{**row, "task": row["task"] or "t"} for row in rows])


def test_mcnemar_is_the_binomial_test_of_the_items_on_which_two_models_differ() -> None:
    # By hand: 8 against 1, 2 * (C(9,0) + C(9,1)) / 2^9 = 20 / 512.
    assert mcnemar(8, 1) == pytest.approx(20 / 512)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    for gains, losses in [(1, 9), (12, 30), (480, 521), (2000, 1000)]:
        expected = stats.binomtest(gains, gains + losses, 0.5).pvalue
        assert mcnemar(gains, losses) == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_a_measure_of_right_and_wrong_agrees_with_its_test() -> None:
    # By hand: 8 losses of 10 items, none gained: the share of gains is at most 1 - 0.025^(1/8) = 0.3694.
    low, high = share_interval(0, 8)
    assert (low, high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 8)))
    for gains, losses in [(1, 9), (12, 30), (480, 521), (2000, 1000), (0, 6), (5, 0)]:
        found = share_interval(gains, losses)
        expected = stats.binomtest(gains, gains + losses).proportion_ci(0.95, "exact")
        assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert (found[0] <= 0.5 <= found[1]) == (mcnemar(gains, losses) >= comparison.LEVEL)
    (lost,) = compare(table(is_right=[1] * 10), table(is_right=[0] * 8 + [1] * 2), {"t": (RIGHT,)}).tests
    assert (lost.verdict, lost.gain, lost.low) == ("worse", -0.8, -0.8)
    assert lost.high == pytest.approx(0.8 * (2 * (1 - 0.025 ** (1 / 8)) - 1))


def test_holm_is_what_its_paper_says() -> None:
    # By hand: sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, then never less than the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_bootstrap_agrees_with_the_t_test_where_that_is_right() -> None:
    gains = np.random.default_rng(7).normal(0.1, 1.0, 400)
    low, high, p = bootstrap(gains, np.ones(400))
    expected = stats.ttest_1samp(gains, 0.0)
    interval = expected.confidence_interval(0.95)
    assert p == pytest.approx(expected.pvalue, abs=0.01)
    assert (low, high) == pytest.approx(tuple(interval), abs=0.01)


def test_the_bootstrap_of_ten_items_calls_noise_a_difference_about_one_time_in_twenty() -> None:
    generator = np.random.default_rng(1)
    alarms = sum(bootstrap(generator.normal(size=10), np.ones(10))[2] < 0.05 for _ in range(150))
    assert alarms <= 15  # a percentile bootstrap makes 20 to 25


def test_a_ratio_of_sums_weighs_items_by_their_length() -> None:
    # By hand: (60 - 70 + 0.5 - 0.2) bits on (100 + 1) characters.
    done = compare(
        table(bits=[70.0, 0.2], num_characters=[100, 1]),
        table(bits=[60.0, 0.5], num_characters=[100, 1]),
        {"t": (BITS,)},
    )
    (test,) = done.tests
    assert test.gain == pytest.approx(9.7 / 101)
    assert (test.champion, test.challenger) == pytest.approx((70.2 / 101, 60.5 / 101))


def test_equal_models_cannot_be_told_apart_and_a_clear_gain_or_loss_is_told() -> None:
    generator = np.random.default_rng(3)
    old, lengths = generator.uniform(50, 150, 200), generator.integers(20, 60, 200)
    champion = table(bits=old, num_characters=lengths)
    same = compare(champion, champion, {"t": (BITS,)})
    assert (same.verdict, same.tests[0].p) == ("cannot-tell", 1.0)
    assert same.tests[0].words == "can't tell at n = 200"
    noise = generator.normal(0, 1, 200)
    for shift, verdict in [(-1.0, "better"), (1.0, "worse"), (0.02, "cannot-tell")]:
        other = compare(champion, table(bits=old + shift + noise, num_characters=lengths), {"t": (BITS,)})
        assert other.verdict == verdict
        assert (other.tests[0].low > 0, other.tests[0].high < 0) == (verdict == "better", verdict == "worse")


def test_a_difference_that_is_the_same_on_every_item_needs_as_many_items_as_a_coin() -> None:
    few = compare(table(is_right=[0] * 5), table(is_right=[1] * 5), {"t": (RIGHT,)})
    assert (few.verdict, few.tests[0].p) == ("cannot-tell", 2 / 2**5)
    many = compare(table(is_right=[0] * 6), table(is_right=[1] * 6), {"t": (RIGHT,)})
    assert many.verdict == "better"
    mean = Measure("loss", "lower")
    assert compare(table(loss=[2.0]), table(loss=[1.0]), {"t": (mean,)}).verdict == "cannot-tell"
    assert compare(table(loss=[2.0] * 9), table(loss=[1.0] * 9), {"t": (mean,)}).verdict == "better"


def test_the_interval_of_a_mean_is_the_same_every_time_and_states_how_it_was_made() -> None:
    generator = np.random.default_rng(5)
    old, new = generator.normal(size=50), generator.normal(size=50)
    first, second = (compare(table(loss=old), table(loss=new), {"t": (Measure("loss", "lower"),)}) for _ in range(2))
    assert first == second
    assert first.method == (
        "Paired on the same items by the bootstrap (10,000 resamples, seed 0); level 0.05, intervals of 95%."
    )


def test_worse_on_one_of_several_tasks_is_worse_and_several_tests_are_corrected() -> None:
    champion = table(a__is_right=[0] * 8 + [1] * 8, b__is_right=[1] * 16)
    better = table(a__is_right=[1] * 16, b__is_right=[1] * 16)
    measures = {"a": (RIGHT,), "b": (RIGHT,)}
    done = compare(champion, better, measures)
    assert [test.p for test in done.tests] == pytest.approx([2 / 2**8, 1.0])
    assert [test.corrected for test in done.tests] == pytest.approx([4 / 2**8, 1.0])
    assert done.verdict == "better"
    assert "corrected for 2 tests by Holm" in done.method
    mixed = compare(champion, table(a__is_right=[1] * 16, b__is_right=[0] * 16), measures)
    assert [test.verdict for test in mixed.tests] == ["better", "worse"]
    assert mixed.verdict == "worse"


def test_many_items_are_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = np.random.default_rng(2).normal(0.05, 1.0, 300)
    whole = bootstrap(gains, np.ones(300))
    monkeypatch.setattr(comparison, "MAX_DRAWS", 300 * 700)
    assert bootstrap(gains, np.ones(300)) == pytest.approx(whole)


def test_without_a_champion_it_is_the_first() -> None:
    assert comparison.Comparison(()).verdict == "first"


def test_other_items_are_refused() -> None:
    with pytest.raises(Refused, match="1 items that only the champion was scored on and 0"):
        compare(table(is_right=[1, 0]), table(is_right=[1]), {"t": (RIGHT,)})


def test_a_metric_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(Refused, match="no 'is_right' of task 't'; they have loss"):
        compare(table(loss=[1]), table(loss=[1]), {"t": (RIGHT,)})
    with pytest.raises(Refused, match="nothing of it"):
        compare(table(loss=[1]), table(loss=[1]), {"u": (RIGHT,)})


def test_an_item_that_stands_twice_is_refused() -> None:
    twice = pa.concat_tables([table(is_right=[1]), table(is_right=[0])])
    with pytest.raises(Refused, match="2 rows of 'is_right' for 1 items"):
        compare(twice, twice, {"t": (RIGHT,)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    measures = {"t": (Measure("loss", "lower"),)}
    with pytest.raises(Refused, match=r"of the challenger give 'loss' of task 't' as (nan|inf) for 1 of 2 items.*'i1'"):
        compare(table(loss=[1.0, 2.0]), table(loss=[1.0, value]), measures)
    with pytest.raises(Refused, match="of the champion give"):
        compare(table(loss=[1.0, value]), table(loss=[1.0, 2.0]), measures)


def test_a_kind_of_task_that_declares_no_measure_is_refused_with_what_to_add() -> None:
    class Mute(HeldOutBits):
        MEASURES = ()

    task = HeldOutBits(kind="held-out-bits", corpus="town")
    assert measures_of({"t": task}) == {"t": (BITS,)}
    assert (BITS.name, BITS.better) == ("bits/num_characters", "lower")
    with pytest.raises(Refused, match=r"such as 'quiet'.*Add MEASURES to"):
        measures_of({"quiet": Mute(kind="held-out-bits", corpus="town")})


def test_every_kind_of_task_of_every_modality_can_be_compared() -> None:
    from components.modalities import MODALITIES, schema_of
    from components.recipes import Library

    library = Library(ROOT / "recipes")
    shipped = [library.read("task", name) for name in library.files["task"]]
    assert {type(each) for each in shipped} == {kind for name in MODALITIES for kind in schema_of(name).TASKS.values()}
    assert all(each.MEASURES and all(isinstance(one, Measure) for one in each.MEASURES) for each in shipped)


def test_a_measure_that_only_one_model_has_is_named_and_the_others_are_compared() -> None:
    measures = {"t": (RIGHT, Measure("extra", "higher", may_miss=True))}
    full, short = table(is_right=[1] * 4, extra=[1] * 4), table(is_right=[1] * 4)
    for champion, challenger, is_lost in [(full, short, True), (short, full, False)]:
        found = compare(champion, challenger, measures)
        assert [test.measure.name for test in found.tests] == ["is_right"]
        assert [(each.measure.name, each.is_lost) for each in found.unpaired] == [("extra", is_lost)]
    assert compare(short, short, measures).unpaired == ()
    with pytest.raises(Refused, match="scores of the challenger have no 'is_right'"):
        compare(full, table(extra=[1] * 4), measures)
