"""Captions, foils, labels, groups, flags and scenes: what becomes of raw fields, and what is said of clean ones."""

import json

import pytest

from components.modalities import Rejected, image
from components.modalities.image import checking, schema


def column(form, **more):
    return schema.Column.model_validate({"modality": "image", "form": form, **more})


def read(form, raw, **more):
    return image.reader(column(form, **more))(raw)


def test_captions_of_several_kinds_keep_their_order_and_come_once():
    fields = {"web": "alt", "generated": "blip"}
    value = read("captions", {"web": [" 赤い\n星 ", "星", "星"], "generated": "青い 丸"}, fields=fields)
    assert json.loads(value) == [["web", "赤い 星"], ["web", "星"], ["generated", "青い 丸"]]
    assert column("captions", fields=fields).raw_keys == fields
    assert column("captions", field="text").raw_keys == {"web": "text"}


def test_captions_in_other_words_are_the_same_captions():
    section = column("captions", fields={"web": "a", "generated": "b"})
    value = read("captions", {"web": ["a star", "a big star"], "generated": ["it shines"]})
    texts = image.texts_of(value, section)
    assert texts == ["a star", "a big star", "it shines"]
    parts = image.with_texts(value, section, ["星", "大きな星", "光る"])
    assert json.loads(image.reader(section)(parts)) == [["web", "星"], ["web", "大きな星"], ["generated", "光る"]]
    assert image.texts_of("x", column("label")) == []


def test_a_bad_caption_is_left_out_as_long_as_another_one_is_left():
    filters = {"min_chars": 3, "max_chars": 8, "min_japanese_share": 0.5}
    raw = {"web": ["星", "a red star", "とても長い説明がここにある", "壊れた\ufffd字", "赤い星"]}
    assert json.loads(read("captions", raw, filters=filters)) == [["web", "赤い星"]]
    for text, reason in (
        ("星", r"shorter than 3 characters \(filters\.min_chars\)"),
        ("長い" * 5, r"longer than 8 characters \(filters\.max_chars\)"),
        ("a star", "in another language: Japanese share under 0.5"),
        ("壊\ufffdれ", "marks of a wrong decoding"),
        ("  ", "empty"),
        (None, "empty"),
        (3, "not text but int"),
    ):
        with pytest.raises(Rejected, match=reason):
            read("captions", {"web": text}, filters=filters)


def test_a_record_may_have_no_foil():
    assert read("foils", {"order": None, "colour": ""}) == "[]"
    assert json.loads(read("foils", {"order": "右に星"})) == [["order", "右に星"]]
    assert column("foils").may_lack
    assert not column("captions").may_lack


def test_a_label_is_one_line_and_labels_are_a_list_of_them():
    assert read("label", {"label": " 赤い\t星 "}) == "赤い 星"
    assert read("label", {"label": 7}) == "7"
    assert read("labels", {"labels": ["丸", "星", "丸"]}) == '["丸", "星"]'
    assert read("labels", {"labels": '["丸"]'}) == '["丸"]'
    for form, raw in (("label", " "), ("label", None), ("labels", []), ("labels", "星"), ("labels", {"a": 1})):
        with pytest.raises(Rejected):
            read(form, {form: raw})


@pytest.mark.parametrize("raw", [True, "True", "unsafe", "NSFW", 1, "1"])
def test_what_is_flagged_is_a_reject(raw):
    with pytest.raises(Rejected, match="flagged as unsafe"):
        read("flag", {"unsafe": raw})


def test_flags_may_be_scores():
    assert [read("flag", {"unsafe": raw}) for raw in (False, None, "", "safe", 0)] == ["safe"] * 5
    assert read("flag", {"unsafe": "0.2"}, max_score=0.5) == "safe"
    for raw in (0.7, "nan", None, "x"):
        with pytest.raises(Rejected, match="max_score"):
            read("flag", {"unsafe": raw}, max_score=0.5)


def test_a_scene_is_written_in_one_way():
    assert read("scene", {"scene": {"b": [1], "a": "丸"}}) == read("scene", {"scene": '{"a": "丸", "b": [1]}'})
    for raw in ("{", "", {}, 3):
        with pytest.raises(Rejected):
            read("scene", {"scene": raw})


def test_a_group_keeps_its_records_in_one_split():
    assert image.prompt_of("g", column("group")) == "g"
    assert image.prompt_of("g", column("group", may_share_splits=True)) is None
    assert image.prompt_of("g", column("label")) is None


def test_a_key_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match="max_side_px: no key of a column of form 'captions'"):
        column("captions", max_side_px=100)
    with pytest.raises(ValueError, match="'field' and 'fields' name the same"):
        column("captions", field="a", fields={"web": "b"})


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["赤い星がある"], "ja"),
        (["東京駅"], "kanji"),
        (["a red star", "another"], "en"),
        (["красная звезда"], "other"),
        (["123"], "other"),
    ],
)
def test_facts_of_captions_tell_their_language(texts, language):
    facts = checking.check(json.dumps([["web", text] for text in texts]), column("captions"))
    assert facts["language"] == language
    assert (facts["num_texts"], facts["kinds"]) == (len(texts), "web")
    assert facts["num_chars"] == sum(map(len, texts))
    assert (facts["shortest_chars"], facts["longest_chars"]) == (min(map(len, texts)), max(map(len, texts)))


def test_the_same_captions_in_another_order_have_one_digest():
    pairs = [["web", "星"], ["generated", "赤い星"]]
    one, other = (checking.check(json.dumps(each), column("captions")) for each in (pairs, pairs[::-1]))
    assert one["digest"] == other["digest"]
    assert checking.check("[]", column("foils")) == {"num_texts": 0, "kinds": "none"}


def test_what_is_expected_can_be_turned_off():
    def kinds(form, language="ja", **wanted):
        rows = checking.expectations("c", column(form, expectations=wanted), language)
        return [arguments["column"] for _, arguments in rows]

    assert kinds("picture") == ["c_short_side_px", "c_aspect", "c_look_digest"]
    assert kinds("picture", unique_mostly=0) == ["c_short_side_px", "c_aspect"]
    assert kinds("captions") == ["c_shortest_chars", "c_language"]
    assert kinds("captions", language_mostly=0, max_chars=9, unique_captions_mostly=0.9) == [
        "c_shortest_chars",
        "c_longest_chars",
        "c_digest",
    ]
    assert kinds("captions", language="de") == ["c_shortest_chars"]
