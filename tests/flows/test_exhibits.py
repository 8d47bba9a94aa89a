"""What the pages of the tracking server show of a release, and `hiraku compare`, on a real server and toy stages."""

import json
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from components import remembered, run_page, tracking
from components.outcomes import Refused
from flows import compare, exhibits, gauges, mirror
from flows.launch import StageStopped
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import ancestors
from tests.flows.test_release import runs_of


def printed(found: compare.Comparison) -> list[str]:
    """The lines of a comparison."""
    console = Console(file=StringIO(), width=160)
    with console.capture() as captured:
        compare.show(found, console)
    return captured.get().splitlines()


def row_of(lines: list[str], label: str) -> list[str]:
    """The cells behind a label."""
    return next(line for line in lines if line.startswith(f"{label} ")).removeprefix(label).split()


def table_of(run, path: str) -> list[list]:
    """The rows of a table that MLflow's page finds by the run's tag."""
    assert {"path": path, "type": "table"} in json.loads(run.data.tags[run_page.TABLES])
    return json.loads(Path(tracking.client().download_artifacts(run.info.run_id, path)).read_text())["data"]


def edit(path: Path, old: str, new: str) -> None:
    """Change one key of a recipe."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.slow
def test_the_pages_show_what_ran_what_came_out_and_what_it_cost_and_a_resumed_stage_shows_it_once(
    project: Project, flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(gauges, "EVERY_SECONDS", 0.2)
    recipe = Path("recipes") / f"{RECIPE}.yaml"
    edit(recipe, "num_steps: 20", "num_steps: 10")
    project.write_graph(pretrain="1")
    stopped: list[int] = []

    def stop_once(line: str) -> None:
        if line == "step 5" and not stopped:
            stopped.append(project.started()[-1])
            ancestors(psutil.Process(stopped[0]))[0].terminate()

    with pytest.raises(StageStopped):
        flows.release(RECIPE, stop_once)
    first = flows.release(RECIPE)
    assert first.troubles == []
    (parent, broken) = runs_of("release")
    assert (parent.info.status, broken.info.status) == ("FINISHED", "KILLED")
    client = tracking.client()
    trained = next(run for run in runs_of("stage") if run.data.tags["verb"] == "pretrain")

    # Curves: once each, by step and by tokens.
    assert len(project.started("pretrain")) == 2
    for key in ("pretrain/loss", "pretrain/tokens_seen"):
        points = client.get_metric_history(trained.info.run_id, key)
        assert [point.step for point in points] == list(range(10))
    for key in trained.data.metrics:
        steps = [point.step for point in client.get_metric_history(trained.info.run_id, key)]
        assert sorted(steps) == sorted(set(steps)), key

    # Cost: ten steps of 100 tokens at 1,000 a second and 5 MFLOP/s; the seconds of both tries together.
    assert trained.data.metrics["pretrain/training_seconds"] == pytest.approx(1.0)
    assert trained.data.metrics["pretrain/training_flops"] == pytest.approx(5e6)
    assert parent.data.metrics["pretrain/mean_tokens_per_second"] == pytest.approx(1000.0)
    assert trained.data.metrics["system/cpu_utilization_percentage"] >= 0
    assert trained.data.metrics["system/system_memory_usage_megabytes"] > 100
    assert trained.data.metrics["system/stage_memory_usage_megabytes"] > 1

    # Data and code.
    assert parent.data.params["pretrain.num_steps"] == "10"
    assert parent.data.params["encoder.vocab_size"] == parent.data.params["encoder.vocab_size"].strip()
    assert parent.data.params["corpora.smoke-text.source.kind"] == "files"
    assert parent.data.tags["mlflow.source.name"] == f"hiraku release {RECIPE}"
    for run in (parent, trained):
        (used,) = run.inputs.dataset_inputs
        marks = {tag.key: tag.value for tag in used.tags}
        assert used.dataset.name == "smoke-text"
        assert len(used.dataset.digest) == 36
        assert marks["content_hash"].startswith(used.dataset.digest)
        assert marks["mlflow.data.context"] == "training"
    read = {
        run.data.tags["verb"]: [each.dataset.name for each in run.inputs.dataset_inputs] for run in runs_of("stage")
    }
    assert read == {
        verb: [] if verb == "package" else ["smoke-text"]
        for verb in ("ingest", "validate", "fit", "shard", "pretrain", "evaluate", "package")
    }
    found = client.search_runs([parent.info.experiment_id], "dataset.name = 'smoke-text' and tags.verb = 'release'")
    assert [run.info.run_id for run in found] == [parent.info.run_id]

    # Notes, tables and a picture.
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(f"**release {RECIPE}** done")
    assert "| Smoke-held-out perplexity | 9.9 |" in note
    assert f"[pretrain {RECIPE}](#/experiments/{trained.info.experiment_id}/runs/{trained.info.run_id})" in note
    assert "stopped" in broken.data.tags["mlflow.note.content"]
    note = trained.data.tags["mlflow.note.content"]
    assert "| Training seconds | 1 |" in note
    assert f"runs/{parent.info.run_id}" in note
    assert table_of(parent, exhibits.SCORES) == [["smoke-held-out", "perplexity", 9.9, None]]
    assert table_of(trained, exhibits.PREVIEWS) == [[10, "> once"], [1000, "> upon"]]
    drawing = Path(client.download_artifacts(trained.info.run_id, exhibits.CURVE_NAME)).read_text()
    assert drawing.startswith("<svg")

    # Another run with one other key: it stands first, and the better score is marked.
    edit(recipe, "num_steps: 10", "num_steps: 12")
    project.write_graph(pretrain="1", evaluate="0.5")
    flows.release(RECIPE)
    lines = printed(compare.compare(RECIPE, 2))
    newest, before = runs_of("release")[:2]
    assert row_of(lines, RECIPE) == [newest.info.run_id[:8], before.info.run_id[:8]]
    begin = next(place for place, line in enumerate(lines) if line.startswith("parameters that differ"))
    assert lines[begin + 1].split() == ["pretrain.num_steps", "12", "10"]
    assert lines[begin + 2].strip() == ""
    assert row_of(lines, "evaluate/smoke-held-out/perplexity") == ["*", "9.5", "9.9"]
    speeds = row_of(lines, "pretrain/mean_tokens_per_second")
    assert [float(cell.replace(",", "")) for cell in speeds] == pytest.approx([1000.0] * 2), "of a ready stage too"
    assert row_of(lines, "version")[-2:] == ["1", "(challenger)"]
    assert len(compare.compare(RECIPE, 9).runs) == 3


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest_and_one_without_runs_plainly(
    project: Project, flows
) -> None:
    with pytest.raises(Refused, match="Did you mean 'smoke-gpt2'"):
        compare.compare("smoke-gtp2", 5)
    with pytest.raises(Refused, match="--last is 0"):
        compare.compare(RECIPE, 0)
    (line,) = printed(compare.compare(RECIPE, 5))
    assert line.startswith("No run of 'smoke-gpt2'")
    assert line.endswith("Run: hiraku release smoke-gpt2")


def test_the_best_of_a_row_is_the_lowest_loss_and_the_highest_speed_and_nobody_where_all_are_alike() -> None:
    from components.recipes import Library

    runs = [
        remembered.Remembered(str(n), "release", "FINISHED", None, 1.0, {}, metrics, {})
        for n, metrics in enumerate(
            [
                {"pretrain/valid_loss": 2.0, "pretrain/mean_tokens_per_second": 5.0},
                {"pretrain/valid_loss": 1.0, "pretrain/mean_tokens_per_second": 5.0},
                {},
            ]
        )
    ]
    library = Library(Path("tests/recipes"))
    loss = compare._measured(library, "pretrain/valid_loss", runs)
    assert (loss.best, loss.cells) == (1, ("2", "1", compare.NOTHING))
    assert compare._measured(library, "pretrain/mean_tokens_per_second", runs).best is None
    assert compare.is_lower_better(library, "pretrain/mean_tokens_per_second") is False
    assert compare.is_lower_better(library, "pretrain/gradient_norm") is None
    assert compare.is_lower_better(library, "evaluate/smoke-held-out/perplexity") is True
    shipped = Library(ROOT / "recipes")
    assert compare.is_lower_better(shipped, "evaluate/demo-samples/repeated_share") is True
    assert compare.is_lower_better(shipped, "evaluate/demo-samples/distinct_2") is False
    assert compare.is_lower_better(library, "evaluate/smoke-held-out/num_documents") is None


def test_what_nvidia_smi_says_goes_by_the_names_of_mlflow_and_what_it_cannot_tell_is_left_out() -> None:
    assert gauges.gpu_figures("0, 50, 1000, 2000, 100.5, 201.0\n1, 7, 10, 100, [N/A], [N/A]\n") == {
        "gpu_0_utilization_percentage": 50.0,
        "gpu_0_memory_usage_megabytes": pytest.approx(1048.576),
        "gpu_0_memory_usage_percentage": 50.0,
        "gpu_0_power_usage_watts": 100.5,
        "gpu_0_power_usage_percentage": 50.0,
        "gpu_1_utilization_percentage": 7.0,
        "gpu_1_memory_usage_megabytes": pytest.approx(10.48576),
        "gpu_1_memory_usage_percentage": 10.0,
    }
