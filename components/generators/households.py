"""Documents about things and places: who put what where, who came when, what stands beside what."""

from components.generators import vocabulary as words
from components.generators.page import Page, count


def moved(page: Page) -> None:
    """A thing is put down, somebody else moves it, its owner looks for it."""
    owner, mover = page.people(2)
    thing = page.pick(words.BELONGINGS)
    colour = page.pick(thing.colours)
    before, after = page.pick_distinct(words.PLACES, 2)
    named = colour.before_noun + thing.name
    page.say(
        f"{owner.name}は{named}を{before}に置[いた|きました]。",
        f"朝、{owner.name}は{before}に{named}を置いて出かけ[た|ました]。",
    )
    page.say(
        f"そこへ{mover.name}が来て、それを{after}に移[した|しました]。",
        f"しばらくして、{mover.name}が{thing.name}を{after}へ動か[した|しました]。",
        f"ところが、{mover.name}が部屋を片づけて、{thing.name}を{after}にしま[った|いました]。",
    )
    page.say(
        f"{owner.name}は{before}を見[た|ました]が、{thing.name}は[なかった|ありませんでした]。",
        f"夕方、{owner.name}は{before}を探[した|しました]が、何も[見つからなかった|見つかりませんでした]。",
    )
    page.maybe(
        60,
        f"「{thing.name}はどこですか」と聞くと、{mover.name}は「{after}です」と答え[た|ました]。",
        f"「{before}にあった{thing.name}を知りませんか」と{owner.name}は{mover.name}に聞[いた|きました]。",
    )
    page.say(
        f"{thing.name}は{after}にあ[った|りました]。",
        f"{owner.name}は{after}で{named}を見つけ[た|ました]。",
    )
    page.maybe(
        50,
        f"{thing.name}を動かしたのは{mover.name}[だった|でした]。",
        f"{owner.name}の{thing.name}は{colour.noun}なので、すぐにわか[った|りました]。",
    )


def lending(page: Page) -> None:
    """A thing is lent on one weekday and comes back some days later."""
    lender, borrower = page.people(2)
    thing = page.pick(words.BELONGINGS)
    colour = page.pick(thing.colours)
    start, days = page.number(0, 6), page.number(1, 6)
    day, back = words.WEEKDAYS[start], words.WEEKDAYS[(start + days) % 7]
    later = "次の日" if days == 1 else f"{words.kanji_number(days)}日後"
    named = colour.before_noun + thing.name
    page.say(
        f"{day}に、{lender.name}は{borrower.name}に{named}を貸[した|しました]。",
        f"{borrower.name}は{day}に{lender.name}から{named}を借り[た|ました]。",
    )
    page.maybe(
        60,
        f"{borrower.name}は自分の{thing.name}をなくして困って[いた|いました]。",
        f"「大事に使ってください」と{lender.name}は言[った|いました]。",
        f"「{colour.before_noun}{thing.name}がほしかったのです」と{borrower.name}は喜[んだ|びました]。",
    )
    page.say(
        f"{later}の{back}に、{borrower.name}は{thing.name}を返[した|しました]。",
        f"{borrower.name}が{thing.name}を返したのは、{later}の{back}[だった|でした]。",
    )
    page.say(
        f"{named}は今、{lender.name}のところにあ[る|ります]。",
        f"{thing.name}は持ち主の{lender.name}のところに戻[った|りました]。",
        f"{lender.name}は{borrower.name}から{thing.name}を受け取[った|りました]。",
    )


def arrivals(page: Page) -> None:
    """Guests come one after another, each with a present."""
    host, *guests = page.people(4)
    foods = [thing for kind in ("果物屋", "菓子屋", "パン屋", "花屋") for thing in words.WARES[kind]]
    gifts = page.pick_distinct(foods, 3)
    numbers = [page.number(2, 9) for _ in gifts]
    amounts = [count(number, gift) for number, gift in zip(numbers, gifts, strict=True)]
    event = page.pick(("誕生日会", "食事会", "お茶の会", "引っ越し祝い"))
    page.say(
        f"{page.pick(words.WEEKDAYS)}に、{host.name}の家で{event}があ[った|りました]。",
        f"{host.name}は{host.home}にある家で{event}を開[いた|きました]。",
    )
    page.say(f"最初に来たのは{guests[0].name}で、{gifts[0].name}を{amounts[0]}持ってき[た|ました]。")
    page.say(
        f"次に{guests[1].name}が{gifts[1].name}を{amounts[1]}持って現れ[た|ました]。",
        f"二番目は{guests[1].name}で、{gifts[1].name}を{amounts[1]}くれ[た|ました]。",
    )
    page.say(
        f"最後に{guests[2].name}が着き、{gifts[2].name}を{amounts[2]}渡[した|しました]。",
        f"{guests[2].name}は少し遅れて来[た|ました]が、{gifts[2].name}を{amounts[2]}持って[いた|いました]。",
    )
    asked = page.number(0, 2)
    page.say(
        f"{gifts[asked].name}を持ってきたのは{guests[asked].name}[だ|です]。",
        f"{host.name}は{guests[asked].name}にもらった{gifts[asked].name}を{page.pick(words.PLACES[:3])}に置[いた|きました]。",
    )
    page.maybe(
        60,
        f"{host.name}は{guests[0].name}、{guests[1].name}、{guests[2].name}の三人にお礼を言[った|いました]。",
        f"一番早く来た{guests[0].name}が、一番遅く帰[った|りました]。",
    )


