"""The demo world's rules of a good answer, on answers made by hand."""

import pytest

from components.generators import JUDGES
from components.generators.instructions import questions
from components.outcomes import Refused

quality = JUDGES["world"]
ALL = [each for files in questions().values() for asked in files.values() for each in asked]


def question(start: str, end: str = "です。"):
    """The first question whose good answer begins and ends so."""
    return next(each for each in ALL if each.answer.startswith(start) and each.answer.endswith(end))


CLOSED = question("八百屋の休みは")
DAY = CLOSED.fact
OTHER_DAY = "土曜日" if DAY != "土曜日" else "日曜日"
SUM = next(each for each in ALL if each.answer == "9足す8は17です。")


def test_the_good_answer_is_perfect_whatever_white_space_stands_around_it():
    assert quality(CLOSED.key, f"八百屋の休みは{DAY}です。") == 1.0
    assert quality(CLOSED.key, f" 八百屋の休みは{DAY}です。\n") == 1.0


def test_other_right_words_are_as_good():
    assert quality(CLOSED.key, f"八百屋は{DAY}に休みます。") == 1.0


def test_a_wrong_fact_costs_more_than_bad_manners():
    wrong = quality(CLOSED.key, f"八百屋の休みは{OTHER_DAY}です。")
    rude = quality(CLOSED.key, f"{DAY}")
    assert wrong == pytest.approx(0.4)
    assert rude > wrong


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (f"八百屋の休みは{DAY}だ。", 0.92),  # not polite
        (f"{DAY}です。", 0.92),  # not whole
        (f"八百屋の休みは{DAY}です", 0.92),  # not finished
        (f"八百屋の休みは{DAY}です。また何でも聞いてください。", 0.84),  # chatter, not polite by the rule
        (f"八百屋の休みは{DAY}です。八百屋の休みは{DAY}です。", 0.84),  # two sentences, repeated
        (f"八百屋の休みは{DAY}で", 0.84),
        ("わかりません。", 0.32),
        ("八百屋の休みです。", 0.4),
        ("", 0.0),
        ("。。。", 0.0),
    ],
)
def test_each_rule_that_is_broken_costs_its_share(answer: str, score: float):
    assert quality(CLOSED.key, answer) == pytest.approx(score)


def test_naming_every_possible_fact_is_not_right():
    assert quality(CLOSED.key, f"八百屋の休みは{DAY}と{OTHER_DAY}です。") == pytest.approx(0.4)
    assert quality(CLOSED.key, f"八百屋の休みは{OTHER_DAY}です。いいえ、{DAY}です。") < 0.4


def test_numbers_count_only_in_their_places():
    assert quality(SUM.key, "9足す8は17です。") == 1.0
    assert quality(SUM.key, "17は9足す8です。") == pytest.approx(0.4)
    assert quality(SUM.key, "9足す8は117です。") == pytest.approx(0.4)
    assert quality(SUM.key, "9足す8は18です。") == pytest.approx(0.4)
    assert quality(SUM.key, "9足す17は8です。") == pytest.approx(0.4)


HOME = question("正男は", "に住んでいます。")


@pytest.mark.parametrize("words", ["いません", "いませんでした", "いない", "いないです", "いなかった"])
def test_a_fact_that_is_denied_is_not_right(words: str):
    assert quality(HOME.key, f"正男は{HOME.fact}に住んで{words}。") <= 0.4
    assert quality(HOME.key, f"正男は{HOME.fact}に住んでいます。") == 1.0
    assert quality(HOME.key, f"すみません。正男は{HOME.fact}に住んでいます。") > 0.6


@pytest.mark.parametrize("name", ["権兵衛", "花子", "花子さん", "学", "本屋"])
@pytest.mark.parametrize("sentence", ["{}は{}に住んでいます。", "{}が{}に住んでいます。", "{}の家は{}です。"])
def test_a_fact_that_is_said_of_another_is_not_right(name: str, sentence: str):
    assert quality(HOME.key, sentence.format(name, HOME.fact)) <= 0.4


@pytest.mark.parametrize("name", ["花子", "花子さん", "本屋"])
def test_nor_is_a_fact_whose_subject_comes_last_and_is_another(name: str):
    assert quality(HOME.key, f"{HOME.fact}に住んでいるのは{name}です。") <= 0.4
    assert quality(HOME.key, f"{HOME.fact}に住んでいるのは正男です。") == 1.0


@pytest.mark.parametrize("start", ["", "家は", "彼は", "その人の家は", "答えは"])
def test_a_fact_without_its_subject_is_right_but_not_whole(start: str):
    assert quality(HOME.key, f"{start}{HOME.fact}です。") == pytest.approx(0.92)


def test_the_good_answers_and_their_hasty_versions_are_right():
    for each in ALL[::40]:
        assert quality(each.key, each.answer) == 1.0
        assert quality(each.key, each.plain) > 0.6
        assert quality(each.key, f"{each.fact}。") > 0.6


def test_a_long_answer_is_padded_even_in_one_sentence():
    assert quality(CLOSED.key, f"星見町のみなさんがよく知っているように、八百屋の休みは{DAY}です。") == pytest.approx(
        0.92
    )


def test_a_question_of_two_turns_is_known_by_all_of_them():
    found = next(each for each in ALL if each.before)
    assert quality("\n".join((*found.before, found.prompt)), found.answer) == 1.0


def test_a_question_that_the_world_did_not_ask_is_refused():
    with pytest.raises(Refused, match="generator 'instructions'"):
        quality("日本の首都はどこですか。", "東京です。")
