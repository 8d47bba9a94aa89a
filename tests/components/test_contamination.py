"""Items of tasks looked for in training data: by brute force, by hand, and through evaluate."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components import contamination, paths
from components.contamination import Looked, totals_of
from components.evaluate import evaluate
from components.foreign_schema import Contamination
from components.manifest import read_manifest
from components.measures import Measure
from components.modalities.text import overlap
from components.modalities.text.schema import Harness, PreferenceAccuracy
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records
from tests.components.small_release import make_project
from tests.conftest import ROOT


def brute(text: str, length: int) -> set[str]:
    """The stretches of a text, as Python's own strings."""
    import unicodedata

    plain = "".join(each for each in unicodedata.normalize("NFKC", text).casefold() if each.isalnum())
    return {plain[start : start + length] for start in range(len(plain) - length + 1)}


@pytest.mark.parametrize("length", [1, 2, 3, 15, 24])
def test_equal_stretches_have_equal_hashes_and_others_others(length: int) -> None:
    generator = np.random.default_rng(length)
    points = generator.integers(0x3041, 0x3051, 3000).astype(np.uint32)
    text = "".join(map(chr, points))
    found = overlap.hashes_of(points, length)
    stretches = [text[start : start + length] for start in range(len(text) - length + 1)]
    assert len(found) == len(stretches)
    assert len(dict(zip(stretches, found.tolist(), strict=True))) == len(set(found.tolist())) == len(set(stretches))


def test_what_is_found_is_what_python_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "CHUNK_CHARS", 50)  # many passes
    generator = np.random.default_rng(0)
    words = ["太郎は", "駅で", "本を", "読んだ。", "ＡＢＣ ", "abc", "恵子が", "１２３", "123", "、"]
    texts = ["".join(generator.choice(words, 12)) for _ in range(200)]
    items = {f"i{number}": [text] for number, text in enumerate(texts[:60])}
    index = overlap.Index(items, 8, 8)
    [seen] = overlap.look([index], texts[60:])
    training = set().union(*(brute(text, 8) for text in texts[60:]))
    expected = {item: len(brute(text, 8) & training) / len(brute(text, 8)) for item, [text] in items.items()}
    assert index.shares(seen) == pytest.approx(expected)
    assert 0 < sum(expected.values()) < len(expected)


def test_width_case_and_punctuation_do_not_hide_an_item() -> None:
    index = overlap.Index({"a": ["東京タワーの高さは333メートルです。"]}, 10, 10)
    [seen] = overlap.look([index], ["「東京ﾀﾜｰ」の、高さは　３３３メートル\nです！"])
    assert index.shares(seen) == {"a": 1.0}


def test_no_stretch_goes_from_one_text_into_the_next() -> None:
    index = overlap.Index({"a": ["あいうえおかきくけこ"]}, 10, 10)
    [seen] = overlap.look([index], ["あいうえお", "かきくけこ"])
    assert index.shares(seen) == {"a": 0.0}


def test_the_length_is_the_fifth_percentile_within_bounds_and_shorter_items_are_not_looked_for() -> None:
    items = {f"i{n}": ["あ" * 10] if n == 0 else ["い" * 18 + str(n)] for n in range(40)}
    index = overlap.Index(items, 15, 24)
    assert index.num_chars == 19  # the second shortest of 40 has 18 + 1
    [seen] = overlap.look([index], ["あ" * 100])
    assert "i0" not in index.shares(seen)
    assert overlap.Index({"a": ["あ" * 100]}, 15, 24).num_chars == 24
    assert overlap.Index({"a": ["あ" * 3]}, 15, 24).num_chars == 15
    assert overlap.Index({}, 15, 24).shares(np.zeros(0, bool)) == {}


def test_the_clean_score_leaves_contaminated_items_out() -> None:
    rows = [
        {"task": "t", "item": item, "metric": metric, "value": value}
        for item, bits, chars in (("a", 10.0, 5.0), ("b", 40.0, 10.0), ("c", 90.0, 30.0))
        for metric, value in (("bits", bits), ("num_characters", chars))
    ]
    measure = Measure("bits", "lower", per="num_characters", total="bits_per_character")
    found = totals_of(pa.Table.from_pylist(rows), "t", (measure,), {"a": 0.2, "b": 0.7, "c": 0.69}, Contamination())
    assert found == {
        "num_looked_for": 3,
        "num_not_looked_for": 0,
        "num_contaminated": 1,
        "contaminated_share": pytest.approx(1 / 3),
        "bits_per_character_clean": pytest.approx(100 / 35),
    }
    whole = dict.fromkeys(("a", "b", "c"), 0.0)
    nothing = totals_of(pa.Table.from_pylist(rows), "t", (measure,), whole, Contamination())
    assert nothing == {
        "num_looked_for": 3,
        "num_not_looked_for": 0,
        "num_contaminated": 0,
        "contaminated_share": 0.0,
    }


