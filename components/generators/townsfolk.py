"""Documents about the people and customs of the town; what they say of a person or shop never changes."""

from components.generators import vocabulary as words
from components.generators.page import Page
from components.generators.town import Person

GRADES = "一二三四五六"


def _grade(child: Person) -> str:
    """The school year of a child of seven to twelve."""
    return GRADES[child.age - 7] + "年生"


def _job_sentence(page: Page, person: Person) -> None:
    """What somebody does, from the town's facts."""
    if person.group == "child":
        page.say(
            f"小学校の{_grade(person)}で、先生は{person.teacher}[だ|です]。",
            f"{person.name}は{_grade(person)}で、{person.teacher}先生に教わって[いる|います]。",
        )
    elif person.group == "elder":
        page.say(f"昔は{person.job}[だった|でした]。", f"若いころは{person.job}として働いて[いた|いました]。")
    elif person.workplace in words.WARES:
        page.say(
            f"{person.name}は{person.workplace}の店主[だ|です]。",
            f"{person.workplace}を開いて[いる|います]。",
        )
    else:
        page.say(
            f"{person.name}の仕事は{person.job}[だ|です]。",
            f"{person.job}として{person.workplace}で働いて[いる|います]。",
        )


def _other_sentences(page: Page, person: Person) -> list[tuple[str, ...]]:
    """Variants of each other fact about somebody."""
    month, day = person.birthday
    friend = page.town.person(person.friend)
    sentences: list[tuple[str, ...]] = [
        (f"好きな食べ物は{person.food}[だ|です]。", f"{person.name}は{person.food}が大好き[だ|です]。"),
        (f"趣味は{person.hobby}[だ|です]。", f"休みの日には{person.hobby}を楽しんで[いる|います]。"),
        (f"誕生日は{month}月{day}日[だ|です]。", f"{person.name}は{month}月{day}日に生まれ[た|ました]。"),
        (
            f"一番の友達は{friend.home}に住む{friend.name}[だ|です]。",
            f"{friend.name}と仲がよく、{friend.name}の家は{friend.home}にあ[る|ります]。",
        ),
    ]
    if person.pet:
        pet = person.pet
        sentences.append(
            (
                f"{pet.name}という{pet.colour.before_noun}{pet.kind}を飼って[いる|います]。",
                f"家には{pet.colour.before_noun}{pet.kind}がい[る|ます]。名前は{pet.name}[だ|です]。",
            )
        )
    return sentences


def introduction(page: Page) -> None:
    """Who somebody is, in third person."""
    [person] = page.people(1)
    page.say(
        f"{person.name}は{person.home}に住んで[いる|います]。",
        f"{person.name}は{person.age}歳で、{person.home}に住んで[いる|います]。",
        f"{words.TOWN}の{person.home}に、{person.name}という人が住んで[いる|います]。",
    )
    _job_sentence(page, person)
    others = _other_sentences(page, person)
    for variants in page.pick_distinct(others, page.number(2, len(others))):
        page.say(*variants)


