"""Documents about shops, money and shares: what was bought, what it cost, how many are left."""

from components.generators import vocabulary as words
from components.generators.page import Page, count


def shopping(page: Page) -> None:
    """One purchase: thing, colour, number, total, change and the place at home."""
    shop = page.pick(page.town.shops)
    [buyer] = page.people(1, but=shop.keeper)
    thing = page.pick(shop.wares)
    number = page.number(2, 6) if thing.price_yen < 1000 else 1
    total = number * thing.price_yen
    colour = page.pick(thing.colours) if thing.colours else None
    named = (colour.before_noun if colour else "") + thing.name
    day, who = page.pick(words.WEEKDAYS), buyer.name
    page.say(
        f"{day}に、{who}は{shop.district}の{shop.kind}へ行[った|きました]。",
        f"{who}は{day}に{shop.district}にある{shop.kind}に出かけ[た|ました]。",
        f"{day}の午後、{who}は{shop.kind}に寄[った|りました]。{shop.kind}は{shop.district}にあ[る|ります]。",
    )
    page.say(
        f"そこで{named}を{count(number, thing)}買[った|いました]。",
        f"{who}が選んだのは{named}[だった|でした]。全部で{count(number, thing)}買[った|いました]。",
        f"店主の{shop.keeper}さんにすすめられて、{named}を{count(number, thing)}買うことにし[た|ました]。",
    )
    if number > 1:
        page.say(
            f"{thing.name}は一{thing.counter}{thing.price_yen}円なので、{count(number, thing)}で{total}円[だ|です]。",
            f"一{thing.counter}{thing.price_yen}円だから、代金は{total}円[だった|でした]。",
        )
    else:
        page.say(f"値段は{total}円[だった|でした]。", f"{thing.name}は{total}円[だった|でした]。")
    note = next(note for note in (500, 1000, 2000, 5000, 10000) if note > total)
    page.maybe(
        60,
        f"{who}は{note}円を払い、{note - total}円のおつりをもら[った|いました]。",
        f"{note}円を出すと、おつりは{note - total}円[だった|でした]。",
    )
    place = page.pick(words.PLACES if colour else ("台所", "机の上", "棚の上", "玄関"))
    page.say(
        f"家に帰ると、{who}は{thing.name}を{place}に置[いた|きました]。",
        f"{who}はうちに帰り、買った{thing.name}を{place}に置[いた|きました]。",
    )
    if colour:
        page.say(
            f"{who}が買った{thing.name}の色は{colour.noun}[だ|です]。",
            f"今、{place}には{colour.before_noun}{thing.name}があ[る|ります]。",
        )
    else:
        page.say(f"{who}の家では今、{place}に{thing.name}があ[る|ります]。")


def two_buyers(page: Page) -> None:
    """Two persons buy one thing each; both are told apart at the end."""
    shop = page.pick(page.town.shops)
    first, second = page.people(2, but=shop.keeper)
    one, two = page.pick_distinct(shop.wares, 2)
    names = [(page.pick(thing.colours).before_noun if thing.colours else "") + thing.name for thing in (one, two)]
    page.say(
        f"{first.name}と{second.name}は一緒に{shop.kind}へ行[った|きました]。",
        f"{shop.kind}で{first.name}と{second.name}が買い物をし[た|ました]。",
    )
    page.maybe(50, f"{shop.kind}は{shop.district}にあり、店主は{shop.keeper}[だ|です]。")
    page.say(
        f"{first.name}は{names[0]}を、{second.name}は{names[1]}を選[んだ|びました]。",
        f"{first.name}が買ったのは{names[0]}で、{second.name}が買ったのは{names[1]}[だ|です]。",
    )
    dear, cheap = (one, two) if one.price_yen > two.price_yen else (two, one)
    page.say(f"{one.name}は{one.price_yen}円、{two.name}は{two.price_yen}円[だった|でした]。")
    page.say(
        f"{dear.name}のほうが{cheap.name}より{dear.price_yen - cheap.price_yen}円高[い|いです]。",
        f"二人が払ったお金を合わせると{one.price_yen + two.price_yen}円にな[る|ります]。",
    )
    page.say(
        f"帰り道、{first.name}は{names[0]}を、{second.name}は{names[1]}を大事そうに持[っていた|っていました]。",
        f"{second.name}は{names[1]}が気に入[った|りました]。{first.name}も{names[0]}を見てにこにこし[た|ました]。",
    )


