"""Questions about the town's fixed facts, which also stand in its stories: every fact in every way of asking."""

import random
from collections.abc import Iterator
from dataclasses import replace

from components.generators import vocabulary as words
from components.generators.questions import NUMBERS, Question, near_numbers, pick, shuffled
from components.generators.town import Person, Shop, Town

NAMES = (*words.CHILDREN, *words.ADULTS, *words.ELDERS)
WARES = tuple(thing.name for things in words.WARES.values() for thing in things)
JOBS = (*(f"{kind}の店主" for kind in words.WARES), "先生", *words.JOBS)
GRADES = tuple(f"{grade}年生" for grade in "一二三四五六")
MOST_IN_A_SUM = 9

ASKS: dict[str, tuple[str, ...]] = {
    "home": (
        "{who}はどこに住んでいますか。",
        "{who}の家はどこにありますか。",
        "{who}さんのお住まいはどこですか。",
        "{who}の家の場所を教えてください。",
        "{who}さんはどこで暮らしていますか。",
        "{who}が住んでいるのはどこですか。",
        "{who}さんの家をたずねたいのですが、どこですか。",
        "どこへ行けば{who}の家がありますか。",
    ),
    "food": (
        "{who}の好きな食べ物は何ですか。",
        "{who}さんは何を食べるのが好きですか。",
        "{who}が大好きな食べ物を教えてください。",
        "{who}に食べ物をあげるなら、何が喜ばれますか。",
        "{who}さんの一番好きな料理は何でしょうか。",
        "何を食べると{who}は喜びますか。",
    ),
    "hobby": (
        "{who}の趣味は何ですか。",
        "{who}さんは休みの日に何を楽しみますか。",
        "{who}の趣味を教えてください。",
        "休みの日の{who}の楽しみは何ですか。",
        "{who}さんにはどんな趣味がありますか。",
        "{who}が好きなことは何でしょうか。",
    ),
    "job": (
        "{who}の仕事は何ですか。",
        "{who}さんは何の仕事をしていますか。",
        "{who}の職業を教えてください。",
        "{who}さんは何をして働いていますか。",
        "{who}はどんな仕事の人ですか。",
    ),
    "teacher": (
        "{who}の先生は誰ですか。",
        "{who}さんは誰に教わっていますか。",
        "{who}のクラスの先生の名前は何ですか。",
        "小学校で{who}を教えているのは誰ですか。",
        "{who}の先生を教えてください。",
    ),
    "grade": (
        "{who}は何年生ですか。",
        "{who}さんの学年を教えてください。",
        "小学校で{who}は何年生ですか。",
        "{who}の学年は何ですか。",
    ),
    "pet": (
        "{who}のペットは何ですか。",
        "{who}さんは何を飼っていますか。",
        "{who}が飼っている動物は何ですか。",
        "{who}の家にはどんな動物がいますか。",
        "{who}のペットを教えてください。",
    ),
    "closed": (
        "{shop}の休みはいつですか。",
        "{shop}は何曜日が休みですか。",
        "{shop}が閉まっているのは何曜日ですか。",
        "{shop}の休みの日を教えてください。",
        "{shop}は何曜日に店を休みますか。",
        "{shop}に行きたいのですが、休みは何曜日ですか。",
        "{shop}が開いていない曜日はいつですか。",
    ),
    "district": (
        "{shop}はどこにありますか。",
        "{shop}の場所を教えてください。",
        "{shop}へ行きたいです。どこですか。",
        "どこへ行けば{shop}がありますか。",
        "{shop}がある場所はどこですか。",
        "星見町の{shop}はどこですか。",
    ),
    "keeper": (
        "{shop}の店主は誰ですか。",
        "{shop}で働いているのは誰ですか。",
        "{shop}は誰の店ですか。",
        "{shop}の店主の名前を教えてください。",
        "{shop}を開いている人は誰ですか。",
        "誰が{shop}の店主ですか。",
    ),
    "opens": (
        "{shop}は午前何時に開きますか。",
        "{shop}が開くのは何時ですか。",
        "{shop}は朝の何時からですか。",
        "{shop}の開く時間を教えてください。",
        "何時になれば{shop}は開きますか。",
    ),
    "closes": (
        "{shop}は午後何時に閉まりますか。",
        "{shop}が閉まるのは何時ですか。",
        "{shop}は何時までですか。",
        "{shop}の閉まる時間を教えてください。",
        "何時まで{shop}は開いていますか。",
    ),
    "price": (
        "{ware}の値段はいくらですか。",
        "{ware}は一{counter}いくらですか。",
        "{ware}を一{counter}買うといくらですか。",
        "{ware}の値段を教えてください。",
        "いくらで{ware}を一{counter}買えますか。",
        "{shop}の{ware}はいくらですか。",
    ),
    "sold": (
        "{ware}はどの店で売っていますか。",
        "{ware}を買いたいです。どの店へ行けばいいですか。",
        "どこで{ware}を買えますか。",
        "{ware}を売っている店を教えてください。",
        "{ware}がほしいとき、何屋へ行きますか。",
    ),
    "dearer": (
        "{one}と{two}ではどちらが高いですか。",
        "{one}と{two}のうち、高いのはどちらですか。",
        "{shop}の{one}と{two}では、どちらの値段が高いですか。",
    ),
    "feast day": (
        "{feast}はいつですか。",
        "{feast}は何月何日にありますか。",
        "{feast}の日を教えてください。",
        "{feast}が開かれるのは何月何日ですか。",
    ),
    "feast place": (
        "{feast}はどこで開かれますか。",
        "{feast}の場所を教えてください。",
        "{feast}へ行きたいです。どこですか。",
        "どこへ行けば{feast}を見られますか。",
    ),
    "plus": (
        "{a}足す{b}はいくつですか。",
        "{a}に{b}を足すといくつですか。",
        "{a}と{b}を合わせるといくつですか。",
        "{a}足す{b}の答えを教えてください。",
    ),
}

