"""What a model writes by itself: repetition and diversity by hand, and through the task."""

import pyarrow.parquet as pq
import pytest
import yaml

from components import paths
from components.evaluate import evaluate
from components.modalities.text.sampling import distinct, distinct_of_others, repeated_share
from components.outcomes import Refused
from components.scoring import open_model
from flows import scoreboard
from tests.components.small_release import make_project


def test_repetition_counts_stretches_that_came_before() -> None:
    assert repeated_share("いろはにほへとちりぬるを") == 0.0
    assert repeated_share("ああああああああああ") == pytest.approx(2 / 3)  # three stretches of eight, all alike
    assert repeated_share("短い") == 0.0


def test_diversity_is_the_different_ones_by_all() -> None:
    found = distinct(["ああい", "あい"])
    assert found["distinct_1"] == pytest.approx(2 / 5)
    assert found["distinct_2"] == pytest.approx(2 / 3)
    assert "distinct_4" not in found


def test_diversity_of_the_others_is_that_of_all_texts_but_one() -> None:
    texts = ["ああい", "あいうえお", "", "ういあああ"]
    found = distinct_of_others(texts)
    for place in range(len(texts)):
        others = distinct([*texts[:place], *texts[place + 1 :]])
        for length in (1, 2, 4):
            assert found[f"distinct_{length}_of_others"][place] == pytest.approx(others[f"distinct_{length}"])
    assert distinct_of_others(["ああい"]) == {}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        tasks = {
            "writes": {"kind": "samples", "corpus": "town", "prompt_chars": 4, "num_samples": 4, "max_new_tokens": 8},
            "begins": {"kind": "samples", "num_samples": 3, "max_new_tokens": 8},
        }
        for name, section in tasks.items():
            (root / "recipes/tasks" / f"{name}.yaml").write_text(yaml.safe_dump(section))
        recipe = yaml.safe_load((root / "recipes/tiny.yaml").read_text()) | {"evaluate": {"tasks": list(tasks)}}
        (root / "recipes/tiny.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
        evaluate("tiny")
        yield root


def test_what_was_written_stands_beside_its_scores(project, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.chdir(project)
    folder = paths.payload("evaluate", "tiny")
    said = pq.read_table(folder / "outputs.parquet").to_pylist()
    assert [row["task"] for row in said] == ["writes"] * 4 + ["begins"] * 3
    assert all(len(row["prompt"]) == 4 for row in said[:4])
    totals = json.loads((folder / "scores.json").read_text())["tasks"]
    values = {
        (row["task"], row["item"]): row["value"]
        for row in pq.read_table(folder / "items.parquet").to_pylist()
        if row["metric"] == "repeated_share"
    }
    for row in said:
        assert values[row["task"], row["item"]] == pytest.approx(repeated_share(row["output"]))
    own = [row["output"] for row in said if row["task"] == "writes"]
    assert totals["writes"]["distinct_1"] == pytest.approx(distinct(own)["distinct_1"])
    assert 0 <= totals["writes"]["reference_repeated_share"] <= 1
    assert "reference_distinct_1" not in totals["begins"]
    assert "contaminated_share" not in totals["writes"]
    errors = {row.metric: row.error for row in scoreboard.rows_of("tiny") if row.task == "writes"}
    without = {metric for metric, error in errors.items() if error is None}
    assert without == {"num_samples", "characters_per_sample"}


def test_the_same_seed_writes_the_same(project, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.manifest import tree_hash

    monkeypatch.chdir(project)
    before = tree_hash(paths.payload("evaluate", "tiny"))
    evaluate("tiny")
    assert tree_hash(paths.payload("evaluate", "tiny")) == before


def test_prompts_without_room_or_documents_are_refused(project, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.modalities.text.sampling import score
    from components.modalities.text.schema import Samples

    monkeypatch.chdir(project)
    model = open_model("gpt", paths.payload("pretrain", "tiny"), paths.payload("fit", "town-spm"))
    read = lambda *_words, **_keys: iter([{"id": "a", "text": "短い"}])  # noqa: E731
    task = {"kind": "samples", "num_samples": 2, "max_new_tokens": 8}
    with pytest.raises(Refused, match="prompt_chars"):
        list(score(Samples(**task, corpus="town"), model, read, lambda *_: None))
    with pytest.raises(Refused, match="the network's context is 24"):
        list(score(Samples(**task | {"max_new_tokens": 60}), model, read, lambda *_: None))