def test_an_item_that_was_not_looked_for_is_not_called_clean() -> None:
    rows = [
        {"task": "t", "item": item, "metric": "is_right", "value": value}
        for item, value in {"a": 1, "b": 0, "c": 1, "d": 1}.items()
    ]
    items, measure = pa.Table.from_pylist(rows), Measure("is_right", "higher")
    found = totals_of(items, "t", (measure,), {"a": 0.0, "b": 0.0, "c": 1.0}, Contamination())
    assert (found["num_looked_for"], found["num_not_looked_for"], found["num_contaminated"]) == (3, 1, 1)
    assert found["is_right_clean"] == 0.5
    assert totals_of(items, "t", (measure,), {"a": 0.0, "b": 0.0}, Contamination())["is_right_clean"] == 0.5
    found = totals_of(items, "t", (measure,), {}, Contamination())
    assert found == {"num_looked_for": 0, "num_not_looked_for": 4, "num_contaminated": 0}


def test_a_clean_average_is_over_the_tasks_that_have_a_clean_item() -> None:
    values = {"quiz/1": 1.0, "quiz/2": 0.0, "sums/1": 1.0, "sums/2": 1.0, "sums/3": 0.0, "long/1": 1.0}
    rows = [
        {"task": "t", "item": item, "metric": f"fixed/{item.split('/')[0]}/{metric}", "value": value}
        for item, value in values.items()
        for metric in ("acc", "acc_norm")
    ]
    section = Harness.model_validate(
        {
            "kind": "harness",
            "sets": ["fixed"],
            "tasks": [{"task": task, "version": "1.0", "shots": 0} for task in ("quiz", "sums", "long", "none")],
        }
    )
    shares = {"quiz/1": 0.9, "quiz/2": 0.1, "sums/1": 0.0, "sums/2": 0.0, "sums/3": 0.0, "long/1": 1.0}
    found = totals_of(pa.Table.from_pylist(rows), "t", section.MEASURES, shares, Contamination())
    assert (found["fixed/quiz/acc_clean"], found["fixed/quiz/acc_norm_clean"]) == (0.0, 0.0)
    assert found["fixed/sums/acc_clean"] == pytest.approx(2 / 3)
    assert "fixed/long/acc_clean" not in found
    assert found["fixed/average_clean"] == pytest.approx(1 / 3)
    assert found["fixed/num_tasks_clean"] == 2


def test_a_short_question_is_looked_for_with_its_choices_and_a_long_one_without_them() -> None:
    items = {
        "short": ["駅はどこ", "北の町の市場", "南の町の港", "西の山"],
        "long": ["この町でいちばん古い建物はどれでしょうか", "駅", "港", "山"],
        "long choice": ["それは何", "あいうえおかきくけこさしすせそたちつて", "駅", "港"],
        "too short": ["駅は", "北"],
    }
    index = overlap.Index(items, 12, 12)
    seen_in = lambda text: index.shares(overlap.look([index], [text])[0])  # noqa: E731
    assert seen_in("").keys() == {"short", "long", "long choice"}
    assert seen_in("Q. 駅はどこ？ 北の町の市場、南の町の港、西の山")["short"] == 1.0
    assert seen_in("この町でいちばん古い建物はどれでしょうか。答えは山です。")["long"] == 1.0
    assert seen_in("あいうえおかきくけこさしすせそたちつて")["long choice"] == 1.0


def test_contaminated_items_are_named_in_a_note_and_listed_for_a_person(tmp_path: Path) -> None:
    shares = {f"doc-{number}": number / 20 for number in range(21)}
    rows = [{"task": "t", "item": item, "metric": "accuracy", "value": 1.0} for item in shares]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    (tmp_path / "scores.json").write_text('{"tasks": {"t": {}}, "notes": {"t": ["before"]}}')
    looked = Looked(shares, 24, {"doc-20": "駅の前に | 店がある"})
    task = PreferenceAccuracy(kind="preference-accuracy", corpus="town")
    contamination.add_to(tmp_path, Contamination(min_share=0.5), {"t": task}, {"t": looked})
    before, note = json.loads((tmp_path / "scores.json").read_text())["notes"]["t"]
    assert before == "before"
    assert note.startswith("11 of the 21 items that were looked for stand in the training data: `doc-20` (100%), ")
    assert "`doc-11` (55%) and 1 more. contaminated.md beside the scores shows them." in note
    marked = {row["item"] for row in pq.read_table(tmp_path / "items.parquet").to_pylist() if row["value"] == 1.0}
    assert marked >= set(shares)
    page = contamination.page(Contamination(min_share=0.5), {"t": looked})
    assert "## t: 11 of 21 items" in page
    assert page.count("| `doc-") == 11
    assert "| `doc-20` | 100% | 駅の前に \\| 店がある |" in page
    assert contamination.page(Contamination(), {"t": Looked({"a": 0.0}, 24)}) == ""


