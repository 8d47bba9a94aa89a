"""The demo's questions: the same bytes everywhere, no prompt twice, right good answers and worse ones as stated."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest

from components.generators import GENERATORS, JUDGES
from components.generators import vocabulary as words
from components.generators.asking import ASKS
from components.generators.instructions import questions
from components.generators.questions import PLACE
from components.generators.town import build_town
from components.generators.world import SEED
from components.modalities.text import conversations, prompt_of
from components.recipes import Library
from components.records import content_digest, split_of
from tests.conftest import ROOT

DIGESTS = {
    "hasty/facts.jsonl": "e3cc8496fcc1f379c10f96c97f10bd1a8f10788ee5de61a38d8c0fff8de6b9a7",
    "hasty/situations.jsonl": "2f040e2a9da88e0f046f06fa9472d75cd39822b8a2a2dd192b24bcbbab70e615",
    "instructions/facts.jsonl": "03d82496b8469da22851e43674a23e74a9d3b60123297020ffdad9039c84a726",
    "instructions/follow-ups.jsonl": "27467bb37b12ff7ba19411277c5f1db974c11b7eff5a685479c3515d9b598902",
    "instructions/situations.jsonl": "e6298dcc4672d3ecc0a771fe5ac4bb7e0c3e7e6e40def6c57d011036d133f0c2",
    "preferences/another-fact.jsonl": "6bb1616f4c313b6fafd049b694cdce83d436035e7733f22df43b65d3575e75d8",
    "preferences/manner.jsonl": "99dfc83038c94d6869af157f3539a770e60fde1ec1d7b54a36dcfd9b2451d167",
    "preferences/one-fact.jsonl": "c991f7dea38702981a541e51b51d4768a337c4e050f7b259c0db5f31d134ca07",
}
quality = JUDGES["world"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    GENERATORS["instructions"](folder)
    return folder / "demo"


@pytest.fixture(scope="module")
def rows(data):
    """Folder -> rows."""
    found = defaultdict(list)
    for path in sorted(data.rglob("*.jsonl")):
        found[path.parent.name] += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(found)


def key_of(row) -> str:
    """All that stands before the answer."""
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)


def test_the_bytes_of_every_file_are_the_recorded_ones(data):
    found = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*.jsonl"))
    }
    assert found == DIGESTS


def test_every_row_has_an_id_of_its_own_a_source_and_the_licence(rows):
    everything = [row for found in rows.values() for row in found]
    assert len({row["id"] for row in everything}) == len(everything) > 12_000
    assert {row["license"] for row in everything} == {"CC0-1.0"}
    assert all(row["source"].startswith("world/") for row in everything)


def test_no_prompt_stands_twice_in_all_folders(rows):
    asked = Counter(key_of(row) for found in rows.values() for row in found)
    assert asked.most_common(1)[0][1] == 1


def test_what_a_corpus_holds_out_is_asked_in_no_training(rows, monkeypatch):
    monkeypatch.chdir(ROOT)
    library = Library()
    splits = defaultdict(set)
    for folder, found in rows.items():
        corpus = library.read("corpus", f"demo-{folder}")
        [column] = corpus.columns.values()
        read = conversations.reader(column)
        for row in found:
            value = read({part: row[key] for part, key in column.raw_keys.items()})
            split = split_of(
                content_digest({"prompt": prompt_of(value, column)}), corpus.splits.valid, corpus.splits.test
            )
            splits[folder, split].add(key_of(row))
    trained = set().union(*(keys for (_, split), keys in splits.items() if split == "train"))
    assert len(splits["instructions", "test"]) >= 500
    assert not splits["instructions", "test"] & trained
    assert not splits["preferences", "test"] & trained
    assert not splits["hasty", "test"]


def test_a_held_out_question_asks_for_a_fact_that_others_ask_for_in_other_words(rows):
    answers = Counter(row["response"] for row in rows["instructions"] if "facts" in row["source"])
    repeated = [answer for answer, number in answers.items() if number > 1]
    assert sum(answers[answer] for answer in repeated) > 0.6 * answers.total()
    assert all(len(set(asks)) == len(asks) >= 3 for asks in ASKS.values())


def test_the_good_answers_are_whole_polite_sentences_that_the_rules_call_perfect(rows):
    for row in rows["instructions"]:
        assert row["response"].endswith(("です。", "ます。", "ました。", "でした。")), row
        assert row["response"].count("。") == 1
        assert quality(key_of(row), row["response"]) == 1.0, row


def test_hasty_answers_have_the_right_fact_and_hardly_ever_good_manners(rows):
    scores = [quality(key_of(row), row["response"]) for row in rows["hasty"]]
    assert max(scores) < 1.0
    assert sum(score >= 0.6 for score in scores) > 0.97 * len(scores)


def test_the_better_answer_of_every_pair_is_perfect_and_the_worse_one_is_not(rows):
    for row in rows["preferences"]:
        assert quality(key_of(row), row["chosen"]) == 1.0
        assert quality(key_of(row), row["rejected"]) < 1.0, row


def test_pairs_of_one_fact_have_the_same_length_and_differ_in_nothing_else(rows):
    pairs = [row for row in rows["preferences"] if row["source"] == "world/preferences/one-fact"]
    assert len(pairs) > 1_800
    asked = {each.key: each for found in questions()["preferences"].values() for each in found}
    for row in pairs:
        question = asked[key_of(row)]
        before, _, after = question.answer_with(PLACE).partition(PLACE)
        assert len(row["chosen"]) == len(row["rejected"])
        assert row["rejected"].startswith(before)
        assert row["rejected"].endswith(after)
        assert quality(question.key, row["rejected"]) == pytest.approx(0.4)


def test_answers_are_the_facts_of_the_town(rows):
    town = build_town(SEED)
    homes = {person.name: person.home for person in town.people}
    closed = {shop.kind: shop.closed_on for shop in town.shops}
    prices = {thing.name: thing.price_yen for things in words.WARES.values() for thing in things}
    checked = Counter()
    for row in rows["instructions"]:
        answer = row["response"]
        for who, where in homes.items():
            if answer.startswith(f"{who}は") and answer.endswith("に住んでいます。"):
                assert answer == f"{who}は{where}に住んでいます。"
                checked["home"] += 1
        for shop, day in closed.items():
            if answer.startswith(f"{shop}の休みは"):
                assert answer == f"{shop}の休みは{day}です。"
                checked["closed"] += 1
        for ware, price in prices.items():
            if answer.startswith(f"{ware}は一"):
                assert answer.endswith(f"{price}円です。")
                checked["price"] += 1
    assert min(checked.values()) > 20
    assert len(checked) == 3