def picture(page: Page) -> None:
    """A child paints shapes; colours, counts and sides are told again."""
    [child] = page.people(1, "child")
    left, right = page.pick_distinct(words.SHAPES, 2)
    left_colour, right_colour = page.pick_distinct(words.PAINTS, 2)
    lefts, rights = page.number(1, 5), page.number(1, 5)
    sides = page.pick((("左", "右"), ("上", "下")))
    many = [words.DIGITS[n] + "つ" for n in (lefts, rights)]
    page.say(
        f"{child.name}は絵をか[いた|きました]。",
        f"これは{child.name}がかいた絵[だ|です]。",
        f"図工の時間に、{child.name}は紙に絵をか[いた|きました]。",
    )
    page.say(
        f"{sides[0]}に{left_colour.before_noun}{left}が{many[0]}、"
        f"{sides[1]}に{right_colour.before_noun}{right}が{many[1]}あ[る|ります]。",
        f"{sides[0]}には{left_colour.before_noun}{left}が{many[0]}、"
        f"{sides[1]}には{right_colour.before_noun}{right}が{many[1]}並んで[いる|います]。",
    )
    page.say(
        f"{left}は{right}の{sides[0]}にあ[る|ります]。",
        f"{right}は{left}の{sides[1]}にあ[る|ります]。",
    )
    page.say(
        f"{left}の色は{left_colour.noun}で、{right}の色は{right_colour.noun}[だ|です]。",
        f"{left_colour.noun}で塗ったのは{left}で、{right_colour.noun}で塗ったのは{right}[だ|です]。",
    )
    page.maybe(70, f"形は全部で{words.kanji_number(lefts + rights)}個あ[る|ります]。")
    if lefts != rights:
        more, fewer = (left, right) if lefts > rights else (right, left)
        page.maybe(50, f"{more}のほうが{fewer}より多[い|いです]。", f"{fewer}は{more}より少な[い|いです]。")


def owners(page: Page) -> None:
    """Three persons own the same kind of thing in three colours; one is left behind."""
    people = page.people(3)
    thing = page.pick(words.BELONGINGS)
    colours = page.pick_distinct(thing.colours, 3)
    left = page.number(0, 2)
    room = page.pick(("教室", "図書館", "食堂", "駅", "公園", "病院"))
    page.say(
        f"{people[0].name}の{thing.name}は{colours[0].noun}、{people[1].name}の{thing.name}は{colours[1].noun}、"
        f"{people[2].name}の{thing.name}は{colours[2].noun}[だ|です]。",
        f"{people[0].name}は{colours[0].before_noun}{thing.name}、{people[1].name}は{colours[1].before_noun}{thing.name}、"
        f"{people[2].name}は{colours[2].before_noun}{thing.name}を持って[いる|います]。",
    )
    page.say(
        f"ある日、{room}に{thing.name}が一{thing.counter}残って[いた|いました]。",
        f"三人が帰ったあと、{room}に{thing.name}が一{thing.counter}忘れてあ[った|りました]。",
    )
    page.say(f"その{thing.name}は{colours[left].noun}[だった|でした]。", f"色は{colours[left].noun}[だった|でした]。")
    page.say(
        f"だから、忘れたのは{people[left].name}[だ|です]。",
        f"{colours[left].before_noun}{thing.name}の持ち主は{people[left].name}[だ|です]。",
    )
    page.maybe(
        60,
        f"{people[left].name}は{room}に戻って、{colours[left].before_noun}{thing.name}を受け取[った|りました]。",
        f"{people[(left + 1) % 3].name}がそれを{people[left].name}に届け[た|ました]。",
    )


