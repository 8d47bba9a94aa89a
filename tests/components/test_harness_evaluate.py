"""A task of lm-eval in a recipe: what `evaluate` leaves, what it depends on, and how models are compared by it."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from components.comparison import compare
from components.evaluate import evaluate
from components.graph import plan_to
from components.manifest import file_hash, read_manifest
from components.measures import measures_of
from components.outcomes import Refused
from components.paths import payload
from components.recipes import Library
from components.scoring import tasks_of, tasks_today
from components.standard_errors import standard_errors
from flows import scoreboard
from tests.components.small_release import REJECTED_ID, make_project

PROMPT = Path("recipes/tasks/harness/order/1.0.yaml")
TASK_FILE = """
task: order-1.0
test_split: test
num_fewshot: 0
output_type: multiple_choice
doc_to_text: "文:"
doc_to_choice: "{{[text[:8], text[7::-1]]}}"
doc_to_target: 0
target_delimiter: ""
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {fields: [text], gold: text}
"""
SECTION = {
    "kind": "harness",
    "data": "items",
    "tasks": [
        {"task": "order", "version": "1.0", "shots": 0, "corpus": "town"},
        {"task": "jnli", "version": "0.2", "shots": 0},
    ],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory):
    from tests.conftest import ROOT

    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        PROMPT.parent.mkdir(parents=True)
        PROMPT.write_text(TASK_FILE, encoding="utf-8")
        (PROMPT.parent.parent / "jnli").symlink_to(ROOT / "recipes" / "tasks" / "harness" / "jnli")
        Path("recipes/tasks/town-order.yaml").write_text(yaml.safe_dump(SECTION), encoding="utf-8")
        for name in ("tiny", "tiny-neox"):
            place = Path(f"recipes/{name}.yaml")
            recipe = yaml.safe_load(place.read_text(encoding="utf-8"))
            recipe["evaluate"] = {"tasks": ["town-order"]}
            place.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        Path("data/items").mkdir()
        evaluate("tiny")
        evaluate("tiny-neox")
        yield root


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def told(name: str) -> dict:
    return json.loads((payload("evaluate", name) / "scores.json").read_text(encoding="utf-8"))


def items_of(name: str):
    return pq.read_table(payload("evaluate", name) / "items.parquet")


def test_accepted_records_are_items_and_what_is_missing_is_told_beside_the_totals() -> None:
    names = {row["item"] for row in items_of("tiny").to_pylist()}
    assert names == {f"order/doc-{number}" for number in range(35, 40)}
    assert f"order/{REJECTED_ID}" not in names
    [note] = told("tiny")["notes"]["town-order"]
    assert note.startswith("jnli is missing: data/items/jnli/validation.jsonl is not here")
    totals = told("tiny")["tasks"]["town-order"]
    assert totals["fixed/average"] == totals["fixed/order/acc"]


def test_prompts_and_raw_items_are_what_the_scores_depend_on() -> None:
    parents = read_manifest("evaluate", "tiny").parents
    assert parents[PROMPT.as_posix()] == file_hash(PROMPT)
    assert {"data/items", "recipes/tasks/harness/jnli/0.2.yaml", "recipes/tasks/harness/jnli/data.yaml"} <= set(parents)
    stage = plan_to(Library(), "evaluate", "tiny")[-1]
    assert {PROMPT.as_posix(), "data/items", payload("ingest", "town").as_posix()} <= set(stage.deps)


def test_another_prompt_or_other_items_make_the_scores_those_of_another_task() -> None:
    before = tasks_of(read_manifest("evaluate", "tiny"))["town-order"].digest
    library = Library()
    assert tasks_today(library, library.read("recipe", "tiny"))["town-order"].digest == before
    for place, text in ((PROMPT, TASK_FILE + "# a word\n"), (Path("data/items/new.jsonl"), "{}\n")):
        kept = place.read_text(encoding="utf-8") if place.is_file() else None
        place.write_text(text, encoding="utf-8")
        assert tasks_today(library, library.read("recipe", "tiny"))["town-order"].digest != before
        place.unlink() if kept is None else place.write_text(kept, encoding="utf-8")


def test_two_models_are_compared_on_the_tasks_that_have_data() -> None:
    measures = measures_of({"town-order": Library().read("task", "town-order")})
    [test] = compare(items_of("tiny"), items_of("tiny-neox"), measures).tests
    assert (test.measure.metric, test.num_items) == ("fixed/order/acc", 5)


def test_every_score_has_its_standard_error_and_the_average_that_of_its_parts() -> None:
    section = Library().read("task", "town-order")
    errors = standard_errors(items_of("tiny"), "town-order", section.MEASURES)
    scores = {key for key in told("tiny")["tasks"]["town-order"] if key.startswith(("fixed/", "paper/"))}
    assert {"fixed/order/acc", "fixed/order/acc_norm", "paper/order/acc_norm"} < scores
    assert errors.keys() == {key for key in scores if not key.rpartition("/")[2].startswith("num_")}
    assert errors["fixed/average"] == errors["fixed/order/acc"]
    for metric in ("fixed/order/acc", "paper/order/acc_norm"):
        values = [row["value"] for row in items_of("tiny").to_pylist() if row["metric"] == metric]
        assert errors[metric] == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)))


def test_the_table_of_scores_has_these_errors_too() -> None:
    rows = {row.metric: row.error for row in scoreboard.rows_of("tiny") if row.task == "town-order"}
    section = Library().read("task", "town-order")
    expected = standard_errors(items_of("tiny"), "town-order", section.MEASURES)
    assert {metric: error for metric, error in rows.items() if error is not None} == expected


def test_raw_items_that_are_not_here_are_refused_before_work(project: Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "recipes").symlink_to(project / "recipes")
    (tmp_path / "artifacts").symlink_to(project / "artifacts")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=r"data/items is not here, and a task of the recipe reads it"):
        evaluate("tiny")
