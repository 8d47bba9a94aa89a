"""The flow with real Prefect, DVC and MLflow on toy stages."""

import json
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from components import paths, processes, tracking
from components.manifest import Manifest, writing
from components.outcomes import Busy, Refused
from flows import mirror, server, workspace
from flows.launch import StageFailed, StageStopped
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import ancestors, wait_until

INGEST = "dvc.yaml:ingest-smoke-text"
VALIDATE = "dvc.yaml:validate-smoke-text"


def states(summary) -> dict[str, str]:
    return {row.verb: row.state for row in summary.rows}


def runs_of(kind: str, experiment: str = "language"):
    found = tracking.client().get_experiment_by_name(experiment)
    if found is None:
        return []
    return tracking.client().search_runs([found.experiment_id], f"tags.`hiraku.kind` = '{kind}'")


def test_a_release_runs_what_is_stale_and_remembers_it_and_a_second_one_does_nothing(project: Project, flows) -> None:
    said: list[str] = []
    mine = Path("recipes/mine/dvc.lock")
    mine.parent.mkdir()
    mine.write_text("schema: '2.0'\n")
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
    for path in (Path("dvc.lock"), mine):
        kept = tracking.client().download_artifacts(release_run.info.run_id, f"versions/{path}")
        assert Path(kept).read_bytes() == path.read_bytes()

    second = flows.release(RECIPE, said.append)
    assert states(second) == {**dict.fromkeys(verbs, "ready"), "register": "ready"}
    assert second.receipt["version"] == first.receipt["version"] == "1"
    assert (len(runs_of("release")), len(runs_of("stage")), len(project.started())) == (1, 7, 7)

    project.write_graph(evaluate="0.2")
    third = flows.release(RECIPE, said.append)
    assert [verb for verb, state in states(third).items() if state == "ran"] == ["evaluate", "package"]
    newest = runs_of("release")[0]
    assert json.loads(newest.data.tags[f"ready.pretrain.{RECIPE}"])["run_id"] == trained.info.run_id


def test_a_flow_run_has_tags_and_its_tasks_have_none(project: Project, flows) -> None:
    from prefect.client.orchestration import get_client

    done = flows.release(RECIPE, print)
    with get_client(sync_client=True) as client:

        def tasks() -> list[dict]:
            wanted = {"flow_runs": {"id": {"any_": [done.flow_run_id]}}}
            return client.request("POST", "/task_runs/filter", json=wanted).json()

        wait_until(lambda: len(tasks()) >= len(project.started()), "Prefect keeps no tasks")
        assert f"recipe:{RECIPE}" in client.read_flow_run(done.flow_run_id).tags
        assert [each["tags"] for each in tasks()] == [[]] * len(tasks())


def test_the_score_table_of_a_release_is_an_artifact_of_its_flow_run(project: Project, flows) -> None:
    from prefect.client.orchestration import get_client

    done = flows.release(RECIPE)
    with get_client(sync_client=True) as client:
        found = [each for each in client.read_artifacts() if str(each.flow_run_id) == done.flow_run_id]
    [table] = [each for each in found if each.type == "markdown"]
    assert table.key == f"scores-{RECIPE}"
    assert "| smoke-held-out | Perplexity | 9.9 |" in table.data


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

    gone = processes.mark().rpartition("/")[0] + "/1@0"
    # Another experiment than the one that the next flow's runs stand in.
    run_id = tracking.Release("ghost", "language", {"hiraku.process": gone}).open()
    with get_client(sync_client=True) as client:
        ghost = client.create_flow_run(flows.stage_flow, state=Running(), tags=[f"process:{gone}"])
    flows.run_verb("ingest", "smoke-text")
    assert tracking.client().get_run(run_id).info.status == "KILLED"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(ghost.id).state_name == "Crashed"


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_a_stage_that_was_asked_to_end_is_killed_and_goes_on_in_its_run_without_the_old_reason(
    project: Project, flows
) -> None:
    project.write_graph(ingest="2")

    def end_launcher(line: str) -> None:
        if line == "step 0":
            ancestors(psutil.Process(project.started()[-1]))[0].terminate()

    with pytest.raises(StageStopped):
        flows.run_verb("ingest", "smoke-text", end_launcher)
    (stopped,), (parent,) = runs_of("stage", "stages"), runs_of("verb", "stages")
    assert (stopped.info.status, parent.info.status, len(project.started())) == ("KILLED", "KILLED", 1)
    assert tracking.REASON in stopped.data.tags
    assert parent.info.run_name == "ingest smoke-text"
    assert "recipe" not in parent.data.tags, "a corpus is no recipe"

    assert states(flows.run_verb("ingest", "smoke-text")) == {"ingest": "ran"}
    (done,) = runs_of("stage", "stages")
    assert (done.info.run_id, done.info.status) == (stopped.info.run_id, "FINISHED")
    assert tracking.REASON not in done.data.tags


def test_files_that_cannot_be_kept_are_a_trouble_and_every_run_is_closed(project: Project, flows) -> None:
    (tracking.HOME / "artifacts").write_text("a file where a folder must be")
    done = flows.run_verb("ingest", "smoke-text")
    assert states(done) == {"ingest": "ran"}
    assert any("MLflow did not take all of ingest smoke-text" in trouble for trouble in done.troubles)
    assert [run.info.status for kind in ("stage", "verb") for run in runs_of(kind, "stages")] == ["FINISHED"] * 2