def test_each_part_of_a_task_has_its_own_share() -> None:
    shares = {"quiz/1": 0.9, "quiz/2": 0.1, "sums/1": 0.0, "sums/2": 0.0}
    rows = [{"task": "t", "item": item, "metric": "fixed/quiz/acc", "value": 1.0} for item in shares]
    found = totals_of(pa.Table.from_pylist(rows), "t", (), shares, Contamination())
    assert {key: value for key, value in found.items() if key.endswith("contaminated_share")} == {
        "contaminated_share": 0.25,
        "quiz/contaminated_share": 0.5,
        "sums/contaminated_share": 0.0,
    }
    assert (found["quiz/num_looked_for"], found["quiz/num_contaminated"]) == (2, 1)


# ---- through the verb ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        evaluate("tiny")
        yield root


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def read(name: str) -> tuple[dict[str, float], dict[str, float]]:
    folder = paths.payload("evaluate", name)
    totals = json.loads((folder / "scores.json").read_text())["tasks"]["town-held-out"]
    rows = pq.read_table(folder / "items.parquet").to_pylist()
    return totals, {row["item"]: row["value"] for row in rows if row["metric"] == contamination.SEEN}


def test_evaluate_lists_what_each_item_shares_with_the_train_split() -> None:
    totals, shares = read("tiny")
    length = read_manifest("evaluate", "tiny").details["contamination"]["ngram_chars"]["town-held-out"]
    train = set().union(*(brute(row["text"], length) for row in iterate_records("town", ["text"], splits={"train"})))
    texts = {row["id"]: brute(row["text"], length) for row in iterate_records("town", ["text"], splits={"test"})}
    assert shares == pytest.approx({item: len(own & train) / len(own) for item, own in texts.items() if own})
    bad = [item for item, share in shares.items() if share >= 0.7]
    assert totals["num_contaminated"] == len(bad)
    assert totals["contaminated_share"] == len(bad) / len(shares)
    listed = paths.state("evaluate", "tiny") / contamination.PAGE_NAME
    assert listed.is_file() == bool(bad)
    assert all(f"`{item}`" in listed.read_text(encoding="utf-8") for item in bad)
    assert "in the train split of `town`" in contamination.in_words(
        read_manifest("evaluate", "tiny").details["contamination"]
    )


def test_a_corpus_is_read_once_and_never_again_for_the_same_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_words: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(overlap, "look", forbidden)
        evaluate("tiny-neox")
    assert read("tiny-neox")[1] == read("tiny")[1]


def test_a_model_has_seen_what_its_parents_have_seen(project: Path) -> None:
    found = contamination.sources_of(Library(ROOT / "recipes"), "gpt-demo-ppo")  # SFT before it, and a reward model
    assert found.corpora == ["demo-hasty", "demo-instructions", "demo-preferences", "demo-text"]
    assert found.unknown == []
    write(project, "theirs", {"source": "path:theirs"})
    assert contamination.sources_of(Library(), "theirs").unknown == ["theirs"]


def write(project: Path, name: str, keys: dict) -> None:
    text = yaml.safe_dump({"family": "gpt", "description": "x", "language": "ja", "licence": "MIT", **keys})
    (project / "recipes" / f"{name}.yaml").write_text(text)


def test_it_is_looked_for_nowhere_if_the_recipe_says_so(project: Path) -> None:
    path = project / "recipes" / "tiny-neox.yaml"
    before = path.read_text()
    recipe = yaml.safe_load(before)
    recipe["evaluate"]["contamination"] = None
    path.write_text(yaml.safe_dump(recipe))
    try:
        evaluate("tiny-neox")
        assert contamination.SHARE not in read("tiny-neox")[0]
        assert "contamination" not in read_manifest("evaluate", "tiny-neox").details
    finally:
        path.write_text(before)


def test_bounds_the_wrong_way_round_are_refused(project: Path) -> None:
    path = project / "recipes" / "odd.yaml"
    recipe = yaml.safe_load((project / "recipes" / "tiny.yaml").read_text())
    recipe["evaluate"]["contamination"] = {"min_ngram_chars": 30}
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(Refused, match="min_ngram_chars is larger"):
        Library().read("recipe", "odd")
    path.unlink()


def test_nothing_is_said_where_nothing_was_looked_for() -> None:
    assert contamination.in_words({}) == ""
    assert "unknown as far as `theirs` goes" in contamination.in_words({"unknown": ["theirs"], "ngram_chars": {}})
    assert Looked({}, 24).shares == {}
