"""Questions about a small situation that the question itself tells: they are answered by reading, not by heart."""

import random
from collections.abc import Callable

from components.generators import vocabulary as words
from components.generators.asking import NAMES, WARES
from components.generators.page import count
from components.generators.questions import KANJI_NUMBERS, Question, different, pick

COLOURS = tuple(colour.noun for colour in words.COLOURS)
BEFORE_NOUNS = tuple(colour.before_noun for colour in words.COLOURS)
DAYS = words.WEEKDAYS
SWEETS = tuple(thing for kind in ("果物屋", "パン屋", "菓子屋") for thing in words.WARES[kind])


def _names(rng: random.Random, number: int) -> list[str]:
    return different(rng, NAMES, number)


def _near(number: int, counter: str = "") -> tuple[str, ...]:
    """Counts that are a little off."""
    near = [each for each in (number - 1, number + 1, number - 2, number + 2) if each > 0]
    return tuple(words.counted(each, counter) for each in near)


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


def owners(rng: random.Random) -> Question:
    """Two persons own the same thing in two colours; which colour, whose thing."""
    people = _names(rng, 2)
    thing = pick(rng, words.BELONGINGS)
    colours = different(rng, thing.colours, 2)
    named = [colour.before_noun + thing.name for colour in colours]
    story = pick(
        rng,
        (
            f"{people[0]}の{thing.name}は{colours[0].noun}、{people[1]}の{thing.name}は{colours[1].noun}です。",
            f"{people[0]}は{named[0]}を、{people[1]}は{named[1]}を持っています。",
        ),
    )
    asked = rng.randrange(2)
    who, colour = people[asked], colours[asked]
    if rng.randrange(2):
        asks = [f"{who}の{thing.name}は何色ですか。", f"{who}の{thing.name}の色を教えてください。"]
        frame = f"{who}の{thing.name}は<>[だ|です]。"
        return Question(story + pick(rng, asks), frame, colour.noun, COLOURS, who, (colours[1 - asked].noun, *COLOURS))
    what = named[asked]
    asks = [f"{what}は誰のものですか。", f"{what}を持っているのは誰ですか。", f"誰が{what}を持っていますか。"]
    frame = f"{what}を持っているのは<>[だ|です]。"
    return Question(story + pick(rng, asks), frame, who, NAMES, what, (people[1 - asked],))


def sharing(rng: random.Random) -> Question:
    """Somebody gives some away; how many are left."""
    giver, friend = _names(rng, 2)
    thing = pick(rng, SWEETS)
    had = 3 + rng.randrange(7)
    gave = 1 + rng.randrange(had - 1)
    story = pick(
        rng,
        (
            f"{giver}は{thing.name}を{count(had, thing)}持っていました。{friend}に{count(gave, thing)}あげました。",
            f"{giver}の家に{thing.name}が{count(had, thing)}ありました。{friend}が{count(gave, thing)}もらいました。",
        ),
    )
    asks = ["残りはいくつですか。", f"{thing.name}はいくつ残っていますか。", f"残った{thing.name}はいくつですか。"]
    left = had - gave
    return Question(
        story + pick(rng, asks), "残りは<>[だ|です]。", count(left, thing), KANJI_NUMBERS, "残り",
        _near(left, thing.counter),
    )  # fmt: skip


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


def seats(rng: random.Random) -> Question:
    """Three persons in a row; who sits where."""
    names = _names(rng, 3)
    where = pick(rng, ("公園のベンチ", "電車の席", "食堂の席", "教室の席", "バスの席"))
    story = pick(
        rng,
        (
            f"{where}に、左から{names[0]}、{names[1]}、{names[2]}の順に座っています。",
            f"三人が{where}に座っています。左が{names[0]}、真ん中が{names[1]}、右が{names[2]}です。",
        ),
    )
    asked = rng.randrange(3)
    side = ("左", "真ん中", "右")[asked]
    asks = [f"{side}は誰ですか。", f"{side}に座っているのは誰ですか。", f"誰が{side}にいますか。"]
    others = tuple(name for name in names if name != names[asked])
    return Question(story + pick(rng, asks), f"{side}は<>[だ|です]。", names[asked], NAMES, side, others)


