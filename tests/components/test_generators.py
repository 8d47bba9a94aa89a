"""The demo world: the same bytes everywhere, no contradiction within a document or with the town, dirt as stated."""

import hashlib
import json
import re
from collections import Counter, defaultdict

import pytest

from components.generators import GENERATORS
from components.generators import vocabulary as words
from components.generators.town import build_town
from components.generators.world import ENGLISH_PER_1000, FILES, SEED, SHORT

DIGESTS = {
    "errands.jsonl": "84dfe3f47280ffa2f058cf11f9565f705639402fccaeee33a57f656477a84cac",
    "households.jsonl": "998e10c70555f27a9f54e8105abc67efd629fd88b2d4bf29cc84fd6c9a99fe17",
    "reckoning.jsonl": "1719d5dcbe9cae643ffbdf6fb2edb15bc002eef85b93c137253790d9605eb34e",
    "townsfolk.jsonl": "c58e59c79047e1fb53c99ba6f6566189f6a24ad206a608f8a0bf641715d77b65",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    GENERATORS["world"](folder)
    return folder / "demo" / "text"


@pytest.fixture(scope="module")
def texts(data):
    return {
        path.stem: [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(data.glob("*.jsonl"))
    }


@pytest.fixture(scope="module")
def stories(texts):
    return [text for rows in texts.values() for text in rows if "。" in text and text not in SHORT]


def _number(kanji: str) -> int:
    """A kanji number below 100, read digit by digit."""
    tens, ten, ones = kanji.rpartition("十")
    value = words.DIGITS.index(ones) if ones else 0
    return value + (10 * (words.DIGITS.index(tens) if tens else 1) if ten else 0)


def test_the_bytes_are_the_recorded_ones(data):
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.iterdir())}
    assert found == DIGESTS


def test_rows_have_unique_ids_a_source_and_the_licence(data):
    rows = [json.loads(line) for path in data.iterdir() for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 24_000
    assert all(list(row) == ["id", "text", "source", "license"] for row in rows)
    assert {row["license"] for row in rows} == {"CC0-1.0"}


def test_the_shares_of_dirt_are_as_stated(texts):
    assert list(texts) == list(FILES)
    for rows in texts.values():
        short = [text for text in rows if len(text) < 10]
        english = [text for text in rows if len(text) >= 10 and re.fullmatch(r"[A-Za-z .]+", text)]
        rest = [text for text in rows if len(text) >= 10]
        assert len(short) == len(rows) * 5 // 1000
        assert len(english) == len(rows) * ENGLISH_PER_1000 // 1000
        assert len(rest) - len(set(rest)) == len(rows) * 10 // 1000
    everything = [text for rows in texts.values() for text in rows if len(text) >= 10]
    assert len(everything) - len(set(everything)) == 240


def test_stories_have_two_to_twelve_sentences(stories):
    lengths = Counter(len(re.findall("。", text)) for text in stories)
    assert min(lengths) >= 2
    assert max(lengths) <= 12


def test_no_story_mixes_plain_and_polite_sentences(stories):
    for text in stories:
        sentences = re.sub("「[^」]*」", "", text).split("。")[:-1]
        assert (
            len({sentence.endswith(("です", "ます", "ました", "でした", "ません")) for sentence in sentences}) == 1
        ), text


def test_sums_differences_and_products_are_right(stories):
    text = "\n".join(stories)
    checks = [
        (r"(\d+)(?:足す(\d+)は|に(\d+)を足すと)(\d+)", lambda a, b: a + b),
        (r"(\d+)(?:引く(\d+)は|から(\d+)を引くと)(\d+)", lambda a, b: a - b),
        (r"(\d+)(?:掛ける(\d+)は|に(\d+)を掛けると)(\d+)", lambda a, b: a * b),
    ]
    for pattern, operation in checks:
        found = re.findall(pattern, text)
        assert len(found) > 200
        assert all(operation(int(a), int(b or c)) == int(d) for a, b, c, d in found)


def test_totals_are_price_times_number(stories):
    found = []
    for text in stories:
        found += re.findall(r"一.(\d+)円なので、(\w+?)[個本枚冊匹足台体]で(\d+)円", text)
        found += [
            (price, many, total)
            for many, price, total in re.findall(
                r"を(\w+?)[個本枚冊匹足台体]買[^。]*。一.(\d+)円だから、代金は(\d+)円", text
            )
        ]
    assert len(found) > 500
    assert all(int(price) * _number(many) == int(total) for price, many, total in found)


def test_what_somebody_bought_keeps_its_colour(stories):
    checked = 0
    for text in stories:
        for thing, colour in re.findall(r"が買った(\w+?)の色は(\w+?)(?:だ|です)。", text):
            [adjective] = [c.before_noun for c in words.COLOURS if c.noun == colour]
            assert f"{adjective}{thing}を" in text or f"{adjective}{thing}だ" in text or f"{adjective}{thing}で" in text
            checked += 1
    assert checked > 200


def test_a_moved_thing_is_found_where_it_was_moved_to(stories):
    checked = 0
    for text in stories:
        moved = re.search(
            r"(?:来て、それを|片づけて、\w+?を|。しばらくして、\w+?を)(\w+?)[にへ](?:移し|しま|動か)", text
        )
        if moved:
            later = text[moved.end() :]
            assert f"{moved[1]}にあ" in later or f"{moved[1]}で" in later, text
            checked += 1
    assert checked > 500


def test_homes_and_shops_are_the_towns_in_every_story(stories):
    town = build_town(SEED)
    homes = {person.name: person.home for person in town.people}
    text = "\n".join(stories)
    districts = "|".join(words.DISTRICTS)
    found = re.findall(rf"(?:^|。)(\w+?)の家は({districts})にあ", text, re.MULTILINE)
    assert len(found) > 200
    assert set(found) <= set(homes.items())
    places = defaultdict(set)
    for shop, district in re.findall(rf"({'|'.join(words.WARES)})は({districts})にあ", text):
        places[shop].add(district)
    assert places == {shop.kind: {shop.district} for shop in town.shops}


def test_the_same_shop_is_always_closed_on_the_same_day(stories):
    closed = defaultdict(set)
    for shop, day in re.findall(
        rf"({'|'.join(words.WARES)})(?:の休みは|は)(\w曜日)(?:が休み|[だで])", "\n".join(stories)
    ):
        closed[shop].add(day)
    assert closed == {shop.kind: {shop.closed_on} for shop in build_town(SEED).shops}


def test_the_town_has_friends_both_ways_and_a_pet_name_only_once():
    town = build_town(SEED)
    assert all(town.person(person.friend).friend == person.name != person.friend for person in town.people)
    pets = [person.pet.name for person in town.people if person.pet]
    assert len(pets) == len(set(pets)) > 20
    assert all(town.person(person.teacher).job == "先生" for person in town.group("child"))


def test_numbers_above_ninety_nine_are_not_written():
    assert [words.kanji_number(n) for n in (0, 9, 10, 11, 20, 99)] == ["零", "九", "十", "十一", "二十", "九十九"]
    with pytest.raises(ValueError, match="100 is not between"):
        words.kanji_number(100)
