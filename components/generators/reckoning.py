"""Documents about numbers, hours, days and weather, whose last sentences follow from the first ones."""

from components.generators import vocabulary as words
from components.generators.page import Page


def chain(page: Page) -> None:
    """A chain of sums, each beginning from the last result."""
    value = page.number(2, 30)
    [child] = page.people(1, "child")
    page.say(
        f"{child.name}は計算の練習をして[いる|います]。はじめの数は{value}[だ|です]。",
        f"{child.teacher}先生が黒板に{value}と書[いた|きました]。{child.name}が計算[する|します]。",
        f"算数の時間[だ|です]。{child.name}は{value}から始め[る|ます]。",
    )
    for _ in range(page.number(2, 4)):
        kind = page.number(0, 3)
        if kind == 0 and value <= 20:
            factor = page.number(2, 5)
            page.say(
                f"{value}に{factor}を掛けると{value * factor}[だ|です]。",
                f"{value}掛ける{factor}は{value * factor}[だ|です]。",
            )
            value *= factor
        elif kind == 1 and value > 5:
            less = page.number(1, value - 1)
            page.say(
                f"{value}から{less}を引くと{value - less}[だ|です]。",
                f"{value}引く{less}は{value - less}[だ|です]。",
            )
            value -= less
        else:
            more = page.number(1, 30)
            page.say(
                f"{value}に{more}を足すと{value + more}[だ|です]。",
                f"{value}足す{more}は{value + more}[だ|です]。",
            )
            value += more
    page.say(
        f"最後の答えは{value}[だ|です]。",
        f"{child.name}の答えは{value}にな[った|りました]。",
        f"「答えは{value}です」と{child.name}が言[った|いました]。",
    )


def _clock(minutes: int) -> str:
    """Minutes since midnight as words, such as 午前9時15分."""
    half, hour, minute = ("午前", "午後")[minutes >= 720], minutes % 720 // 60, minutes % 60
    return f"{half}{hour}時" + (f"{minute}分" if minute else "")


def journey(page: Page) -> None:
    """Somebody leaves, is under way for some minutes, stays and comes back."""
    [person] = page.people(1)
    place = page.pick(words.SIGHTS)
    start = 5 * page.number(7 * 12, 16 * 12)
    way, stay = 5 * page.number(1, 9), 30 * page.number(1, 4)
    arrived, left = start + way, start + way + stay
    length = (f"{stay // 60}時間" if stay >= 60 else "") + (f"{stay % 60}分" if stay % 60 else "")
    means = page.pick(("歩いて", "自転車で", "バスで"))
    page.say(
        f"{person.name}は{_clock(start)}に{person.home}の家を出[た|ました]。",
        f"{_clock(start)}に、{person.name}は{place}へ向か[った|いました]。",
    )
    page.say(
        f"{place}へは{means}行き、{way}分で着[いた|きました]。", f"{place}までは{means}{way}分かか[った|りました]。"
    )
    page.say(
        f"着いたのは{_clock(arrived)}[だった|でした]。",
        f"{place}に着くと、時計は{_clock(arrived)}をさして[いた|いました]。",
    )
    page.say(
        f"{person.name}は{place}に{length}いて、{_clock(left)}に出[た|ました]。",
        f"そこで{length}過ごし、{_clock(left)}に{place}を出[た|ました]。",
    )
    page.say(
        f"同じ道を{means}帰り、{_clock(left + way)}に家に着[いた|きました]。",
        f"帰りも{way}分かかり、家に着いたのは{_clock(left + way)}[だ|です]。",
    )


