"""Standard errors of scores: those of the books, and of the ratio what resampling its items says."""

import numpy as np
import pyarrow as pa
import pytest

from components.measures import Measure, measures_of
from components.modalities.text.sampling import distinct, distinct_of_others
from components.modalities.text.schema import HeldOutBits, Samples
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


def documents(number: int) -> dict[str, np.ndarray]:
    """Of so many documents, as `held-out-bits` leaves them: bits, characters, bytes, tokens."""
    generator = np.random.default_rng(1)
    characters = generator.integers(20, 400, number)
    tokens = 1 + (characters * generator.uniform(0.4, 0.8, number)).astype(int)
    return {
        "bits": tokens * generator.normal(3.0, 0.4, number),
        "num_characters": characters,
        "num_bytes": (characters * generator.uniform(2.0, 3.0, number)).astype(int),
        "num_tokens": tokens,
    }


def test_every_rate_of_held_out_text_has_the_spread_that_resampling_documents_shows() -> None:
    told = documents(400)
    found = standard_errors(table_of(**{key: list(rows) for key, rows in told.items()}), "town", HeldOutBits.MEASURES)
    drawn = np.random.default_rng(0).integers(0, 400, (4000, 400))
    sums = {key: rows[drawn].sum(axis=1) for key, rows in told.items()}
    expected = {
        "bits_per_character": sums["bits"] / sums["num_characters"],
        "bits_per_byte": sums["bits"] / sums["num_bytes"],
        "perplexity": 2 ** (sums["bits"] / sums["num_tokens"]),
        "tokens_per_character": (sums["num_tokens"] - 400) / sums["num_characters"],
    }
    assert found == {total: pytest.approx(values.std(), rel=0.05) for total, values in expected.items()}


def test_models_are_compared_by_one_of_the_rates_alone() -> None:
    task = HeldOutBits(kind="held-out-bits", corpus="town")
    [measure] = measures_of({"t": task})["t"]
    assert measure.total == "bits_per_character"
    [measure] = measures_of({"t": Samples(kind="samples")})["t"]
    assert measure.metric == "repeated_share"


def written(generator: np.random.Generator, number: int) -> list[str]:
    """Samples of a writer with a few pet words and many rare ones."""
    words = ["".join(map(chr, 0x3042 + np.random.default_rng(seed).integers(0, 80, 4))) for seed in range(300)]
    shares = 1 / np.arange(1, 301)
    return ["".join(generator.choice(words, 12, p=shares / shares.sum())) for _ in range(number)]


def test_diversity_of_all_samples_together_is_as_sure_as_other_samples_show() -> None:
    generator = np.random.default_rng(0)
    totals, errors = [], []
    for _ in range(300):
        texts = written(generator, 40)
        rows = table_of(**distinct_of_others(texts))
        errors.append(standard_errors(rows, "town", Samples.MEASURES)["distinct_4"])
        totals.append(distinct(texts)["distinct_4"])
    # The jackknife's is on average not too small (Efron & Stein 1981); the spread of 300 totals is known to 4 percent.
    assert 0.9 < np.mean(errors) / np.std(totals, ddof=1) < 1.25


def test_a_measure_that_begins_names_tells_of_each_that_no_other_names() -> None:
    values = {"fixed/quiz/f1": [0.2, 0.4, 0.9], "fixed/quiz/exact": [0, 0, 1], "fixed/quizzes/f1": [1, 0, 1]}
    measures = (
        Measure("fixed/quiz/exact", "higher"),
        Measure("fixed/quiz/", "higher", is_each=True, told_only=True),
    )
    found = standard_errors(table_of(**values), "town", measures)
    expected = {key: np.std(values[key], ddof=1) / np.sqrt(3) for key in ("fixed/quiz/exact", "fixed/quiz/f1")}
    assert found == pytest.approx(expected)


def test_a_mean_of_several_has_an_error_only_where_each_has() -> None:
    measures = (Measure("a", "higher"), Measure("b", "higher"), Measure("all", "higher", mean_of=("a", "b")))
    both = standard_errors(table_of(a=[0, 1, 1], b=[0.1, 0.2, 0.6]), "town", measures)
    assert both["all"] == pytest.approx(np.hypot(both["a"], both["b"]) / 2)
    assert standard_errors(table_of(a=[0, 1, 1], b=[0.1]), "town", measures).keys() == {"a"}
    assert standard_errors(table_of(a=[0, 1, 1]), "town", measures).keys() == {"a", "all"}


def test_a_clean_score_has_the_error_of_the_items_that_were_looked_for_and_not_found() -> None:
    values = {"is_right": [1, 0, 0, 1, 1, 1], "contaminated": [0, 0, 1, 0, 1]}  # the last item was not looked for
    found = standard_errors(table_of(**values), "town", (Measure("is_right", "higher"),))
    assert found["is_right_clean"] == pytest.approx(np.std([1, 0, 1], ddof=1) / np.sqrt(3))
    found = standard_errors(table_of(is_right=[1, 0], contaminated=[0, 0]), "town", (Measure("is_right", "higher"),))
    assert found.keys() == {"is_right"}