def test_a_state_from_the_run_cache_is_not_linked_to_the_run_of_other_inputs(project: Project, flows) -> None:
    for seconds in ("0.1", "0.2"):
        project.write_graph(ingest=seconds)
        flows.run_verb("ingest", "smoke-text")
    project.write_graph(ingest="0.1")
    done = run_stages(("ingest", INGEST), ("validate", VALIDATE))
    assert states(done) == {"ingest": "restored", "validate": "ran"}
    (run,) = runs_of("release")
    assert [key.partition(".")[0] for key in run.data.tags if key.endswith(".smoke-text")] == ["ran"]


def run_stages(*stages: tuple[str, str], then=lambda: None, say=print):
    """A release of a few stages of the corpus."""
    from prefect import flow

    from flows import session
    from flows.tasks import run_stage

    @flow(name="few", persist_result=False)
    def few() -> None:
        with session.joined("release", RECIPE, "language", lambda _say: None):
            for verb, address in stages:
                run_stage(verb, "smoke-text", address)
            then()

    return session.run("release", RECIPE, "language", [], say, few)


# ---- others at the same time -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_two_flows_at_once_the_one_that_waits_has_no_run_and_sends_nothing(
    project: Project, flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.1)
    project.write_graph(ingest="0.5 hold")
    words = "from flows import release; release.run_verb('ingest', 'smoke-text')"
    # The shell ends at once: the other flow is nobody's child, as that of another terminal is not ours.
    subprocess.run(["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 &', sys.executable, words], check=True)
    try:
        opened = paths.journal("ingest", "smoke-text") / mirror.RUN_NAME
        wait_until(opened.is_file, "the other flow opens no run", server.START_SECONDS)

        def let_go(line: str) -> None:
            if "waits" in line:
                Path("go").touch()

        done = flows.run_verb("ingest", "smoke-text", let_go)
    finally:
        Path("go").touch()
    assert states(done) == {"ingest": "ready"}

    def statuses() -> list[str]:
        return [run.info.status for kind in ("stage", "verb") for run in runs_of(kind, "stages")]

    wait_until(lambda: "RUNNING" not in statuses(), "the other flow does not end")
    assert statuses() == ["FINISHED", "FINISHED"]
    (stage,), (parent,) = runs_of("stage", "stages"), runs_of("verb", "stages")
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert stage.data.tags["flow_run_id"] != done.flow_run_id
    steps = [point.step for point in tracking.client().get_metric_history(stage.info.run_id, "ingest/loss")]
    assert steps == sorted(set(steps))


def test_a_lock_that_another_dvc_holds_is_waited_for(project: Project, flows) -> None:
    with workspace.open_repo() as other:
        other.lock.lock()

        def unlock(line: str) -> None:
            if "waits" in line and other.lock.is_locked:
                other.lock.unlock()

        assert states(flows.run_verb("ingest", "smoke-text", unlock)) == {"ingest": "ran"}
    assert len(project.started()) == 1


def test_what_is_busy_is_asked_ever_more_rarely_and_the_wait_is_told_once(flows, monkeypatch) -> None:
    from flows import tasks

    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(tasks, "LONGEST_BUSY_SECONDS", 0.2)
    asked: list[float] = []
    said: list[str] = []

    def ask() -> str:
        asked.append(time.monotonic())
        if len(asked) < 8:
            raise Busy("another has it")
        return "done"

    assert tasks.when_free(ask, "fit x", said.append) == "done"
    pauses = [after - before for before, after in pairwise(asked)]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2), strict=False))
    assert sum(pauses) < 0.05 * 2**7, "the pauses go on doubling"
    assert said == ["fit x waits: another has it"]


# ---- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tracking_server_that_falls_silent_costs_what_it_did_not_take_and_the_release_says_so(
    project: Project, flows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName
    from prefect.client.schemas.sorting import TaskRunSort

    from flows import tasks

    monkeypatch.setattr(tasks.run_register, "retry_delay_seconds", [0.0, 0.0])
    with writing(Manifest("package", RECIPE, {"components.package": 1}, licence="CC0-1.0")) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text("{}")
    port = server.free_port()
    process = server.start("mlflow", port, Path(".hiraku/mlflow.log"))
    said: list[str] = []

    def kill(line: str) -> None:
        said.append(line)
        if line == "── validate smoke-text":
            server.stop(process)

    try:
        wait_until(lambda: server.answers(f"http://127.0.0.1:{port}/health"), "no MLflow", server.START_SECONDS)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        with pytest.raises(StageFailed, match=f"register {RECIPE}: http://127") as failure:
            run_stages(("ingest", INGEST), ("validate", VALIDATE), then=lambda: tasks.run_register(RECIPE), say=kill)
    finally:
        server.stop(process)
    assert len(project.started("validate")) == 1, "the stage must not be tried again for the server's sake"
    assert paths.state("validate", "smoke-text").is_dir()
    warnings = [line for line in said if line.startswith("warning: ")]
    assert any("MLflow did not take all of validate smoke-text" in line for line in warnings)
    assert any("MLflow has not been told that the release has ended" in line for line in warnings)
    assert "secret" not in f"{said} {failure.value} {caplog.text}"
    with get_client(sync_client=True) as client:
        name = TaskRunFilter(name=TaskRunFilterName(any_=[f"register {RECIPE}"]))

        def tries() -> int:
            newest = client.read_task_runs(task_run_filter=name, sort=TaskRunSort.EXPECTED_START_TIME_DESC)[0]
            return newest.run_count

        wait_until(lambda: tries() == 3, "it is not tried again")  # Prefect's server counts a little later


def test_the_flow_of_a_worker_is_refused_before_any_stage_as_the_command_line_is(
    project: Project, flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import session

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.free_port()}")
    with pytest.raises(Refused, match="nothing answers there"):
        flows.release_flow(RECIPE)
    session._drain()
    assert project.started() == []
