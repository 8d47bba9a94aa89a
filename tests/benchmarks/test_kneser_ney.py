"""The n-gram baseline against hand-computed values, a plain second implementation, and the law of total probability."""

import json
import math
import random
from collections import Counter
from functools import cache

import numpy as np
import pytest

from benchmarks import ngram
from benchmarks.kneser_ney import FALLBACK_DISCOUNTS, NUM_SYMBOLS, KneserNey, discounts_of
from components.outcomes import Refused

START, END = "\x02", "\x03"


def _probabilities(model: KneserNey, text: str) -> np.ndarray:
    return 2.0 ** -model.bits([text])[0]


def _plain_counts(texts: list[str], order: int) -> list[dict[str, int]]:
    """Adjusted counts of the n-grams of each length."""
    grams = [Counter() for _ in range(order)]
    for text in texts:
        row = START + text + END
        for length in range(1, order + 1):
            grams[length - 1].update(row[i : i + length] for i in range(len(row) - length + 1))
    del grams[0][START]
    return [
        {
            gram: count if longer is None or gram[0] == START else sum(1 for other in longer if other[1:] == gram)
            for gram, count in counts.items()
        }
        for counts, longer in zip(grams, [*grams[1:], None], strict=True)
    ]


def _plain_model(texts: list[str], order: int):
    """The same smoothing with dictionaries, written from the formulas: probability(symbol, context)."""
    adjusted = _plain_counts(texts, order)

    @cache
    def discounts(length: int) -> tuple[float, float, float]:
        n = Counter(adjusted[length - 1].values())
        if not all(n[k] for k in (1, 2, 3, 4)):
            return FALLBACK_DISCOUNTS
        y = n[1] / (n[1] + 2 * n[2])
        return 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]

    def probability(symbol: str, context: str) -> float:
        length = len(context) + 1
        lower = probability(symbol, context[1:]) if context else 1 / NUM_SYMBOLS
        follows = {gram[-1]: count for gram, count in adjusted[length - 1].items() if gram[:-1] == context}
        if not follows:
            return lower
        total = sum(follows.values())
        taken = {c: discounts(length)[min(count, 3) - 1] for c, count in follows.items()}
        return (follows.get(symbol, 0) - taken.get(symbol, 0.0)) / total + sum(taken.values()) / total * lower

    return probability


def test_a_bigram_model_of_two_words_has_the_probabilities_computed_by_hand():
    # Bigrams: ^a 2, ab 2, b$ 2, aa 1. Preceding characters: a 2 (^, a), b 1, $ 1. Discounts 0.5 and 1 for 1 and 2.
    a, b, end = 1 / 4 + 0.5 / NUM_SYMBOLS, 0.5 / 4 + 0.5 / NUM_SYMBOLS, 0.5 / 4 + 0.5 / NUM_SYMBOLS
    model = KneserNey.fit(["ab", "aab"], order=2)
    expected = [1 / 2 + 1 / 2 * a, 0.5 / 3 + 1.5 / 3 * a, 1 / 3 + 1.5 / 3 * b, 1 / 2 + 1 / 2 * end]
    assert _probabilities(model, "aab") == pytest.approx(expected, rel=1e-12)
    # Never seen: z costs the shares left by both levels; b was never followed by b; z as a context leaves the 1-grams.
    expected = [1 / 2 * 0.5 / NUM_SYMBOLS, b, 1 / 2 * b, 1 / 2 + 1 / 2 * end]
    assert _probabilities(model, "zbb") == pytest.approx(expected, rel=1e-12)


def test_discounts_are_those_of_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 5], [10, 5, 3, 2, 7])
    # Y = 10 / 20; D1 = 1 - 2 Y 5/10, D2 = 2 - 3 Y 3/5, D3+ = 3 - 4 Y 2/3
    assert discounts_of(counts) == pytest.approx((0.5, 1.1, 5 / 3))


@pytest.mark.parametrize("order", [1, 3, 5])
def test_bits_equal_a_plain_implementation_with_dictionaries(order):
    rng = random.Random(7)
    texts = ["".join(rng.choice("aaaabbbccdいろは") for _ in range(rng.randrange(1, 30))) for _ in range(60)]
    held_out = ["abca", "いろはa", "zzab", "d", "ccccccdいz"]
    model = KneserNey.fit(texts, order)
    reference = _plain_model(texts, order)
    expected = []
    for text in held_out:
        row = START + text + END
        expected += [-math.log2(reference(row[i], row[max(0, i - order + 1) : i])) for i in range(1, len(row))]
    bits, known = model.bits(held_out)
    assert bits == pytest.approx(expected, rel=1e-9)
    assert int((~known).sum()) == 3


def test_probabilities_over_the_alphabet_sum_to_one_after_any_context():
    rng = random.Random(3)
    texts = ["".join(rng.choice("あいうえおかきく") for _ in range(rng.randrange(0, 20))) for _ in range(200)]
    model = KneserNey.fit(texts, order=4)
    alphabet = sorted(set("".join(texts)))
    for _ in range(20):
        context = "".join(rng.choice("あいうえおかきくz") for _ in range(rng.randrange(0, 7)))
        seen = sum(_probabilities(model, context + character)[len(context)] for character in alphabet)
        end = _probabilities(model, context)[-1]
        unseen = _probabilities(model, context + "山")[len(context)] * (NUM_SYMBOLS - len(alphabet) - 1)
        assert seen + end + unseen == pytest.approx(1.0, rel=1e-9)


def test_files_are_split_by_content_and_measured_with_an_end_of_document_each(tmp_path, capsys):
    texts = [f"{i}番目の文は{i * 7}です。" for i in range(400)]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[0]]), encoding="utf-8")
    splits = ngram.read_files([path], 1.0)
    assert sorted(splits["train"] + splits["test"]) == sorted(texts)
    [score] = ngram.measure(splits, [3])
    bits, _ = KneserNey.fit(splits["train"], 3).bits(splits["test"])
    assert len(bits) == sum(len(text) + 1 for text in splits["test"])
    assert score.bits_per_character == pytest.approx(bits.sum() / sum(map(len, splits["test"])))
    ngram.main(str(path), order=[3])
    assert f"| 3 | {score.bits_per_character:.4f} |" in capsys.readouterr().out


def test_sources_without_documents_are_refused(tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(Refused, match="no document in train, test"):
        ngram.main(str(path))
    with pytest.raises(Refused, match="expected one corpus or JSON Lines files"):
        ngram.main("a", "b")