def sharing(page: Page) -> None:
    """Somebody has some fruit or cake, gives some away, gets some more."""
    giver, friend, third = page.people(3)
    thing = page.pick([thing for kind in ("果物屋", "パン屋", "菓子屋") for thing in words.WARES[kind]])
    had, more = page.number(4, 10), page.number(1, 5)
    gave = page.number(1, had - 1)
    left = had - gave
    page.say(
        f"{giver.name}は{thing.name}を{count(had, thing)}持って[いた|いました]。",
        f"{giver.name}の家には{thing.name}が{count(had, thing)}あ[った|りました]。",
    )
    page.say(
        f"{giver.name}は{friend.name}に{count(gave, thing)}あげ[た|ました]。",
        f"そのうち{count(gave, thing)}を{friend.name}にあげ[た|ました]。",
        f"遊びに来た{friend.name}が{count(gave, thing)}もら[った|いました]。",
    )
    page.say(
        f"残りは{count(left, thing)}[だ|です]。",
        f"{giver.name}の{thing.name}は{count(left, thing)}にな[った|りました]。",
        f"{had}引く{gave}は{left}だから、{count(left, thing)}残[った|りました]。",
    )
    if page.number(0, 1):
        page.say(
            f"そのあと、{third.name}が{thing.name}を{count(more, thing)}くれ[た|ました]。",
            f"夕方、{third.name}から{count(more, thing)}もら[った|いました]。",
        )
        page.say(
            f"今、{giver.name}は{thing.name}を{count(left + more, thing)}持って[いる|います]。",
            f"これで{giver.name}の{thing.name}は{count(left + more, thing)}[だ|です]。",
        )
    page.maybe(
        60,
        f"{friend.name}の{thing.name}は{count(gave, thing)}のまま[だ|です]。",
        f"{friend.name}は{count(gave, thing)}の{thing.name}をうれしそうに食べ[た|ました]。",
    )


def forgotten(page: Page) -> None:
    """A child is asked for three things, buys two and forgets one."""
    shop = page.pick(
        [shop for shop in page.town.shops if shop.kind in ("八百屋", "果物屋", "魚屋", "パン屋", "菓子屋")]
    )
    [asker] = page.people(1, "adult", "elder", but=shop.keeper)
    [child] = page.people(1, "child")
    things = page.pick_distinct(shop.wares, 3)
    missing = page.pick(things)
    bought = [thing for thing in things if thing is not missing]
    listed = "と".join(thing.name for thing in things)
    page.say(
        f"{asker.name}は{child.name}に、{listed}を買ってきてほしいと頼[んだ|みました]。",
        f"「{listed}を買ってきてください」と{asker.name}は{child.name}に言[った|いました]。",
    )
    page.say(
        f"{child.name}は急いで{shop.district}の{shop.kind}へ行[った|きました]。",
        f"{child.name}は{shop.kind}まで歩いて行[った|きました]。",
    )
    page.say(
        f"{bought[0].name}と{bought[1].name}は買[った|いました]が、{missing.name}を忘れてしま[った|いました]。",
        f"ところが、{missing.name}を買うのを忘れて帰ってき[た|ました]。",
    )
    page.say(
        f"袋の中には{bought[0].name}と{bought[1].name}しか[なかった|ありませんでした]。",
        f"{child.name}が渡した袋には{bought[0].name}と{bought[1].name}が入って[いた|いました]。",
    )
    page.say(
        f"「{missing.name}がありませんね」と{asker.name}は笑[った|いました]。",
        f"{asker.name}に「{missing.name}はどこですか」と聞かれて、{child.name}は思い出[した|しました]。",
    )
    page.maybe(50, f"{child.name}はもう一度{shop.kind}へ行き、{missing.name}を買って[きた|きました]。")