def calendar(page: Page) -> None:
    """Days of the week that follow each other, and a plan."""
    one, two = page.people(2)
    today, days = page.number(0, 6), page.number(2, 6)
    now, tomorrow, yesterday, then = (words.WEEKDAYS[(today + n) % 7] for n in (0, 1, -1, days))
    plan = page.pick(("釣りに行く", "絵をかく", "料理をする", "公園で遊ぶ", "海を見に行く", "本を読む", "映画を見る"))
    page.say(f"今日は{now}[だ|です]。", f"きのうは{yesterday}で、今日は{now}[だ|です]。")
    page.say(f"あしたは{tomorrow}[だ|です]。", f"{now}の次は{tomorrow}[だ|です]。")
    page.say(
        f"{one.name}は{two.name}と{then}に{plan}約束をし[た|ました]。",
        f"{then}に{one.name}と{two.name}は{plan}つもり[だ|です]。",
    )
    page.say(
        f"{then}は今日から{words.kanji_number(days)}日後[だ|です]。",
        f"{then}まであと{words.kanji_number(days)}日[だ|です]。",
    )
    page.say(
        f"「{then}が楽しみですね」と{two.name}が言[った|いました]。",
        f"{one.name}はカレンダーの{then}のところに印をつけ[た|ました]。",
        f"{two.name}も{then}を楽しみにして[いる|います]。",
    )


def weather(page: Page) -> None:
    """A day's weather decides what somebody does; temperatures are compared."""
    one, two = page.people(2)
    day = page.number(0, 6)
    now, tomorrow = words.WEEKDAYS[day], words.WEEKDAYS[(day + 1) % 7]
    sky = page.pick(("晴れ", "雨", "雪", "くもり"))
    warm = page.number(-3, 2) if sky == "雪" else page.number(6, 31)
    change = page.number(1, 5) * page.pick((1, -1))
    degrees = [f"{n}度" if n >= 0 else f"氷点下{-n}度" for n in (warm, warm + change)]
    colour = page.pick(words.COLOURS)
    page.say(
        f"{now}の{words.TOWN}は{sky}で、気温は{degrees[0]}[だった|でした]。",
        f"{now}の天気は{sky}[だった|でした]。気温は{degrees[0]}[だった|でした]。",
    )
    if sky == "雨":
        page.say(
            f"{one.name}は{colour.before_noun}傘をさして出かけ[た|ました]。",
            f"{one.name}は{colour.before_noun}傘を持って家を出[た|ました]。",
        )
        page.say(
            f"傘のない{two.name}を、{one.name}は{colour.before_noun}傘に入れて[あげた|あげました]。",
            f"{two.name}は雨の中で{colour.before_noun}傘を見て、{one.name}だとすぐにわか[った|りました]。",
        )
    elif sky == "雪":
        number = page.number(2, 6)
        page.say(f"{one.name}と{two.name}は雪だるまを{words.DIGITS[number]}つ作[った|りました]。")
        page.say(
            f"{words.DIGITS[number]}つの雪だるまに、{two.name}は{colour.before_noun}帽子をかぶせ[た|ました]。",
            f"夜になっても、{words.DIGITS[number]}つの雪だるまは庭に立って[いた|いました]。",
        )
    else:
        hobby = page.pick(("釣り", "散歩", "野球", "サッカー", "テニス"))
        page.say(f"{one.name}は{two.name}を{hobby}に誘[った|いました]。")
        page.say(
            f"{two.name}は{one.name}と{hobby}を楽し[んだ|みました]。",
            f"二人は夕方まで{hobby}を続け[た|ました]。",
        )
    page.say(
        f"次の日の{tomorrow}は{degrees[1]}[だった|でした]。", f"{tomorrow}の気温は{degrees[1]}にな[った|りました]。"
    )
    if change > 0:
        higher, felt = "高", "暑" if warm > 22 else "暖か"
    else:
        higher, felt = "低", "涼し" if warm > 16 else "寒"
    page.say(
        f"{now}より{abs(change)}度{higher}[い|いです]。",
        f"{tomorrow}のほうが{now}より{felt}[かった|かったです]。",
    )


