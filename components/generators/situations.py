"""Questions about a small situation that the question itself tells: they are answered by reading, not by heart."""

import random
from collections.abc import Callable

from components.generators import vocabulary as words
from components.generators.asking import NAMES, WARES
from components.generators.questions import Question, different, pick


def _names(rng: random.Random, number: int) -> list[str]:
    return different(rng, NAMES, number)


def moved(rng: random.Random) -> Question:
    """A thing is put down and moved; where is it, where was it, who moved it."""
    owner, mover = _names(rng, 2)
    thing = pick(rng, words.BELONGINGS)
    named = pick(rng, thing.colours).before_noun + thing.name
    before, after = different(rng, words.PLACES, 2)
    story = pick(
        rng,
        (
            f"{owner}は{named}を{before}に置きました。{mover}がそれを{after}へ動かしました。",
            f"{owner}が{before}に置いた{named}を、{mover}が{after}に移しました。",
            f"{named}は{before}にありましたが、{mover}が{after}にしまいました。",
        ),
    )
    kind = rng.randrange(4)
    if kind == 0:
        asks = [f"{thing.name}を動かしたのは誰ですか。", f"誰が{thing.name}を動かしましたか。"]
        frame = f"{thing.name}を動かしたのは<>[だ|です]。"
        return Question(story + pick(rng, asks), frame, mover, NAMES, thing.name, (owner,))
    if kind == 1:
        asks = [f"{thing.name}ははじめどこにありましたか。", f"はじめ、{thing.name}はどこにありましたか。"]
        frame = f"{thing.name}ははじめ<>にあ[った|りました]。"
        return Question(story + pick(rng, asks), frame, before, words.PLACES, thing.name, (after, *words.PLACES))
    asks = [
        f"{thing.name}は今どこにありますか。",
        f"今、{thing.name}はどこですか。",
        f"{thing.name}はどこへ行けば見つかりますか。",
    ]
    frame = f"{thing.name}は<>にあ[る|ります]。"
    return Question(story + pick(rng, asks), frame, after, words.PLACES, thing.name, (before, *words.PLACES))


def buyers(rng: random.Random) -> Question:
    """Two persons buy one thing each; who bought what."""
    people = _names(rng, 2)
    wares = different(rng, words.WARES[pick(rng, list(words.WARES))], 2)
    names = [ware.name for ware in wares]
    story = pick(
        rng,
        (
            f"{people[0]}は{names[0]}を、{people[1]}は{names[1]}を買いました。",
            f"{people[0]}が買ったのは{names[0]}で、{people[1]}が買ったのは{names[1]}です。",
            f"店で{people[0]}は{names[0]}を選び、{people[1]}は{names[1]}を選びました。",
        ),
    )
    asked = rng.randrange(2)
    who, what = people[asked], names[asked]
    if rng.randrange(2):
        asks = [f"{what}を買ったのは誰ですか。", f"誰が{what}を買いましたか。"]
        frame = f"{what}を買ったのは<>[だ|です]。"
        return Question(story + pick(rng, asks), frame, who, NAMES, what, (people[1 - asked],))
    asks = [f"{who}が買ったのは何ですか。", f"{who}は何を買いましたか。"]
    frame = f"{who}が買ったのは<>[だ|です]。"
    return Question(story + pick(rng, asks), frame, what, WARES, who, (names[1 - asked],))


def race(rng: random.Random) -> Question:
    """Places of three runners; who came in where."""
    names = _names(rng, 3)
    event = pick(rng, ("かけっこ", "水泳大会", "マラソン大会", "自転車レース"))
    story = pick(
        rng,
        (
            f"{event}で、一位は{names[0]}、二位は{names[1]}、三位は{names[2]}でした。",
            f"{event}の結果は、{names[0]}、{names[1]}、{names[2]}の順でした。",
        ),
    )
    asked = rng.randrange(3)
    place = words.DIGITS[asked + 1] + "位"
    asks = [f"{place}は誰ですか。", f"{place}になったのは誰ですか。", f"誰が{place}でしたか。"]
    others = tuple(name for name in names if name != names[asked])
    return Question(story + pick(rng, asks), f"{place}は<>[だ|です]。", names[asked], NAMES, place, others)


def lending(rng: random.Random) -> Question:
    """A thing is lent; who lent it, who has it, on what day."""
    lender, borrower = _names(rng, 2)
    thing = pick(rng, words.BELONGINGS).name
    day = pick(rng, words.WEEKDAYS)
    story = pick(
        rng,
        (
            f"{day}に、{lender}は{borrower}に{thing}を貸しました。",
            f"{borrower}は{day}に{lender}から{thing}を借りました。",
        ),
    )
    kind = rng.randrange(3)
    if kind == 0:
        asks = [f"{thing}は誰のものですか。", f"{thing}の持ち主は誰ですか。"]
        return Question(story + pick(rng, asks), f"{thing}の持ち主は<>[だ|です]。", lender, NAMES, thing, (borrower,))
    if kind == 1:
        asks = [f"{thing}を借りたのは誰ですか。", f"誰が{thing}を借りましたか。"]
        frame = f"{thing}を借りたのは<>[だ|です]。"
        return Question(story + pick(rng, asks), frame, borrower, NAMES, thing, (lender,))
    asks = ["それは何曜日でしたか。", "何曜日のことですか。"]
    return Question(story + pick(rng, asks), "それは<>[だった|でした]。", day, words.WEEKDAYS, "それ")


KINDS: tuple[Callable[[random.Random], Question], ...] = (moved, buyers, race, lending)


def situations(rng: random.Random, number: int) -> list[Question]:
    """So many situations, all different, each kind as often as the others."""
    found: dict[str, Question] = {}
    while len(found) < number:
        question = KINDS[len(found) % len(KINDS)](rng)
        found.setdefault(question.key, question)
    return list(found.values())


__all__ = ["KINDS", "situations"]
