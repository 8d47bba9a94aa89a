"""The demo world's own rules of a good answer: nothing learnt, so no model can talk its way around them.

A good answer states the right fact and no wrong one (FACT of the score), and for an equal part of the rest each: it is
whole (it names what was asked about), polite, finished, one sentence without padding, and repeats nothing.
"""

import re
from functools import cache

from components.generators.instructions import questions
from components.generators.questions import NUMBERS, Question
from components.outcomes import Refused

FACT = 0.6
MOST_LONGER = 1.5
"""An answer this many times as long as the good one is padded."""
REPEATED_CHARS = 5
"""A stretch of so many characters that comes twice is a repetition, unless the good answer has it too."""
_DENIED = re.compile(r"(?<!すみ)(?:ません(?:でした)?|ないです|ない|なかったです|なかった)[\s!?、！？]*$")
"""Ends of a sentence that says of its fact that it is not so; no good answer ends like this."""
_POINTING = ("こちら", "これ", "この", "ここ", "そちら", "それ", "その", "そこ", "彼", "答え", "正解", "はい", "いいえ")
"""Words that a sentence may have in the place of its subject."""
_POLITE = ("です", "ます", "でした", "ました", "ません", "でしょう")


def quality(prompt: str, answer: str) -> float:
    """How good an answer is, from 0 to 1.

    Args:
        prompt: a question that the world's generator wrote; of several turns, all before the answer, a line each.
        answer: what is judged.

    Raises:
        Refused: the world does not know the question.
    """
    found = _by_key().get(prompt)
    if found is None:
        raise Refused(
            f"The demo world does not know the question {prompt[:80]!r}, so it cannot judge an answer to it. Name a "
            "corpus that its generator 'instructions' wrote under the task's key 'corpus', or take the task out."
        )
    return FACT * _is_right(found, answer) + (1 - FACT) * _manner(found, answer.strip())


@cache
def _by_key() -> dict[str, Question]:
    return {each.key: each for files in questions().values() for asked in files.values() for each in asked}


def _sentences(text: str) -> list[str]:
    return [each for each in text.split("。") if each.strip()]


def _is_right(question: Question, answer: str) -> bool:
    """Whether a sentence states the fact, none denies it or says it of something else, and none states another.

    The values that a sentence names must stand in the good answer in the same order: 12足す17は5です has its numbers
    in other places.
    """
    with_fact = [each.strip() for each in _sentences(answer) if question.fact in each]
    if any(_DENIED.search(each) or _is_of_another(question, each) for each in with_fact):
        return False
    pattern = _pattern(question.values)
    good, fact = pattern.findall(question.answer), pattern.findall(question.fact)
    named = [found for found in map(pattern.findall, _sentences(answer)) if found]
    states = any(found[start : start + len(fact)] == fact for found in named for start in range(len(found)))
    return states and question.fact in answer and all(_is_within(found, good) for found in named)


def _is_of_another(question: Question, sentence: str) -> bool:
    """Whether a sentence lacks the subject and names another: one that the question has not, or a word of no question.

    A sentence that names none, as the fact alone, is of the right one.
    """
    if question.subject in sentence:
        return False
    rest = sentence.replace(question.fact, "")
    if any(name not in question.key for name in _subjects().findall(rest)):
        return True
    topic, mark, _ = rest.partition("は")
    if not mark:
        topic, mark, _ = rest.partition("が")
    topic = topic.rpartition("、")[2].strip()
    # 高いのは: a clause, and no name.
    known = not topic or topic.endswith("の") or topic.startswith(_POINTING) or re.search(r"\d", topic)
    return bool(mark) and not known and topic not in _all_words()


@cache
def _subjects() -> re.Pattern[str]:
    """Finds what the world's questions are about, where a sentence can name it: no part of a longer word."""
    names = sorted({each.subject for each in _by_key().values()}, key=lambda name: (-len(name), name))
    either = "|".join(map(re.escape, names))
    return re.compile(rf"(?<![\u3005\u30a0-\u30ff\u4e00-\u9fff])({either})(?=さん|[はがのもをで、]|$)")


@cache
def _all_words() -> str:
    return "\n".join(word for each in _by_key().values() for word in (each.key, each.answer))


def _is_within(few: list[str], many: list[str]) -> bool:
    """Whether they stand in the other list in the same order."""
    rest = iter(many)
    return all(each in rest for each in few)


@cache
def _pattern(values: tuple[str, ...] | str) -> re.Pattern[str]:
    """Finds values of a kind: the longest that stands at a place."""
    if values == NUMBERS:
        return re.compile(r"\d+")
    return re.compile("|".join(map(re.escape, sorted(values, key=lambda value: (-len(value), value)))))


def _manner(question: Question, answer: str) -> float:
    """The share of the other rules that are kept; an answer without words keeps none."""
    sentences = _sentences(answer)
    if not sentences:
        return 0.0
    kept = (
        question.subject in answer,
        all(each.endswith(_POLITE) for each in sentences),
        answer.endswith("。"),
        len(sentences) == 1 and len(answer) <= MOST_LONGER * len(question.answer),
        not _repeats(answer, question.answer),
    )
    return sum(kept) / len(kept)


def _repeats(answer: str, good: str) -> bool:
    stretches = [answer[place : place + REPEATED_CHARS] for place in range(len(answer) - REPEATED_CHARS + 1)]
    return any(answer.count(each) > max(1, good.count(each)) for each in stretches)