def ranks(page: Page) -> None:
    """Three children compared two by two; the order is told at the end, and is the same in every document."""
    children = page.people(3, "child")
    ages = {child.age for child in children}
    # The older of two children is the taller one.
    if len(ages) == 3 and page.number(0, 1):
        what, more = "背", "高い"
        children.sort(key=lambda child: -child.age)
    else:
        what, more = "足", "速い"
        children.sort(key=lambda child: child.speed_rank)
    names = [child.name for child in children]
    page.say(f"{names[0]}は{names[1]}より{what}が{more}[|です]。")
    page.say(f"{names[1]}は{names[2]}より{what}が{more}[|です]。")
    page.say(
        f"だから、{names[0]}は{names[2]}より{what}が{more}[|です]。",
        f"三人の中で一番{what}が{more}のは{names[0]}[だ|です]。",
        f"三人を並べると、{names[0]}、{names[1]}、{names[2]}の順にな[る|ります]。",
    )
    page.maybe(
        60,
        f"{names[1]}は二番目[だ|です]。",
        f"一番の{names[0]}は「ありがとう」と笑[った|いました]。",
        f"{names[2]}は{names[1]}にも{names[0]}にもかな[わない|いません]。",
    )


def race(page: Page) -> None:
    """Places of four runners, and what happens to them the next time."""
    names = [person.name for person in page.people(4, "child")]
    event = page.pick(("かけっこ", "水泳大会", "マラソン大会", "自転車レース"))
    page.say(
        f"{event}で、一位は{names[0]}、二位は{names[1]}、三位は{names[2]}、四位は{names[3]}[だった|でした]。",
        f"{event}の結果が出[た|ました]。{names[0]}、{names[1]}、{names[2]}、{names[3]}の順[だった|でした]。",
    )
    asked = page.number(1, 3)
    page.say(
        f"{names[asked]}は{names[asked - 1]}のすぐ後ろでゴールし[た|ました]。",
        f"優勝した{names[0]}は{page.pick(('メダル', '花束', '賞状'))}をもら[った|いました]。",
    )
    page.say(
        f"{names[3]}は{names[2]}に追いつけ[なかった|ませんでした]。",
        f"三位の{names[2]}は、二位の{names[1]}に「速いですね」と言[った|いました]。",
    )
    page.say(
        f"次の日の{event}では、{names[1]}が{names[0]}を抜いて一位にな[った|りました]。",
        f"二回目は{names[3]}が{names[2]}に勝ち、三位にな[った|りました]。",
    )


def gathering(page: Page) -> None:
    """Animals or people come and go; how many there are is told each time."""
    noun, counter, stay = page.pick(
        (
            ("あひる", "羽", "池"),
            ("すずめ", "羽", "木の枝"),
            ("子ども", "人", "公園"),
            ("客", "人", "食堂"),
            ("鹿", "頭", "森"),
        )
    )
    here, more = page.number(3, 12), page.number(2, 8)
    page.say(
        f"{stay}に{noun}が{words.counted(here, counter)}い[る|ます]。",
        f"朝、{stay}には{noun}が{words.counted(here, counter)}い[た|ました]。",
    )
    page.say(
        f"そこへ{words.counted(more, counter)}来たので、{words.counted(here + more, counter)}にな[った|りました]。",
        f"あとから{words.counted(more, counter)}来[た|ました]。全部で{words.counted(here + more, counter)}[だ|です]。",
    )
    gone = page.number(1, here + more - 2)
    page.say(
        f"夕方、{words.counted(gone, counter)}がいなくな[った|りました]。",
        f"しばらくすると、{words.counted(gone, counter)}が帰って行[った|きました]。",
    )
    page.say(
        f"残った{noun}は{words.counted(here + more - gone, counter)}[だ|です]。",
        f"{stay}には{words.counted(here + more - gone, counter)}だけ残って[いる|います]。",
    )
    [watcher] = page.people(1)
    page.maybe(
        50, f"それを{watcher.name}が数えて[いた|いました]。", f"{watcher.name}は{noun}の数をノートに書[いた|きました]。"
    )
