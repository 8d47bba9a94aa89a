"""The flow with real Prefect, DVC and MLflow on toy stages."""

import json
import shutil
from pathlib import Path

import pytest

from components import tracking
from components.outcomes import Refused
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project


def states(summary) -> dict[str, str]:
    return {row.verb: row.state for row in summary.rows}


def runs_of(kind: str, experiment: str = "language"):
    found = tracking.client().get_experiment_by_name(experiment)
    if found is None:
        return []
    return tracking.client().search_runs([found.experiment_id], f"tags.`hiraku.kind` = '{kind}'")


def test_a_release_runs_what_is_stale_and_remembers_it_and_a_second_one_does_nothing(project: Project, flows) -> None:
    said: list[str] = []
    first = flows.release(RECIPE, said.append)
    verbs = ["ingest", "validate", "fit", "shard", "pretrain", "evaluate", "package"]
    assert states(first) == {**dict.fromkeys(verbs, "ran"), "register": "registered"}
    assert "step 0" in said
    assert first.troubles == []
    (release_run,) = runs_of("release")
    stage_runs = {run.data.tags["verb"]: run for run in runs_of("stage")}
    assert set(stage_runs) == set(verbs)
    assert release_run.info.status == "FINISHED"
    assert release_run.data.tags["git_dirty"] == "true"
    assert release_run.data.metrics["pretrain/loss"] == 1.0
    trained = stage_runs["pretrain"]
    assert trained.info.status == "FINISHED"
    assert trained.data.tags["mlflow.parentRunId"] == release_run.info.run_id
    assert trained.data.tags["flow_run_id"] == first.flow_run_id
    assert trained.data.params == {"seconds": "0.1", "deep.list": "[1, 2]"}
    assert "payload_hash" in trained.data.tags
    kept = {file.path for file in tracking.client().list_artifacts(release_run.info.run_id, "versions")}
    assert "versions/dvc.lock" in kept

    second = flows.release(RECIPE, said.append)
    assert states(second) == {**dict.fromkeys(verbs, "ready"), "register": "ready"}
    assert second.receipt["version"] == first.receipt["version"] == "1"
    assert (len(runs_of("release")), len(runs_of("stage")), len(project.started())) == (1, 7, 7)

    project.write_graph(evaluate="0.2")
    third = flows.release(RECIPE, said.append)
    assert [verb for verb, state in states(third).items() if state == "ran"] == ["evaluate", "package"]
    newest = runs_of("release")[0]
    assert json.loads(newest.data.tags[f"ready.pretrain.{RECIPE}"])["run_id"] == trained.info.run_id


def test_another_clone_takes_results_from_the_run_cache_of_the_remote(
    project: Project, flows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(flows.run_verb("ingest", "smoke-text")) == {"ingest": "ran"}
    clone = Project(tmp_path / "clone", tmp_path / "remote")
    monkeypatch.chdir(clone.folder)
    assert states(flows.run_verb("ingest", "smoke-text")) == {"ingest": "restored"}
    assert clone.started() == []
    assert clone.bytes_of("ingest", "smoke-text") == project.bytes_of("ingest", "smoke-text")
    assert runs_of("stage", "stages") == []


def test_a_cleared_cache_runs_nothing_again_while_the_states_are_there(project: Project, flows, tmp_path: Path) -> None:
    flows.run_verb("ingest", "smoke-text")
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(tmp_path / "remote")
    flows.run_verb("ingest", "smoke-text")
    assert len(project.started()) == 1
    assert any(path.is_file() for path in Path(".dvc/cache/files").rglob("*"))


def test_a_refused_stage_is_never_retried_and_its_reason_reaches_the_person(project: Project, flows) -> None:
    project.write_graph(ingest="0.1 refuse")
    with pytest.raises(Refused, match=r"The toy is refused\. Change its command\."):
        flows.run_verb("ingest", "smoke-text")
    assert len(project.started()) == 1
    (run,) = runs_of("stage", "stages")
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "The toy is refused. Change its command.")


def test_a_killed_stage_is_tried_again_and_the_reason_is_said(project: Project, flows) -> None:
    project.write_graph(ingest="0.1 die")
    said: list[str] = []
    assert states(flows.run_verb("ingest", "smoke-text", said.append)) == {"ingest": "ran"}
    assert len(project.started()) == 2
    assert any("was killed" in line for line in said)


def test_without_a_remote_it_says_that_results_stay_here_and_goes_on(
    tmp_path: Path, flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Project(tmp_path / "alone")
    monkeypatch.chdir(alone.folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    said: list[str] = []
    assert states(flows.run_verb("ingest", "smoke-text", said.append)) == {"ingest": "ran"}
    assert "No DVC remote is configured" in said[0]


def test_runs_whose_process_is_gone_are_swept_at_the_next_start(project: Project, flows) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    tags = {"hiraku.kind": "release", **tracking.process_tags(), "hiraku.process": "1@0.00"}
    dead = tracking.Release("ghost", "stages", tags)
    run_id = dead.open()
    for key, value in tags.items():
        dead.tag(key, value)
    host = tracking.process_tags()["hiraku.host"]
    with get_client(sync_client=True) as client:
        ghost = client.create_flow_run(flows.stage_flow, state=Running(), tags=[f"process:{host}/1@0.00"])
    flows.run_verb("ingest", "smoke-text")
    assert tracking.client().get_run(run_id).info.status == "KILLED"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(ghost.id).state_name == "Crashed"
