"""The proof of translation: pairs are read and told apart, held out, learnt from and translated in `ingest`."""

import json
from pathlib import Path

import pytest

from benchmarks.translation import measure, scores
from benchmarks.translator import Shape, read_pairs
from components.outcomes import Refused

WORDS = {"dog": "犬", "cat": "猫", "bird": "鳥", "fish": "魚", "horse": "馬", "bear": "熊"}
VERBS = {"runs": "走る", "sleeps": "眠る", "eats": "食べる", "sings": "歌う", "swims": "泳ぐ"}


def write_pairs(path: Path) -> None:
    pairs = [
        (f"The {a} {b} {n} times.", f"{WORDS[a]}は{n}回{VERBS[b]}。") for a in WORDS for b in VERBS for n in range(20)
    ]
    rows = [pairs[start : start + 4] for start in range(0, len(pairs), 4)]
    turned = [[pair[::-1] if number % 2 else pair for pair in row] for number, row in enumerate(rows)]
    text = "".join(json.dumps({"text": "\n".join(side for pair in row for side in pair)}) + "\n" for row in turned)
    path.write_text(text, encoding="utf-8")


def test_pairs_are_read_whichever_language_comes_first(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    found = [pair for record in read_pairs(tmp_path / "pairs.jsonl") for pair in record]
    assert len(found) == 600
    assert all(english.isascii() and not japanese.isascii() for english, japanese in found)
    with pytest.raises(Refused, match="nowhere is not there"):
        read_pairs(tmp_path / "nowhere")


def test_scores_are_100_for_what_a_person_wrote_and_little_for_something_else() -> None:
    texts = ["犬は三回走る。", "猫は二回眠る。"]
    assert scores(texts, texts) == pytest.approx({"chrF": 100, "BLEU over characters": 100})
    assert max(scores(["A dog.", "A cat."], texts).values()) < 10


@pytest.mark.slow
def test_a_translator_trained_in_seconds_translates_held_out_sentences_in_ingest(tmp_path: Path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    monkeypatch.chdir(tmp_path)
    shape = Shape(num_layers=1, hidden_size=32, vocab_size=400)
    result = measure(tmp_path / "pairs.jsonl", num_steps=20, num_records=40, shape=shape)
    measured = result.measured
    assert measured["trained"]["steps"] == 20
    assert measured["manifest"]["pairs"] == measured["counts"]["num_rows"] == 40
    assert [row.figure for row in result.rows] == [
        "chrF on 40 held-out sentences",
        "BLEU over characters on 40 held-out sentences",
    ]
    with pytest.raises(Refused, match="expected more than --num-records, which is 700"):
        measure(tmp_path / "pairs.jsonl", num_records=700)