def greeting(page: Page) -> None:
    """Somebody introduces himself to another, who repeats a fact."""
    speaker, listener = page.people(2)
    page.say(
        f"{listener.name}は道で{speaker.name}に会[った|いました]。",
        f"{page.pick(words.SIGHTS)}の前で、{speaker.name}と{listener.name}が話して[いる|います]。",
    )
    month, day = speaker.birthday
    topics = [
        ("お住まいはどちらですか", f"{speaker.home}です", f"{speaker.name}の家は{speaker.home}にある"),
        ("好きな食べ物は何ですか", f"{speaker.food}です", f"{speaker.name}は{speaker.food}が好きだ"),
        ("誕生日はいつですか", f"{month}月{day}日です", f"{speaker.name}の誕生日は{month}月{day}日だ"),
        ("趣味は何ですか", f"{speaker.hobby}です", f"{speaker.name}の趣味は{speaker.hobby}だ"),
        ("おいくつですか", f"{speaker.age}歳です", f"{speaker.name}は{speaker.age}歳だ"),
    ]
    if speaker.pet:
        pet = speaker.pet
        topics.append(
            ("ペットはいますか", f"{pet.kind}の{pet.name}がいます", f"{speaker.name}は{pet.kind}を飼っている")
        )
    learnt = []
    for question, answer, fact in page.pick_distinct(topics, page.number(2, 3)):
        page.say(
            f"「{speaker.name}さん、{question}」と聞かれて、{speaker.name}は「{answer}」と答え[た|ました]。",
            f"「{question}」と{listener.name}が聞くと、{speaker.name}は「{answer}」と答え[た|ました]。",
            f"{listener.name}が「{question}」と聞[いた|きました]。{speaker.name}は「{answer}」と言[った|いました]。",
        )
        learnt.append(fact)
    page.say(
        f"{page.pick(learnt)}ということが{listener.name}にわか[った|りました]。",
        f"{page.pick(learnt)}と、{listener.name}は知[った|りました]。",
    )


def neighbours(page: Page) -> None:
    """Where two persons live, and whether that is the same district."""
    one, two = page.people(2)
    if page.number(0, 2) == 0:
        same = [person for person in page.town.people if person.home == one.home and person is not one]
        two = page.pick(same) if same else two
    if one.home == two.home:
        page.say(
            f"{one.name}の家も{two.name}の家も{one.home}にあ[る|ります]。二人は近所[だ|です]。",
            f"{one.name}と{two.name}は二人とも{one.home}に住んで[いる|います]。",
        )
        page.maybe(50, "家が近いので、二人は朝よく顔を合わせ[る|ます]。")
    else:
        page.say(
            f"{one.name}の家は{one.home}にあ[る|ります]。{two.name}の家は{two.home}にあ[る|ります]。",
            f"{one.name}は{one.home}に、{two.name}は{two.home}に住んで[いる|います]。",
        )
        page.say(
            "二人の家は離れて[いる|います]。",
            f"{one.name}は{two.home}へ行くとき、{two.name}の家に寄[る|ります]。",
        )
    older, younger = (one, two) if one.age > two.age else (two, one)
    if older.age == younger.age:
        page.say(f"{one.name}も{two.name}も{one.age}歳[だ|です]。", f"二人は同い年で、{one.age}歳[だ|です]。")
    else:
        page.say(f"{one.name}は{one.age}歳で、{two.name}は{two.age}歳[だ|です]。")
        page.say(
            f"{older.name}のほうが{older.age - younger.age}歳年上[だ|です]。",
            f"{younger.name}のほうが{older.age - younger.age}歳若[い|いです]。",
        )
    page.maybe(
        50,
        f"{one.name}は{one.food}が好きで、{two.name}は{two.food}が好き[だ|です]。",
        f"{one.name}の趣味は{one.hobby}、{two.name}の趣味は{two.hobby}[だ|です]。",
    )


def shop_guide(page: Page) -> None:
    """Place, keeper, hours and prices of a shop."""
    shop = page.pick(page.town.shops)
    first, second, third = page.pick_distinct(shop.wares, 3)
    page.say(
        f"{words.TOWN}の{shop.kind}は{shop.district}にあ[る|ります]。",
        f"{shop.district}に{shop.kind}があ[る|ります]。",
    )
    page.say(f"店主は{shop.keeper}[だ|です]。", f"店で働いているのは{shop.keeper}[だ|です]。")
    page.say(
        f"午前{shop.opens_hour}時に開いて、午後{shop.closes_hour}時に閉ま[る|ります]。休みは{shop.closed_on}[だ|です]。",
        f"{shop.closed_on}は休みで、ほかの日は午前{shop.opens_hour}時から午後{shop.closes_hour}時まで開いて[いる|います]。",
    )
    page.say(
        f"{first.name}は一{first.counter}{first.price_yen}円、{second.name}は一{second.counter}{second.price_yen}円[だ|です]。",
        f"{first.name}や{second.name}を売って[いる|います]。{first.name}の値段は{first.price_yen}円[だ|です]。",
    )
    page.maybe(50, f"{third.name}なら{third.price_yen}円で買え[る|ます]。")
    dear, cheap = (first, second) if first.price_yen > second.price_yen else (second, first)
    page.say(
        f"{dear.name}は{cheap.name}より高[い|いです]。",
        f"{shop.keeper}の店では{cheap.name}のほうが{dear.name}より安[い|いです]。",
        f"{first.name}と{second.name}を一つずつ買うと{first.price_yen + second.price_yen}円にな[る|ります]。",
    )