Fact = tuple[str, dict[str, str], Question]
"""Key of ASKS, what its braces stand for, and a question without a prompt."""


def _fact(
    kind: str,
    frame: str,
    fact: str,
    values: tuple[str, ...] | str,
    subject: str,
    rivals: tuple[str, ...] = (),
    **parts: str,
) -> Fact:
    return kind, parts, Question("", frame, fact, values, subject, rivals)


def _of_person(person: Person, town: Town) -> Iterator[Fact]:
    who = person.name
    yield _fact("home", f"{who}は<>に住んで[いる|います]。", person.home, words.DISTRICTS, who, who=who)
    yield _fact("food", f"{who}の好きな食べ物は<>[だ|です]。", person.food, words.FOODS, who, who=who)
    yield _fact("hobby", f"{who}の趣味は<>[だ|です]。", person.hobby, words.HOBBIES, who, who=who)
    if person.group == "adult":
        yield _fact("job", f"{who}の仕事は<>[だ|です]。", person.job, JOBS, who, who=who)
    if person.group == "child":
        teachers = tuple(each.name for each in town.people if each.job == "先生")
        yield _fact("teacher", f"{who}の先生は<>[だ|です]。", person.teacher, teachers, who, who=who)
        yield _fact("grade", f"{who}は<>[だ|です]。", GRADES[person.age - 7], GRADES, who, who=who)
    if pet := person.pet:
        yield _fact("pet", f"{who}は<>を飼って[いる|います]。", pet.kind, tuple(words.PETS), who, who=who)


def _of_shop(shop: Shop, rng: random.Random) -> Iterator[Fact]:
    kind = shop.kind
    hours = tuple(f"{hour}時" for hour in range(5, 12))
    yield _fact("closed", f"{kind}の休みは<>[だ|です]。", shop.closed_on, words.WEEKDAYS, kind, shop=kind)
    yield _fact("district", f"{kind}は<>にあ[る|ります]。", shop.district, words.DISTRICTS, kind, shop=kind)
    yield _fact("keeper", f"{kind}の店主は<>[だ|です]。", shop.keeper, NAMES, kind, shop=kind)
    opens, closes = f"{shop.opens_hour}時", f"{shop.closes_hour}時"
    yield _fact("opens", f"{kind}は午前<>に開[く|きます]。", opens, NUMBERS, kind, hours, shop=kind)
    yield _fact("closes", f"{kind}は午後<>に閉ま[る|ります]。", closes, NUMBERS, kind, hours, shop=kind)
    yield from _of_wares(shop, rng)


