"""The sample of bounded size that an encoder is fitted on."""

import random

import pytest

from components.reservoir import WHOLE, Reservoir, place_of


def records(count, start=0):
    return [(f"r{number}", f"文書{number}。") for number in range(start, start + count)]


def filled(path, values, max_chars):
    found = Reservoir(path, max_chars)
    found.fill(values)
    return found


def test_it_holds_the_records_with_the_smallest_hashes_that_fit(tmp_path):
    values = [(name, text * 3) for name, text in records(2_000)]
    found = filled(tmp_path / "sample", values, 5_000)
    expected, total = set(), 0
    for _, text in sorted(values, key=lambda pair: place_of(pair[0])):
        total += len(text)
        if total > 5_000:
            break
        expected.add(text)
    assert set(found.values()) == expected
    told = found.report()
    assert told["records"] == len(expected)
    assert told["characters"] == sum(map(len, expected))
    assert told["share"] == pytest.approx(len(expected) / 2_000, rel=0.2)


def test_it_does_not_depend_on_the_order_and_keeps_the_order_of_reading(tmp_path):
    values = records(500)
    shuffled = random.Random(0).sample(values, len(values))
    first, second = filled(tmp_path / "a", values, 900), filled(tmp_path / "b", shuffled, 900)
    assert sorted(first.values()) == sorted(second.values())
    kept = set(first.values())
    assert list(first.values()) == [text for _, text in values if text in kept]


def test_what_fits_whole_is_taken_whole(tmp_path):
    found = filled(tmp_path / "sample", records(20), 10_000)
    assert list(found.values()) == [text for _, text in records(20)]
    assert found.report()["share"] == 1.0
    assert found.limit == WHOLE


def test_a_larger_sample_holds_a_smaller_one(tmp_path):
    small, large = (set(filled(tmp_path / str(size), records(500), size).values()) for size in (400, 900))
    assert small < large


def test_the_file_never_holds_more_than_twice_the_bound(tmp_path):
    most = 0

    def watched(path):
        nonlocal most
        for record in records(3_000):
            most = max(most, path.stat().st_size)
            yield record

    found = Reservoir(tmp_path / "sample", 2_000)
    found.fill(watched(found.lines))
    assert most < 2.5 * 2_000 * 8  # bytes of a character here, with the place before each text and a buffer


def test_a_finished_pass_is_known_again(tmp_path):
    assert not Reservoir(tmp_path / "sample", 10).is_filled
    filled(tmp_path / "sample", records(5), 10)
    again = Reservoir(tmp_path / "sample", 10)
    assert again.is_filled
    assert list(again.values())
