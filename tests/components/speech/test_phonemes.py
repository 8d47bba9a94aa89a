import json

import numpy as np
import pyopenjtalk
import pytest
import soundfile

from components.modalities import Rejected, modality
from components.modalities.speech import checking
from components.modalities.speech.phonemes import MORAS, phonemes_of_kana, words_of
from components.modalities.speech.schema import CSJ_40, Column, Phonemes
from components.outcomes import Refused

TRANSCRIPT = {"modality": "speech", "form": "transcript"}
# Of OpenJTalk's 42 phonemes, those that are named otherwise here.
RENAMED = {"cl": "q", "I": "i", "U": "u", "v": "b", "fy": "hy", "kw": "k", "gw": "g", "ty": "ch"}

SENTENCES = [
    "病気のお客さんは、にゃあと鳴く猫をじっと見て、ひょっとしたらと言った。",
    "牛乳とチョコレートを、東京の学校で百円で買いました。",
    "りゃくごを、みゃくらくもなく、びょうきのぴょんちゃんがしゃべる。",
    "デュエットとフューチャー、ヴァイオリンとティーカップ、ウィスキー。",
    "えーと、うーん、ああそうですか。ちょっと待ってください。",
    "ゼロから始める、一二三四五六七八九十。",
]


def text_of(text: str, front_end="openjtalk") -> str:
    return " | ".join(" ".join(word) for word in words_of(text, front_end))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京", "t o: ky o:"),
        ("コーヒー", "k o: h i:"),
        ("いい天気", "i i | t e N k i"),
        ("学校へ行きました。", "g a q k o: | e | i k i | m a sh i | t a"),
        ("切符を買う", "k i q p u | o | k a u"),
        ("です", "d e s u"),
        ("ヴァイオリン", "b a i o r i N"),
        ("フューチャー", "hy u: ch a:"),
        ("フョードル", "hy o: d o r u"),
        ("フャ、フョ", "hy a | hy o"),
        ("テューバ", "ch u: b a"),
        ("ティーシャツ", "t i: | sh a ts u"),
        ("デュエット", "dy u e q t o"),
        ("クォーツ", "k o: ts u"),
        ("三時二十五分", "s a N | j i | n i | j u: | g o | f u N"),
        ("シェフ、ジェット", "sh e f u | j e q t o"),
    ],
)
def test_words_have_the_phonemes_that_a_person_writes(text, expected):
    assert text_of(text) == expected


def test_every_kana_has_phonemes_of_the_set_and_all_40_occur():
    said = {phoneme for kana in MORAS for phoneme in phonemes_of_kana(kana)}
    long = {phoneme for kana in "アイウエオ" for phoneme in phonemes_of_kana(f"{kana}ー")}
    assert len(CSJ_40) == len(set(CSJ_40)) == 40
    assert said | long == set(CSJ_40)


def expanded(symbols: list[str]) -> list[str]:
    """With long vowels written twice, as OpenJTalk does."""
    return [part for symbol in symbols for part in ([symbol[0]] * 2 if symbol.endswith(":") else [symbol])]


ALONE = [kana for kana in MORAS if kana not in ("フャ", "フョ", *"ッァィゥェォャュョヮ")]
"""Kana that OpenJTalk speaks as one; it has no フャ and フョ, and says fuya and fuyo."""


@pytest.mark.parametrize("text", [*SENTENCES, *ALONE])
def test_phonemes_are_those_that_openjtalk_speaks(text):
    ours = expanded([phoneme for word in words_of(text, "openjtalk") for phoneme in word])
    spoken = [RENAMED.get(each, each) for each in pyopenjtalk.g2p(text).split() if each not in ("pau", "sil")]
    assert ours == spoken


def test_given_phonemes_are_cleaned_and_a_lexicon_spells_words():
    given = Column.model_validate(TRANSCRIPT | {"front_end": "given"})
    read = modality("speech").reader(given)
    assert read({"transcript": " a  k i|ky o: "}) == "a k i | ky o:"
    lexicon = TRANSCRIPT | {"front_end": "given", "lexicon": {"one": "w ah n", "two": "t uw"}}
    read = modality("speech").reader(Column.model_validate(lexicon))
    assert read({"transcript": "two one"}) == "t uw | w ah n"
    with pytest.raises(Rejected, match="a word that the lexicon lacks"):
        read({"transcript": "three"})


