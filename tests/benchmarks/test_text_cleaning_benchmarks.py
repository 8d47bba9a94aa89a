"""What the benchmarks of masks and near duplicates plant, and how they count."""

import itertools
import random

import pytest

from benchmarks import masking, near_duplicates
from components.modalities.text.masking import masker


def test_what_is_planted_is_of_four_kinds_in_two_widths_and_each_is_masked():
    mask = masker()
    planted = list(itertools.islice(masking._planted(random.Random(0)), 400))
    assert {kind for kind, _ in planted} == {"email", "telephone", "postal_code", "card"}
    assert sum(piece.isascii() for _, piece in planted) > 100
    rows = [(kind, piece, f"これは、{piece}、です") for kind, piece in planted]
    ours = masking.shares(lambda text: mask(text)[0], rows, ["何もない。", "電話は03-1234-5678。"])
    assert ours["all planted"] == 100
    assert ours["innocent texts"] == 50
    assert ours["lines like them"] == 0
    assert masking.shares(lambda text: text, rows, [])["all planted"] == 0


@pytest.mark.parametrize("way", near_duplicates.WAYS)
def test_an_edited_text_differs_in_the_share_that_was_asked(way):
    text, other = "あ" * 500, "い" * 500
    found = near_duplicates.edited(text, 0.1, way, other, random.Random(0))
    assert (len(found), found.count("い")) == (500, 50)
    assert ("い" * 50 in found) == (way == "in one piece")


def test_a_pair_is_found_when_one_went_and_right_when_the_other_stayed():
    cases = [(0.02, "here and there"), (0.05, "in one piece")]
    found = near_duplicates.judged({1, 2, 3, 4}, cases, num_single=4)
    assert found == {
        "recall, 2% edited here and there": 100,
        "recall, 5% edited in one piece": 100,
        "precision": 25,  # of 2 and 3 none stayed, and 4 had no copy
        "single texts that went": 25,
    }