def seats(page: Page) -> None:
    """Three persons in a row; neighbours are told again."""
    left, middle, right = (person.name for person in page.people(3))
    where = page.pick(("公園のベンチ", "電車の席", "食堂の席", "教室の席", "バスの席"))
    page.say(
        f"{where}に、左から{left}、{middle}、{right}の順に座って[いる|います]。",
        f"三人が{where}に座って[いる|います]。左が{left}、真ん中が{middle}、右が{right}[だ|です]。",
    )
    page.say(
        f"{left}の右隣は{middle}[だ|です]。",
        f"{right}の左隣は{middle}[だ|です]。",
        f"{middle}は二人の間にい[る|ます]。",
    )
    page.say(
        f"しばらくして、{left}と{right}が席を替わ[った|りました]。",
        f"次の日は{left}と{right}が入れ替わ[った|りました]。",
    )
    page.say(
        f"今度は左から{right}、{middle}、{left}の順[だ|です]。",
        f"今は{right}が左、{left}が右に座って[いる|います]。",
        f"それでも、真ん中は{middle}のまま[だ|です]。",
    )


def boxes(page: Page) -> None:
    """Two coloured boxes hold different things; one is opened."""
    [person] = page.people(1)
    colours = page.pick_distinct(words.COLOURS, 2)
    goods = page.pick_distinct([*words.WARES["果物屋"], *words.WARES["菓子屋"], *words.WARES["文房具屋"]], 2)
    numbers = [page.number(2, 9) for _ in goods]
    which = page.number(0, 1)
    colour, thing, number = colours[which], goods[which], numbers[which]
    taken = page.number(1, number - 1)
    box = [c.before_noun + "箱" for c in colours]
    page.say(
        f"{box[0]}には{goods[0].name}が{count(numbers[0], goods[0])}、"
        f"{box[1]}には{goods[1].name}が{count(numbers[1], goods[1])}入って[いる|います]。",
        f"{person.name}は{box[0]}に{goods[0].name}を{count(numbers[0], goods[0])}、"
        f"{box[1]}に{goods[1].name}を{count(numbers[1], goods[1])}入れ[た|ました]。",
    )
    page.say(
        f"{person.name}は{colour.before_noun}箱を開け[た|ました]。",
        f"{person.name}が開けたのは{colour.before_noun}箱[だ|です]。",
    )
    page.say(f"中には{thing.name}があ[った|りました]。", f"中から{thing.name}が出て[きた|きました]。")
    page.say(
        f"{count(taken, thing)}取り出すと、残りは{count(number - taken, thing)}[だ|です]。",
        f"そこから{count(taken, thing)}取ったので、{count(number - taken, thing)}残[った|りました]。",
    )
    page.maybe(
        60,
        f"{box[1 - which]}の{goods[1 - which].name}は{count(numbers[1 - which], goods[1 - which])}のまま[だ|です]。",
        f"{box[1 - which]}はまだ開けて[いない|いません]。",
    )


def lost_pet(page: Page) -> None:
    """A pet, the same in every document, runs away and is found."""
    owner, pet = page.pick([(person, person.pet) for person in page.town.people if person.pet and person.pet.runs])
    [finder] = page.people(1, but=owner.name)
    where, elsewhere = page.pick_distinct(words.OUTDOORS, 2)
    page.say(
        f"{owner.name}は{pet.kind}を飼って[いる|います]。名前は{pet.name}[だ|です]。",
        f"{pet.name}は{owner.name}の{pet.kind}[だ|です]。",
        f"{owner.name}は{pet.colour.before_noun}{pet.kind}の{pet.name}と暮らして[いる|います]。",
    )
    page.say(
        f"ある日、{pet.name}がいなくな[った|りました]。",
        f"{page.pick(words.WEEKDAYS)}の朝、{pet.name}の姿が[見えなかった|見えませんでした]。",
    )
    page.say(
        f"{owner.name}は{elsewhere}を探[した|しました]が、そこには[いなかった|いませんでした]。",
        f"{owner.name}と{finder.name}は一緒に探[した|しました]。{elsewhere}には[いなかった|いませんでした]。",
    )
    page.say(
        f"{finder.name}が{where}で{pet.colour.before_noun}{pet.kind}を見つけ[た|ました]。",
        f"すると、{where}にいる{pet.name}を{finder.name}が見つけ[た|ました]。",
    )
    page.say(
        f"{pet.name}を見つけた{finder.name}に、{owner.name}は何度もお礼を言[った|いました]。",
        f"{pet.name}は{owner.name}を見ると、うれしそうに近づいて[きた|きました]。",
        f"{where}にいた{pet.name}は、無事に{owner.name}の家へ帰[った|りました]。",
    )
