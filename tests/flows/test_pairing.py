"""Any two models side by side: on the command line, as a picture, and with a run of MLflow; and scores for a person."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from components import contamination, paths, tracking
from components.comparison import compare
from components.curve import ticks
from components.evaluate import evaluate
from components.measures import Measure
from components.outcomes import Refused
from components.published import our_value, read_tables
from components.recipes import Library
from components.score_charts import Bar, Point, bars, forest, scatter
from components.standard_errors import standard_errors
from flows import exhibits, pairing, scoreboard
from tests.components.small_release import make_project
from tests.conftest import ROOT

PAPER = {"paper/average": 0.25, "paper/num_tasks": 8.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        (root / "recipes/tasks/writes.yaml").write_text(
            yaml.safe_dump({"kind": "samples", "num_samples": 3, "max_new_tokens": 8})
        )
        recipe = yaml.safe_load((root / "recipes/tiny.yaml").read_text())
        recipe["evaluate"] = {"tasks": ["town-held-out", "writes"]}
        (root / "recipes/tiny.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
        evaluate("tiny")
        evaluate("tiny-neox")
        shutil.copytree(ROOT / "recipes/published", root / "recipes/published")
    return root


@pytest.fixture(autouse=True)
def _in_project(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def printed(show) -> str:
    console = Console(file=StringIO(), width=200)
    with console.capture() as captured:
        show(console)
    return captured.get()


def items_of(name: str) -> pa.Table:
    return pq.read_table(paths.payload("evaluate", name) / "items.parquet")


BITS = (Measure("bits", "lower", per="num_characters", total="bits_per_character"),)


def test_two_models_are_compared_as_promotion_does_with_standard_errors() -> None:
    found = pairing.paired("tiny", "tiny-neox")
    expected = compare(items_of("tiny"), items_of("tiny-neox"), {"town-held-out": BITS})
    assert found.comparison == expected
    assert found.left_out == {"writes": "only tiny was scored on it"}
    [row] = pairing.rows_of(found)
    for cell, name in zip(row[3:5], ("tiny", "tiny-neox"), strict=True):
        value, error = (float(part) for part in cell.split(" ± "))
        assert value == pytest.approx(scoreboard.totals_of(name)["town-held-out"]["bits_per_character"], rel=1e-3)
        own = standard_errors(items_of(name), "town-held-out", BITS)["bits_per_character"]
        assert error == pytest.approx(own, rel=0.06)
    text = printed(lambda console: pairing.show(found, console))
    assert "writes is left out: only tiny was scored on it" in text
    assert "Paired on the same items" in text


def test_a_task_that_was_scored_otherwise_is_left_out_and_nothing_common_is_refused(made: Path) -> None:
    path = made / "recipes/tasks/town-held-out.yaml"
    before, saved = path.read_text(), paths.state("evaluate", "tiny-neox")
    shutil.copytree(saved, made / "saved")
    path.write_text(before + "stride_share: 0.25\n")
    try:
        evaluate("tiny-neox")
        with pytest.raises(Refused, match="town-held-out: its section, its data or its code differ"):
            pairing.paired("tiny", "tiny-neox")
    finally:
        path.write_text(before)
        shutil.rmtree(saved)
        shutil.move(made / "saved", saved)


def test_a_model_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(Refused, match="tiny-neox"):
        pairing.paired("tiny", "tiny-neo")


def test_the_picture_and_a_run_of_mlflow_hold_the_comparison(
    made: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.HOME.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_database, tracking.HOME / "mlflow.db")
    found = pairing.paired("tiny", "tiny-neox")
    said = pairing.keep(found, tmp_path / "sub" / "pair.svg")
    assert "pair.svg" in said
    assert (tmp_path / "sub" / "pair.svg").read_text() == found.picture
    run_id = re.search(r"run (\w{8})", said)
    assert run_id is not None
    experiment = tracking.client().get_experiment_by_name(pairing.EXPERIMENT)
    [run] = tracking.client().search_runs([experiment.experiment_id])
    assert run.info.run_id.startswith(run_id.group(1))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["gain/town-held-out/bits"] == pytest.approx(found.comparison.tests[0].gain)
    kept = Path(tracking.client().download_artifacts(run.info.run_id, pairing.PICTURE)).read_text()
    assert kept == found.picture


def circles(svg: str) -> list[tuple[float, float, str]]:
    root = ET.fromstring(svg)
    name = "{http://www.w3.org/2000/svg}circle"
    return [(float(each.get("cx")), float(each.get("cy")), str(each.get("fill"))) for each in root.iter(name)]


def test_a_forest_plot_puts_gains_right_of_nothing_and_losses_left() -> None:
    rows = [
        {"task": task, "item": str(item), "metric": "is_right", "value": float(value)}
        for task, values in (("up", [0] * 10 + [1] * 10), ("down", [1] * 20), ("same", [1, 0] * 10))
        for item, value in enumerate(values)
    ]
    others = [{**row, "value": {"up": 1.0, "down": 0.0, "same": row["value"]}[row["task"]]} for row in rows]
    measures = {task: (Measure("is_right", "higher"),) for task in ("up", "down", "same")}
    found = compare(pa.Table.from_pylist(rows), pa.Table.from_pylist(others), measures)
    (up, _, up_colour), (down, _, down_colour), (same, _, same_colour) = circles(forest(found, "a", "b"))
    assert down < same < up
    assert len({up_colour, down_colour, same_colour}) == 3
    assert forest(found, "<a>", "b&") == forest(found, "<a>", "b&")


def test_a_larger_model_stands_further_right_and_a_better_one_higher() -> None:
    points = [Point("small", 10**7, 20.0, False), Point("large", 10**9, 40.0, False), Point("ours", 10**8, 30.0, True)]
    drawn = circles(scatter(points, "t", "y"))
    (small_x, small_y, grey), (large_x, large_y, _), (ours_x, ours_y, colour) = drawn
    assert small_x < ours_x < large_x
    assert small_y > ours_y > large_y
    assert grey != colour
    assert ticks(20.0, 40.0)[0] <= 20.0


def test_bars_are_as_long_as_their_scores() -> None:
    svg = bars({"town: accuracy": [Bar("a", 0.5, 0.05), Bar("b", 1.0)]}, "t")
    root = ET.fromstring(svg)
    _, first, second = (float(each.get("width")) for each in root.iter("{http://www.w3.org/2000/svg}rect"))
    assert second == pytest.approx(first * 2 * 1.0 / 1.0, rel=0.01)
    assert "0.5 ± 0.05" in svg


# ---- published tables ------------------------------------------------------------------------------------------------


def test_the_published_tables_agree_with_what_recipes_say_and_name_recipes_that_are_there() -> None:
    library = Library(ROOT / "recipes")
    tables = read_tables(ROOT / "recipes")
    assert {"table-2", "table-3", "table-4"} <= tables.keys()
    rows = {row.model: row for row in tables["table-2"].models}
    compared = 0
    for name in library.files["recipe"]:
        for score in getattr(getattr(library.read("recipe", name), "package", None), "published_scores", ()):
            if "table 2" in score.source and score.model in rows:
                assert rows[score.model].values["mean"] == score.value
                compared += 1
    assert compared >= 7
    for row in tables["table-2"].models:
        assert row.recipes
    for table in tables.values():
        for row in table.models:
            for name in row.recipes:
                network = getattr(library.read("recipe", name), "network", None)
                if table is tables["table-2"] and network is not None and network.expected_num_parameters:
                    assert row.num_parameters == network.expected_num_parameters


def test_every_column_of_a_published_table_is_measured_by_tasks_of_the_recipes_in_its_rows() -> None:
    library = Library(ROOT / "recipes")
    for table in read_tables(ROOT / "recipes").values():
        for column in table.columns.values():
            for name in {name for row in table.models for name in row.recipes}:
                tasks = library.read("recipe", name).evaluate.tasks
                assert any(fnmatchcase(task, column.task) for task in tasks), (name, column.task)


def test_a_score_is_beside_a_published_one_of_the_same_task_alone() -> None:
    tables = read_tables(ROOT / "recipes")
    demo = {"paper/average": 0.5, "paper/num_tasks": 1.0}
    of_recogniser = {"csj-eval2-phoneme-errors": {"phoneme_error_rate_beam_max": 0.0707}}
    assert our_value(tables["table-2"].columns["mean"], {"demo-choices": demo}) is None
    assert our_value(tables["table-2"].columns["mean"], {"demo-choices": demo, "japanese-eight-0.2": PAPER}) == 25.0
    assert our_value(tables["table-3"].columns["top_1"], {"demo-compositions": {"top_1": 0.9}}) is None
    assert our_value(tables["table-4"].columns["eval2"], of_recogniser) == pytest.approx(7.07)
    assert our_value(tables["table-4"].columns["eval1"], of_recogniser) is None


def test_the_means_of_the_published_single_tasks_are_those_of_their_own_source() -> None:
    """The averages that the harness prints, from its single scores: 36.92, 41.79, 40.03 for the base models."""
    rows = {row.model: row.values for row in read_tables(ROOT / "recipes")["harness-jp-stable"].models}
    expected = {
        "rinna/japanese-gpt-1b": 36.92, "rinna/japanese-gpt-neox-3.6b": 41.79, "rinna/bilingual-gpt-neox-4b": 40.03,
        "rinna/japanese-gpt-neox-3.6b-instruction-ppo": 46.32, "llama2-7b": 42.96, "llama2-7b-chat": 41.31,
    }  # fmt: skip
    for model, mean in expected.items():
        assert sum(rows[model].values()) / 8 == pytest.approx(mean, abs=0.01)


def test_a_table_with_a_number_in_no_column_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    text = "title: t\nsource: s\ncolumns: {a: {words: w, better: higher}}\nmodels: [{model: m, values: {b: 1}}]\n"
    (folder / "odd.yaml").write_text(text)
    with pytest.raises(Refused, match=r"odd\.yaml is no table.*'values' has b"):
        read_tables(tmp_path)


# ---- scores for a person ---------------------------------------------------------------------------------------------


def test_every_score_that_items_tell_stands_with_its_standard_error() -> None:
    text = printed(lambda console: scoreboard.show("tiny", console))
    assert re.search(r"bits_per_character\s+[\d.]+ ± [\d.]+", text)
    assert "num_" not in text
    markdown = scoreboard.as_markdown("tiny")
    assert "| town-held-out | Bits per character |" in markdown
    assert "in the train split of `town`" in markdown
    assert scoreboard.as_markdown("nobody") == ""
    assert printed(lambda console: scoreboard.show("nobody", console)) == ""


def test_a_run_of_evaluate_keeps_what_was_written_and_pictures_of_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = exhibits.tables("evaluate", "tiny")
    assert len(tables[exhibits.OUTPUTS]["output"]) == 3
    errors = dict(zip(tables[exhibits.SCORES]["metric"], tables[exhibits.SCORES]["standard_error"], strict=True))
    assert errors["bits_per_character"] > 0
    assert errors[contamination.SHARE] is None
    drawn = scoreboard.pictures("tiny")
    assert list(drawn) == [scoreboard.BARS]  # no task of ours is one of the published ones
    assert "tiny-neox" in drawn[scoreboard.BARS]
    totals = {"japanese-eight-0.2": dict(PAPER)}
    monkeypatch.setattr(scoreboard, "totals_of", lambda _name: totals)
    drawn = scoreboard.pictures("tiny")
    assert "tiny 25" in drawn["charts/table-2-mean.svg"]
    assert "japanese-gpt-neox-3.6b 36.6" in drawn["charts/table-2-mean.svg"]
    assert our_value(read_tables()["table-2"].columns["mean"], totals) == 25.0
    totals["japanese-eight-0.2"]["paper/num_tasks"] = 7.0
    assert "tiny (7 of 8 tasks) 25" in scoreboard.pictures("tiny")["charts/table-2-mean.svg"]


def test_an_average_says_over_how_many_tasks_and_what_is_missing_is_named(made: Path) -> None:
    place = paths.payload("evaluate", "short")
    place.mkdir(parents=True)
    totals = {"paper/average": 0.25, "paper/num_tasks": 6.0, "paper/jnli/acc": 0.25}
    totals |= {"paper/average_clean": 0.5, "paper/num_tasks_clean": 1.0}
    told = {"tasks": {"japanese-eight-0.2": totals}, "notes": {"japanese-eight-0.2": ["marc-ja is missing: no file"]}}
    (place / "scores.json").write_text(json.dumps(told))
    shown, markdown = printed(lambda console: scoreboard.show("short", console)), scoreboard.as_markdown("short")
    assert re.search(r"paper/average\s+0\.25 over 6 tasks\n", shown)
    assert re.search(r"paper/average_clean\s+0\.5 over 1 task\n", shown)
    assert "| 0.25 over 6 tasks |" in markdown
    for text in (shown, markdown):
        assert "japanese-eight-0.2: marc-ja is missing: no file" in text
    shutil.rmtree(place.parent)


def test_the_tables_of_a_run_keep_some_of_every_part_of_a_task(made: Path) -> None:
    place = paths.payload("evaluate", "parts")
    place.mkdir(parents=True)
    names = [
        f"{name}/{task}/{item}" for task in ("jnli", "jsquad") for name in ("fixed", "paper") for item in range(150)
    ]
    pq.write_table(
        pa.table({"task": ["eight"] * 600, "item": names, "prompt": names, "output": names}), place / "outputs.parquet"
    )
    metrics = [f"{name}/acc" for name in ("a", "b") for _ in range(250)]
    rows = {"task": ["eight"] * 500, "item": [str(n) for n in range(500)], "metric": metrics, "value": [1.0] * 500}
    pq.write_table(pa.table(rows), place / "items.parquet")
    tables = exhibits.tables("evaluate", "parts")
    parts = Counter(name.rpartition("/")[0] for name in tables[exhibits.OUTPUTS]["item"])
    assert parts == dict.fromkeys(("fixed/jnli", "paper/jnli", "fixed/jsquad", "paper/jsquad"), exhibits.MOST_OUTPUTS)
    assert Counter(tables[exhibits.ITEMS]["metric"]) == dict.fromkeys(("a/acc", "b/acc"), exhibits.MOST_ITEMS)
    shutil.rmtree(place.parent)


def test_parameters_are_counted_from_the_files(made: Path) -> None:
    from models.gpt import convert

    network = convert.load(paths.payload("pretrain", "tiny"))
    assert scoreboard.num_parameters("tiny") == network.num_parameters()