def festival(page: Page) -> None:
    """A visit to a festival; its day, place and custom never change."""
    feast = page.pick(words.FESTIVALS)
    first, second = page.people(2)
    number, price = page.number(2, 5), 10 * page.number(8, 30)
    page.say(
        f"{feast.month}月{feast.day}日は{feast.name}[だ|です]。",
        f"{words.TOWN}では毎年{feast.month}月{feast.day}日に{feast.name}があ[る|ります]。",
    )
    page.say(
        f"{first.name}は{second.name}と{feast.place}へ行[った|きました]。",
        f"{first.name}と{second.name}は{feast.place}で待ち合わせをし[た|ました]。",
    )
    page.say(f"二人は{feast.custom[page.polite]}。")
    amount, total = words.DIGITS[number] + "つ", number * price
    page.say(
        f"{first.name}は一つ{price}円の{feast.food}を{amount}買い、{total}円払[った|いました]。",
        f"{feast.food}は一つ{price}円で、{first.name}が{amount}買ったので{total}円[だった|でした]。",
    )
    page.say(
        f"{second.name}は{feast.food}を一つもら[った|いました]。残りは{words.DIGITS[number - 1]}つ[だ|です]。",
        f"「{feast.name}は楽しいですね」と{second.name}が言[った|いました]。",
        f"{second.name}も{feast.food}を食べて喜[んだ|びました]。",
    )
    page.maybe(50, f"来年の{feast.name}も{feast.month}月{feast.day}日に{feast.place}で開かれ[る|ます]。")


def school_test(page: Page) -> None:
    """Two pupils' marks; who did better and what the marks add up to."""
    one, two = page.people(2, "child")
    subject, other = page.pick_distinct(words.SUBJECTS, 2)
    first, second, third = (5 * page.number(8, 20) for _ in range(3))
    page.say(
        f"{one.name}と{two.name}は{one.teacher}先生のクラス[だ|です]。"
        if one.teacher == two.teacher
        else f"{one.name}は{one.teacher}先生のクラスで、{two.name}は{two.teacher}先生のクラス[だ|です]。",
        f"{one.name}は{_grade(one)}で、{two.name}は{_grade(two)}[だ|です]。",
    )
    page.say(
        f"{subject}のテストで、{one.name}は{first}点、{two.name}は{second}点[だった|でした]。",
        f"{subject}のテストが返って[きた|きました]。{one.name}は{first}点で、{two.name}は{second}点[だ|です]。",
    )
    if first == second:
        page.say(f"二人とも{first}点[だった|でした]。")
    else:
        high, low = (one, two) if first > second else (two, one)
        page.say(
            f"{high.name}のほうが{abs(first - second)}点高[い|いです]。",
            f"点が高かったのは{high.name}[だ|です]。",
            f"{low.name}は「次は{high.name}さんに負けません」と言[った|いました]。",
        )
    page.say(
        f"{one.name}の{other}は{third}点だったので、{subject}と合わせて{first + third}点[だ|です]。",
        f"{other}が{third}点だったから、{one.name}の二科目の合計は{first + third}点にな[る|ります]。",
    )
    page.maybe(
        50,
        f"{one.teacher}先生は{one.name}をほめ[た|ました]。",
        f"{one.name}は{one.home}の家へ急いで帰[った|りました]。",
    )
