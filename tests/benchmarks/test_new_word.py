"""The finding of the paper is told from the scores of three models, and from nothing else."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import new_word, report
from benchmarks.new_word import Column
from components import paths
from components.drawn import write_drawn
from components.manifest import Manifest, writing
from components.outcomes import Refused
from components.recipes import Library
from tests.components.image.small_pictures import file_of, noise
from tests.conftest import ROOT

JUDGE = {"thing": 0.99, "look": 0.96}
FOUND = {
    "sd-demo-base": Column(0.25, 0.01, 0.0, 200, 24),
    "sd-demo-stage1": Column(0.77, 0.03, 0.02, 200, 24),
    "sd-demo": Column(0.98, 0.7, 0.69, 200, 24),
}
IN_ENGLISH = Column(0.9, 0.0, 0.0, 200, 24)


def verdicts(judge=JUDGE, in_english=IN_ENGLISH, **changed):
    """Figure -> (what was found, its verdict)."""
    columns = FOUND | {name.replace("_", "-"): column for name, column in changed.items()}
    rows = new_word.rows_of(judge, columns, in_english)
    return {row.figure: (round(row.ours.median, 6), row.verdict) for row in rows}


def test_each_demand_stands_beside_what_was_found() -> None:
    assert verdicts() == {
        "judge: thing of held-out renders": (0.99, "at least 1: yes"),
        "judge: look of held-out renders": (0.96, "at least 1: yes"),
        "pictures of each column": (200, "at least 1: yes"),
        "before: thing wrong": (0.75, "at least 1: yes"),
        "before: look wrong": (0.99, "at least 1: yes"),
        "after stage 1: thing right": (0.77, "at least 1: yes"),
        "after stage 1: look right, from the base's share": (0.02, "at most 1: yes"),
        "after stage 1: look right, from the base's share in English": (0.03, "at most 1: yes"),
        "after stage 2: thing right": (0.98, "at least 1: yes"),
        "after stage 2: look right": (0.7, "at least 1: yes"),
        "thing and look right in one picture": (0.69, ""),
    }


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"judge": JUDGE | {"look": 0.94}}, {"judge: look of held-out renders"}),
        ({"sd_demo": Column(0.69, 0.7, 0.6, 199, 24)}, {"pictures of each column", "after stage 2: thing right"}),
        ({"sd_demo": Column(0.9, 0.69, 0.6, 200, 24)}, {"after stage 2: look right"}),
        ({"sd_demo_stage1": Column(0.69, 0.03, 0.0, 200, 24)}, {"after stage 1: thing right"}),
        ({"sd_demo_stage1": Column(0.8, 0.055, 0.0, 200, 24)},
         {"after stage 1: look right, from the base's share in English"}),
        ({"in_english": Column(0.9, 0.09, 0.0, 200, 24)},
         {"after stage 1: look right, from the base's share in English"}),
        ({"sd_demo_base": Column(0.31, 0.5, 0.0, 200, 24)},
         {"before: thing wrong", "before: look wrong", "after stage 1: look right, from the base's share"}),
    ],
)  # fmt: skip
def test_a_demand_that_is_not_met_is_told(changed, missed) -> None:
    assert {figure for figure, (_, verdict) in verdicts(**changed).items() if verdict.endswith(": no")} == missed


def test_thing_and_look_are_counted_in_one_picture_too() -> None:
    totals = {"thing_right": 0.75, "look_right": 0.5, "num_pictures": 4.0, "num_prompts": 2.0}
    things, looks = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}, {"d": 1.0, "c": 0.0, "b": 0.0, "a": 1.0}
    assert new_word.column_of(totals, things, looks) == Column(0.75, 0.5, 0.25, 4, 2)


# ---- from files ------------------------------------------------------------------------------------------------------

GROUPS = ("thing", "look", "colour", "count")


def write_evaluated(name: str, shares: dict[str, dict[str, list[int]]], **changed: object) -> None:
    """Scores as `evaluate` leaves them: task -> group -> right or not, picture by picture."""
    sections = {task: Library().read("task", task).model_dump(mode="json") | changed for task in shares}
    with writing(Manifest("evaluate", name, {}, details={"tasks": sections})) as folder:
        place = folder / paths.PAYLOAD["evaluate"]
        place.mkdir()
        items: dict[str, list] = {"task": [], "item": [], "metric": [], "value": []}
        totals, drawn = {}, []
        for task, groups in shares.items():
            count = len(groups["thing"])
            totals[task] = {f"{group}_right": sum(own) / count for group, own in groups.items()}
            totals[task] |= {"num_pictures": count, "num_prompts": 2}
            for group, own in groups.items():
                rows = [(task, f"p{place}", f"{group}_is_right", float(value)) for place, value in enumerate(own)]
                for key, column in zip(items, zip(*rows, strict=True), strict=True):
                    items[key] += column
            drawn += [
                {
                    "task": task,
                    "item": f"p{n}",
                    "prompt": f"蛇の目 {n % 2}",
                    "seed": n,
                    "picture": file_of(noise(64, 64)),
                }
                for n in range(count)
            ]
        (place / "scores.json").write_text(json.dumps({"tasks": totals}))
        pq.write_table(pa.table(items), place / "items.parquet")
        write_drawn(drawn, place)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's recipes, and what four evaluations left."""
    shutil.copytree(ROOT / paths.RECIPES, tmp_path / paths.RECIPES)
    monkeypatch.chdir(tmp_path)
    accuracies = {f"{group}_accuracy": share for group, share in zip(GROUPS, (1, 0.99, 0.98, 0.97), strict=True)}
    with writing(Manifest("evaluate", "scene-judge-demo", {})) as folder:
        (folder / paths.PAYLOAD["evaluate"]).mkdir()
        scores = {"tasks": {"demo-judge-marks": accuracies | {"num_pictures": 1_000}}}
        (folder / paths.PAYLOAD["evaluate"] / "scores.json").write_text(json.dumps(scores))
    asked, english = new_word.ASKED, new_word.IN_ENGLISH
    write_evaluated("sd-demo-base", {asked: {"thing": [0, 1, 0, 0], "look": [0] * 4},
                                     english: {"thing": [1] * 4, "look": [0] * 4}})  # fmt: skip
    write_evaluated("sd-demo-stage1", {asked: {"thing": [1, 1, 1, 0], "look": [0] * 4}})
    write_evaluated("sd-demo", {asked: {"thing": [1, 1, 1, 1], "look": [1, 0, 1, 1]}})
    for verb, name in (("pretrain", "sd-demo-base"), ("align", "sd-demo-stage1"), ("align", "sd-demo")):
        scheduler = paths.payload(verb, name) / "scheduler" / "scheduler_config.json"
        scheduler.parent.mkdir(parents=True)
        scheduler.write_text('{"_class_name": "DDIMScheduler"}')
    return tmp_path


