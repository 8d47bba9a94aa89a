"""Drift is seen when the data changed, and not when chance alone made two samples differ."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from components import drift
from components.drift import as_markdown, drift_between
from components.facts import FactTable
from components.profiles import profile_of


def profile(num_records: int, mean: float = 5.0, source: str = "a", seed: int = 0) -> dict:
    """The profile of records whose lengths are log-normal; a tenth of them are damaged."""
    chance = np.random.default_rng(seed)
    lengths = np.exp(chance.normal(mean, 0.5, num_records)).astype(int).tolist()
    shares, damages = chance.beta(8, 2, num_records).tolist(), (chance.random(num_records) < 0.1).tolist()
    with TemporaryDirectory() as folder, closing(FactTable(Path(folder) / "facts.sqlite")) as table:
        for number, (length, share, is_damaged) in enumerate(zip(lengths, shares, damages, strict=True)):
            name = str(number)
            fixed = {"id": name, "split": "train", "licence": "CC0-1.0", "source": source, "digest": name}
            facts = {"text_num_chars": length, "text_japanese_share": share, "text_is_damaged": is_damaged}
            table.add({**fixed, "num_splits": 1, **facts})
        return profile_of(table)


def index_of(drift, fact: str) -> float:
    return next(shift.index for shift in drift.shifts if shift.fact == fact)


@pytest.mark.parametrize("num_records", [30, 300, 20_000])
def test_two_samples_of_one_population_are_no_drift_at_any_size(num_records: int) -> None:
    for seed in range(10):
        drift = drift_between("c", profile(num_records, seed=seed), profile(num_records, seed=100 + seed))
        assert not [shift for shift in drift.shifts if shift.is_notable]


def test_longer_texts_are_a_drift_of_their_length_alone() -> None:
    drift = drift_between("c", profile(2000), profile(2000, mean=6.0, seed=1))
    assert [shift.fact for shift in drift.beyond(0.25)] == ["text_num_chars"]
    assert drift.largest == index_of(drift, "text_num_chars") > 1
    assert "**too far**" in as_markdown([drift], 0.25)
    assert "**too far**" not in as_markdown([drift], 100.0)


def test_the_index_is_the_sum_that_its_name_stands_for() -> None:
    before = {"num_records": 100, "facts": {}, "categories": {"kind": {"a": 50, "b": 50}}}
    now = {"num_records": 100, "facts": {}, "categories": {"kind": {"a": 90, "b": 10}}}
    p, q = [50.5 / 101] * 2, [90.5 / 101, 10.5 / 101]
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    bits = sum(a * np.log2(a / m) + b * np.log2(b / m) for a, b, m in zip(p, q, middle, strict=True)) / 2
    (shift,) = (each for each in drift_between("c", before, now).shifts if each.fact == "kind")
    assert (shift.index, shift.divergence) == (pytest.approx(expected, abs=1e-4), pytest.approx(bits, abs=1e-4))


def test_new_sources_are_reported_and_stop_nothing() -> None:
    drift = drift_between("c", profile(500), profile(500, source="b", seed=1))
    assert index_of(drift, "sources") > 5
    assert drift.beyond(0.25) == []
    assert "(reported only)" in as_markdown([drift], 0.25)


def test_bins_that_only_the_longer_profile_has_are_counted() -> None:
    before, now = profile(1000, mean=3.0), profile(1000, mean=9.0, seed=1)
    assert len(before["facts"]["text_num_chars"]["edges"]) < len(now["facts"]["text_num_chars"]["edges"])
    assert index_of(drift_between("c", before, now), "text_num_chars") > 5


def test_the_line_of_a_log_names_what_can_stop_a_release_apart_from_what_is_only_reported() -> None:
    sources = drift.Shift("sources", 2.0, 0.5, 0.01, binds=False)
    length, language = drift.Shift("length", 0.2, 0.1, 0.01, True), drift.Shift("language", 0.1, 0.1, 0.01, True)
    line = drift.in_a_line(drift.Drift("wiki", 10, 20, (sources, length, language)), 0.25)
    assert line == "drift of wiki: most shifted: length 0.200 (bound 0.25); reported only: sources 2.000"
    assert drift.in_a_line(drift.Drift("wiki", 10, 20, ()), 0.25) == "drift of wiki: nothing can be compared"
