"""The demo's transcripts: the same bytes everywhere, few words, speakers apart, all of them known to the corpora."""

import hashlib
import json
from collections import Counter

import pytest
import yaml

from components.generators import GENERATORS
from components.generators.transcripts import PAUSE, SPEAKERS, WORDS
from components.modalities.speech.phonemes import words_of
from tests.conftest import ROOT

DIGESTS = {
    "heard.jsonl": "88630cf335aca2a260a7943dab34f5602f1d3b193da01442bb08cea17333a0f8",
    "labelled.jsonl": "57bdb49d044651857a226c0cf36aebb1460795227a6a156ae61dd7b80672686d",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    GENERATORS["transcripts"](folder)
    return folder / "demo" / "transcripts"


@pytest.fixture(scope="module")
def rows(data):
    return {
        path.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(data.iterdir())
    }


def test_the_bytes_are_the_recorded_ones(data):
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.iterdir())}
    assert found == DIGESTS


def test_speakers_are_of_one_split_and_nobody_says_the_same_twice(rows):
    everything = [row for file in rows.values() for row in file]
    assert len({row["id"] for row in everything}) == len(everything) == 1240
    assert len({(row["text"], row["speaker"]) for row in everything}) == len(everything)
    for split, speakers in SPEAKERS.items():
        assert {row["speaker"] for row in everything if row["split"] == split} == set(speakers)
    assert len({each for speakers in SPEAKERS.values() for each in speakers}) == 24


def test_utterances_have_one_to_four_words_and_every_word_occurs_about_as_often(rows):
    texts = [row["text"].split(PAUSE) for file in rows.values() for row in file]
    assert {len(text) for text in texts} == {1, 2, 3, 4}
    counts = Counter(word for text in texts for word in text)
    assert set(counts) == set(WORDS)
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_a_small_part_of_train_is_labelled_and_all_that_is_held_out(rows):
    assert Counter(row["split"] for row in rows["labelled.jsonl"]) == {"train": 64, "valid": 96, "test": 120}
    assert {row["split"] for row in rows["heard.jsonl"]} == {"train"}


def test_the_front_end_reads_every_word_as_one(rows):
    assert [len(words_of(word, "openjtalk")) for word in WORDS] == [1] * len(WORDS)
    assert words_of("キュー、昨日、赤", "openjtalk") == [["ky", "u:"], ["k", "i", "n", "o:"], ["a", "k", "a"]]


def test_every_word_has_one_reading_in_all_that_is_said(rows):
    readings = {word: set() for word in WORDS}
    for row in (row for file in rows.values() for row in file):
        said, read = row["text"].split(PAUSE), words_of(row["text"], "openjtalk")
        for word, phonemes in zip(said, read, strict=True):
            readings[word].add(" ".join(phonemes))
    assert {word: found for word, found in readings.items() if len(found) != 1} == {}


@pytest.mark.parametrize("corpus", ["demo-speech", "demo-speech-labelled"])
def test_every_speaker_has_a_voice_that_no_other_has(corpus):
    voices = yaml.safe_load((ROOT / f"recipes/corpora/{corpus}.yaml").read_text(encoding="utf-8"))["source"]["speakers"]
    assert set(voices) == {each for speakers in SPEAKERS.values() for each in speakers}
    assert len({tuple(voice.values()) for voice in voices.values()}) == 24