def test_scores_that_are_there_become_a_table_with_a_picture_beside_it(project: Path) -> None:
    result = new_word.measure(as_they_are=True)
    missed = [row.figure for row in result.rows if row.verdict.endswith(": no")]
    assert missed == ["pictures of each column"]
    assert [row.ours.median for row in result.rows[-3:]] == [1.0, 0.75, 0.75]
    page = report.save(result, project / "results").read_text(encoding="utf-8")
    assert "4 pictures a column ask for only 2 different prompts" in page
    assert "DDIMScheduler, 20 steps, guidance 3; the seed of a picture is a hash of the task's seed 0" in page
    assert "sd-demo-stage1: thing right in 0.75, look in 0, both in 0." in page
    assert "asked in English for the thing alone: thing right in 1, look in 0" in page
    assert "![before, after stage 1, after stage 2](new-word.svg)" in page
    svg = (project / "results" / "new-word.svg").read_text(encoding="utf-8")
    assert svg.count("<image") == 2 * 3
    assert ">sd-demo-stage1</text>" in svg
    assert "svg" not in json.loads((project / "results" / "new-word.json").read_text(encoding="utf-8"))["measured"]


@pytest.mark.usefixtures("project")
def test_columns_of_other_settings_and_scores_that_are_missing_are_refused() -> None:
    write_evaluated("sd-demo", {new_word.ASKED: {"thing": [1] * 4, "look": [1] * 4}}, num_steps=50)
    with pytest.raises(Refused, match="'sd-demo' and 'sd-demo-base' were scored on 'demo-sd-new-word' with other"):
        new_word.measure(as_they_are=True)
    shutil.rmtree(paths.state("evaluate", "sd-demo"))
    with pytest.raises(Refused, match=r"has no scores of demo-sd-new-word here\. Run: hiraku release sd-demo"):
        new_word.measure(as_they_are=True)