@pytest.mark.parametrize(
    ("raw", "reason"), [("", "empty"), (" \n", "empty"), (None, "no text"), ("\ufffd", "decoding")]
)
def test_a_transcript_that_says_nothing_is_rejected(raw, reason):
    with pytest.raises(Rejected, match=reason):
        modality("speech").reader(Column.model_validate(TRANSCRIPT))({"transcript": raw})


def test_facts_name_phonemes_outside_of_the_inventory():
    section = Column.model_validate(TRANSCRIPT | {"front_end": "given", "inventory": ["a", "i"]})
    facts = checking.check("a i | x a y", section)
    assert facts == {"num_chars": 11, "num_words": 2, "num_phonemes": 5, "unknown": "x y"}
    assert checking.check("こんにちは", Column.model_validate(TRANSCRIPT))["unknown"] == ""


def test_phones_are_counted_whatever_they_are_called():
    phones = Column.model_validate({"modality": "speech", "form": "phones"})
    clean = modality("speech").reader(phones)({"phones": [["[noise]", 0, 0.5], ["a", 0.5, 1]]})
    assert checking.check(clean, phones) == {"num_phones": 2}


# ---- the encoder -----------------------------------------------------------------------------------------------------


def fitted(folder, values=(), held_out=(), **keys):
    section = Phonemes.model_validate({"kind": "phonemes"} | keys)
    report = modality("speech").fit(section, values, held_out, {}, folder)
    return modality("speech").open_encoder(folder), report


def test_blank_and_boundary_come_first_and_the_inventory_after(tmp_path):
    encoder, report = fitted(tmp_path)
    assert encoder.facts == {"vocab_size": 42, "blank": 0, "boundary": 1, "symbols": ["<pad>", "|", *CSJ_40]}
    assert report == {"num_symbols": 42}
    [ids] = encoder.encode(["秋、東京"])
    assert ids.dtype == np.uint8
    assert [encoder.vocabulary()[each] for each in ids.tolist()] == ["a", "k", "i", "|", "t", "o:", "ky", "o:"]
    assert modality("speech").vocabulary(tmp_path)[41] == "z"


def test_the_report_counts_what_occurs(tmp_path):
    keys = {"front_end": "given", "inventory": ["a", "b", "c"], "corpora": [{"corpus": "x"}]}
    _, report = fitted(tmp_path, ["a b | a"], ["a c c"], **keys)
    assert report["counts"] == {"a": 2, "b": 1, "c": 0}
    assert report["num_unseen_held_out"] == 2
    assert json.loads((tmp_path / "phonemes.json").read_text())["symbols"] == ["<pad>", "|", "a", "b", "c"]


def test_a_phoneme_outside_of_the_inventory_is_refused_by_name(tmp_path):
    encoder, _ = fitted(tmp_path, front_end="given", inventory=["a"])
    with pytest.raises(Refused, match="has q, which the inventory of the encoder lacks"):
        encoder.encode(["a | q"])


@pytest.mark.parametrize("inventory", [[], ["a", "a"], ["a", "|"], ["<pad>"], ["a b"], [""]])
def test_an_inventory_whose_symbols_cannot_be_told_apart_is_refused(inventory):
    with pytest.raises(ValueError, match="an inventory lists phonemes"):
        Phonemes.model_validate({"kind": "phonemes", "inventory": inventory})


EXAMPLE = {"text": "青、赤", "engine": {"kind": "openjtalk", "licence": "CC BY 3.0", "attribution": "Mei"}}


def test_a_voice_says_the_example_of_a_release(tmp_path):
    fitted(tmp_path, example=EXAMPLE)
    sound, rate = soundfile.read(tmp_path / "example.wav")
    assert (rate, sound.ndim) == (16_000, 1)
    assert 0.5 < len(sound) / rate < 4
    fitted(tmp_path / "again", example=EXAMPLE)
    assert (tmp_path / "again/example.wav").read_bytes() == (tmp_path / "example.wav").read_bytes()


def test_an_example_without_a_word_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"Nothing in example.text, '、', can be spoken"):
        fitted(tmp_path, example=EXAMPLE | {"text": "、"})