def _of_wares(shop: Shop, rng: random.Random) -> Iterator[Fact]:
    for thing in shop.wares:
        name = thing.name
        parts = {"ware": name, "counter": thing.counter, "shop": shop.kind}
        price, near = f"{thing.price_yen}円", near_numbers(rng, thing.price_yen, "円")
        yield _fact("price", f"{name}は一{thing.counter}<>[だ|です]。", price, NUMBERS, name, near, **parts)
        yield _fact("sold", f"{name}は<>で売って[いる|います]。", shop.kind, tuple(words.WARES), name, (), **parts)
    for one in shop.wares:
        for two in shop.wares:
            if one.price_yen != two.price_yen:
                dear, cheap = (one, two) if one.price_yen > two.price_yen else (two, one)
                parts = {"one": one.name, "two": two.name, "shop": shop.kind}
                yield _fact("dearer", "<>のほうが高[い|いです]。", dear.name, WARES, "ほう", (cheap.name,), **parts)


def _of_the_town(rng: random.Random) -> Iterator[Fact]:
    dates = tuple(f"{feast.month}月{feast.day}日" for feast in words.FESTIVALS)
    places = tuple(dict.fromkeys(feast.place for feast in words.FESTIVALS))
    for feast in words.FESTIVALS:
        name, date = feast.name, f"{feast.month}月{feast.day}日"
        yield _fact("feast day", f"{name}は<>[だ|です]。", date, NUMBERS, name, dates, feast=name)
        yield _fact("feast place", f"{name}は<>で開かれ[る|ます]。", feast.place, places, name, feast=name)
    for a in range(1, MOST_IN_A_SUM + 1):
        for b in range(1, MOST_IN_A_SUM + 1):
            frame, near = f"{a}足す{b}は<>[だ|です]。", near_numbers(rng, a + b)
            yield _fact("plus", frame, str(a + b), NUMBERS, "足す", near, a=str(a), b=str(b))


ADDRESSES = ("", "すみません。", "あの、", "質問です。", "一つ聞きます。", "教えてほしいです。")
"""What people say before they ask."""
LIMITS = {"dearer": 700}
"""Kinds of which only so many questions are taken, since there would be too many."""

OPENINGS = (
    ("{name}について教えてください。", "はい、何を知りたいですか。"),
    ("{name}のことを聞きたいです。", "はい、どうぞ。"),
    ("{name}を知っていますか。", "はい、知っています。"),
)
FOLLOW_UPS = {
    "home": ("家はどこですか。", "どこに住んでいますか。"),
    "food": ("好きな食べ物は何ですか。",),
    "hobby": ("趣味は何ですか。",),
    "job": ("仕事は何ですか。",),
    "closed": ("休みはいつですか。", "何曜日が休みですか。"),
    "district": ("場所はどこですか。", "どこにありますか。"),
    "keeper": ("店主は誰ですか。",),
}


def facts(town: Town, rng: random.Random) -> list[Fact]:
    """All facts of the town that are asked for."""
    found = [fact for person in town.people for fact in _of_person(person, town)]
    found += [fact for shop in town.shops for fact in _of_shop(shop, rng)]
    return found + list(_of_the_town(rng))


def fact_questions(known: list[Fact], rng: random.Random) -> list[Question]:
    """Every fact in every way of asking, in random order; of the kinds in LIMITS some."""
    by_kind: dict[str, list[Question]] = {}
    for kind, parts, question in known:
        for ask in ASKS[kind]:
            asked = [_asked(question, address + ask.format(**parts)) for address in ADDRESSES]
            by_kind.setdefault(kind, []).extend(asked)
    kept = [shuffled(rng, questions)[: LIMITS.get(kind)] for kind, questions in by_kind.items()]
    return shuffled(rng, [question for questions in kept for question in questions])


def follow_ups(known: list[Fact], rng: random.Random) -> list[Question]:
    """Questions that name nobody, since the turn before does."""
    found = []
    for kind, parts, question in known:
        for ask in FOLLOW_UPS.get(kind, ()):
            user, assistant = pick(rng, OPENINGS)
            name = f"{parts['who']}さん" if "who" in parts else parts["shop"]
            found.append(_asked(question, ask, (user.format(name=name), assistant)))
    return shuffled(rng, found)


def _asked(question: Question, prompt: str, before: tuple[str, ...] = ()) -> Question:
    return replace(question, prompt=prompt, before=before)