def boxes(rng: random.Random) -> Question:
    """Two coloured boxes; what is in one of them, how many, in which."""
    colours = different(rng, words.COLOURS, 2)
    goods = different(rng, SWEETS, 2)
    numbers = [2 + rng.randrange(8) for _ in goods]
    box = [colour.before_noun + "箱" for colour in colours]
    many = [count(number, thing) for number, thing in zip(numbers, goods, strict=True)]
    story = pick(
        rng,
        (
            f"{box[0]}には{goods[0].name}が{many[0]}、{box[1]}には{goods[1].name}が{many[1]}入っています。",
            f"{goods[0].name}{many[0]}は{box[0]}に、{goods[1].name}{many[1]}は{box[1]}に入れました。",
        ),
    )
    asked = rng.randrange(2)
    thing, number = goods[asked], numbers[asked]
    kind = rng.randrange(3)
    if kind == 0:
        asks = [f"{thing.name}はいくつありますか。", f"{thing.name}の数を教えてください。"]
        frame = f"{thing.name}は<>あ[る|ります]。"
        return Question(
            story + pick(rng, asks), frame, many[asked], KANJI_NUMBERS, thing.name, _near(number, thing.counter)
        )
    if kind == 1:
        asks = [f"{thing.name}は何色の箱にありますか。", f"{thing.name}が入っているのは何色の箱ですか。"]
        frame = f"{thing.name}が入っているのは<>箱[だ|です]。"
        rivals = (colours[1 - asked].before_noun, *BEFORE_NOUNS)
        return Question(story + pick(rng, asks), frame, colours[asked].before_noun, BEFORE_NOUNS, thing.name, rivals)
    asks = [f"{box[asked]}には何が入っていますか。", f"{box[asked]}の中には何がありますか。"]
    frame = f"{box[asked]}には<>が入って[いる|います]。"
    return Question(story + pick(rng, asks), frame, thing.name, WARES, "箱", (goods[1 - asked].name,))


def lending(rng: random.Random) -> Question:
    """A thing is lent; who lent it, who has it, on what day."""
    lender, borrower = _names(rng, 2)
    thing = pick(rng, words.BELONGINGS).name
    day = pick(rng, DAYS)
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
    return Question(story + pick(rng, asks), "それは<>[だった|でした]。", day, DAYS, "それ")


def gathering(rng: random.Random) -> Question:
    """Some more come; how many are there now."""
    kinds = (
        ("あひる", "羽", "池"),
        ("すずめ", "羽", "木の枝"),
        ("子ども", "人", "公園"),
        ("客", "人", "食堂"),
        ("鹿", "頭", "森"),
    )
    noun, counter, place = pick(rng, kinds)
    here, more = 2 + rng.randrange(8), 1 + rng.randrange(8)
    first, second, total = (words.counted(each, counter) for each in (here, more, here + more))
    story = pick(
        rng,
        (
            f"{place}に{noun}が{first}いました。そこへ{second}来ました。",
            f"{place}には{noun}が{first}います。あとから{second}来ました。",
        ),
    )
    asks = ["全部で何" + counter + "ですか。", f"{noun}は全部でいくつですか。", f"今、{noun}は何{counter}いますか。"]
    return Question(
        story + pick(rng, asks), "全部で<>[だ|です]。", total, KANJI_NUMBERS, "全部", _near(here + more, counter)
    )


def picture(rng: random.Random) -> Question:
    """A picture of two shapes; colour, number or side of one."""
    shapes = different(rng, words.SHAPES, 2)
    colours = different(rng, words.PAINTS, 2)
    numbers = [1 + rng.randrange(5) for _ in shapes]
    sides = pick(rng, (("左", "右"), ("上", "下")))
    many = [words.DIGITS[number] + "つ" for number in numbers]
    parts = [f"{sides[n]}に{colours[n].before_noun}{shapes[n]}が{many[n]}" for n in (0, 1)]
    story = pick(rng, ("絵には、", "絵をかきました。", "")) + "、".join(parts) + "あります。"
    asked = rng.randrange(2)
    shape = shapes[asked]
    kind = rng.randrange(3)
    if kind == 0:
        asks = [f"{shape}は何色ですか。", f"{shape}の色は何ですか。"]
        rivals = (colours[1 - asked].noun, *COLOURS)
        return Question(story + pick(rng, asks), f"{shape}は<>[だ|です]。", colours[asked].noun, COLOURS, shape, rivals)
    if kind == 1:
        asks = [f"{shape}はいくつありますか。", f"{shape}の数を教えてください。"]
        near = tuple(words.DIGITS[n] + "つ" for n in range(1, 6))
        return Question(story + pick(rng, asks), f"{shape}は<>あ[る|ります]。", many[asked], KANJI_NUMBERS, shape, near)
    asks = [f"{shape}はどちらにありますか。", f"{shape}があるのはどちらですか。"]
    frame = f"{shape}は<>にあ[る|ります]。"
    return Question(story + pick(rng, asks), frame, sides[asked], ("左", "右", "上", "下"), shape, (sides[1 - asked],))


KINDS: tuple[Callable[[random.Random], Question], ...] = (
    moved, owners, sharing, buyers, race, seats, boxes, lending, gathering, picture,
)  # fmt: skip


def situations(rng: random.Random, number: int) -> list[Question]:
    """So many situations, all different, each kind as often as the others."""
    found: dict[str, Question] = {}
    while len(found) < number:
        question = KINDS[len(found) % len(KINDS)](rng)
        found.setdefault(question.key, question)
    return list(found.values())


__all__ = ["KINDS", "situations"]