def saving(page: Page) -> None:
    """Somebody saves for a thing; what is missing shrinks."""
    [child] = page.people(1, "child")
    shop = page.pick([shop for shop in page.town.shops if any(thing.price_yen >= 400 for thing in shop.wares)])
    thing = page.pick([thing for thing in shop.wares if thing.price_yen >= 400])
    colour = page.pick(thing.colours) if thing.colours else None
    named = (colour.before_noun if colour else "") + thing.name
    owned = 10 * page.number(5, thing.price_yen // 10 - 5)
    missing = thing.price_yen - owned
    page.say(
        f"{child.name}は{shop.kind}で見た{named}をほしがって[いる|います]。",
        f"{child.name}は{named}を買うためにお金をためて[いる|います]。",
    )
    page.say(f"値段は{thing.price_yen}円[だ|です]。", f"{thing.name}は{thing.price_yen}円[する|します]。")
    page.say(
        f"今持っているのは{owned}円なので、あと{missing}円[足りない|足りません]。",
        f"貯金箱には{owned}円入って[いる|います]。足りないのは{missing}円[だ|です]。",
    )
    [elder] = page.people(1, "elder")
    page.say(
        f"手伝いをすると、{elder.name}さんが{missing}円くれ[た|ました]。",
        f"誕生日に{elder.name}さんから{missing}円もら[った|いました]。",
    )
    page.say(
        f"{owned}円と{missing}円で{thing.price_yen}円にな[った|りました]。",
        f"これでちょうど{thing.price_yen}円[だ|です]。",
    )
    page.say(
        f"{child.name}は{shop.kind}へ走って行き、{named}を買[った|いました]。",
        f"次の日、{child.name}はついに{named}を手に入れ[た|ました]。",
    )


def closed_shop(page: Page) -> None:
    """A shop's day off, which never changes, decides whether somebody can buy."""
    shop = page.pick(page.town.shops)
    [buyer] = page.people(1, but=shop.keeper)
    thing = page.pick(shop.wares)
    today = words.WEEKDAYS.index(shop.closed_on) if page.number(0, 1) else page.number(0, 6)
    day, next_day = words.WEEKDAYS[today], words.WEEKDAYS[(today + 1) % 7]
    page.say(
        f"今日は{day}[だ|です]。{buyer.name}は{thing.name}を買いに{shop.kind}へ行[った|きました]。",
        f"{day}の朝、{buyer.name}は{thing.name}がほしくなり、{shop.district}の{shop.kind}へ行[った|きました]。",
    )
    if day == shop.closed_on:
        page.say(
            f"しかし、{shop.kind}は{shop.closed_on}が休み[だ|です]。店は閉まって[いた|いました]。",
            f"ところが店は閉まって[いた|いました]。{shop.kind}の休みは{shop.closed_on}[だ|です]。",
        )
        page.say(
            f"{buyer.name}は次の日、{next_day}にもう一度行き、{thing.name}を買[った|いました]。",
            f"しかたなく家に帰り、{next_day}に{thing.name}を買[った|いました]。",
        )
    else:
        page.say(
            f"{shop.kind}は{shop.closed_on}が休み[だ|です]が、{day}は開いて[いる|います]。",
            f"休みは{shop.closed_on}なので、店は開いて[いた|いました]。",
        )
        page.say(
            f"{buyer.name}は店主の{shop.keeper}にあいさつをして、{thing.name}を買[った|いました]。",
            f"{buyer.name}は{thing.price_yen}円を払って{thing.name}を買[った|いました]。",
        )
    page.maybe(
        50,
        f"{shop.kind}は午前{shop.opens_hour}時に開き、午後{shop.closes_hour}時に閉ま[る|ります]。",
        f"{buyer.name}は{thing.name}を持ってうれしそうに帰[った|りました]。",
    )
