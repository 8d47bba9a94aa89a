"""A scheduled run takes what is new, does only what that touches, and ends in seconds when nothing is."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from components import paths, registry, tracking
from components.graph import plan
from components.outcomes import Refused
from components.recipes import Library
from flows import follow, history, profiles, raw_data, workspace
from flows.server import free_port
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_promote import everything_said, newest_flow_run

CORPUS = Path("recipes/corpora/smoke-text.yaml")


@pytest.fixture
def inbox(project: Project, flows, tmp_path: Path) -> Path:
    """A folder that the corpus follows, whose files are complete at once; stages that read the raw data."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    follow_folder(folder)
    project.write_graph(ingest="0.1 data", validate="0.1 data")
    return folder


def follow_folder(folder: Path, settle_seconds: float = 0) -> None:
    text = yaml.safe_load(CORPUS.read_text())
    text["follow"] = {"folder": str(folder), "settle_seconds": settle_seconds}
    CORPUS.write_text(yaml.safe_dump(text))


def retrain(**parameters):
    """One run as a worker makes it: its final state."""
    from flows.retrain import retrain_flow

    return retrain_flow(RECIPE, **parameters, return_state=True)


def retrain_in_session(say):
    """One run as our own command line would make it, without its checks: its final state, and its summary."""
    from flows import session
    from flows.retrain import retrain_flow

    states: list = []
    start = lambda: states.append(retrain_flow(RECIPE, return_state=True))  # noqa: E731
    done = session.run("release", RECIPE, "language", [], say, start)
    return states[0], done


def ask_for_promotions() -> None:
    """Have the schedule ask for a promotion of each challenger."""
    path = Path(f"recipes/{RECIPE}.yaml")
    sections = {"schedule": {"cron": "0 0 * * *", "promote": "ask"}, "promote": {"approval": True}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


def deployed_promotion(client) -> list:
    """The promotion's deployment, if it is there."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName

    return client.read_deployments(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["promote"])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[RECIPE])),
    )


def promotions() -> list:
    """The runs of the promotion's deployment."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    with get_client(sync_client=True) as client:
        ids = [each.id for each in deployed_promotion(client)]
        return client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids)))


def remove_promotion() -> None:
    """Delete the promotion's deployment, which another test of the session may have left on the server."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for each in deployed_promotion(client):
            client.delete_deployment(each.id)


def score_table(flow_run_id: str) -> str:
    """What a flow run left of its scores on Prefect's pages."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        left = [each for each in client.read_artifacts() if str(each.flow_run_id) == flow_run_id]
    [table] = [each for each in left if (each.key or "").startswith("scores-")]
    return str(table.data)


def recorded() -> list[str]:
    with workspace.open_repo() as repo:
        return sorted(path.name for path in raw_data.listing(repo) or {})


def newest_run():
    return tracking.release_runs(1)[0]


def test_a_new_file_goes_the_whole_way_and_the_next_run_has_nothing_to_do(project: Project, inbox: Path) -> None:
    (inbox / "b.jsonl").write_text('{"text": "b"}\n')
    (inbox / ".c.jsonl").write_text("hidden")
    (inbox / "d.jsonl.part").write_text("half")
    ask_for_promotions()
    remove_promotion()

    def bring_more(line: str) -> None:
        """Another recipe's flow follows the same folder, and brings a file before this one's stage reads them."""
        if line == "── ingest smoke-text":
            (inbox / "e.jsonl").write_text('{"text": "e"}\n')
            assert bring([]) == [Path("data/smoke/e.jsonl")]

    state, done = retrain_in_session(bring_more)
    assert (state.name, state.message) == ("Completed", "version 1, a new challenger")
    assert Path("data/smoke/b.jsonl").read_text() == '{"text": "b"}\n'
    assert (inbox / "b.jsonl").is_file()
    assert recorded() == ["b.jsonl", "e.jsonl"]
    run = newest_run()
    assert run.tags["landed smoke-text"] == "data/smoke/b.jsonl"
    assert run.tags["data data"] == history.version()
    assert yaml.safe_load(tracking.kept_text(run.run_id, "versions/data.dvc"))["outs"][0]["md5"] == history.version()
    assert json.loads(tracking.kept_text(run.run_id, "profiles/smoke-text/profile.json"))["num_records"] == 3
    (trouble,) = done.troubles
    assert trouble.startswith("The promotion of version 1 was not started")  # there is no deployment of it
    assert promotions() == []
    assert "| smoke-held-out | Perplexity |" in score_table(done.flow_run_id)
    note = tracking.client().get_run(run.run_id).data.tags["mlflow.note.content"]
    assert "[shard smoke-text+smoke-spm](#/experiments/" in note

    deploy_promotion()
    began = time.monotonic()
    before = len(project.started())
    state = retrain()
    assert (state.name, state.message) == ("Completed", "nothing new")
    assert len(project.started()) == before
    assert newest_run().run_id == run.run_id, "a run of nothing is on the tracking server"
    assert time.monotonic() - began < 30
    assert [run.parameters["version"] for run in promotions()] == ["1"]
    assert retrain().message == "nothing new"
    assert len(promotions()) == 1, "a promotion that waits for its worker is started again"


def deploy_promotion() -> None:
    """What `hiraku deploy` gives to Prefect; no worker is there to run it."""
    from components.recipes import Library
    from flows import deployments

    (found,) = [
        each
        for each in deployments.deployments(Library())
        if each.name == RECIPE and each.entrypoint == deployments.PROMOTE
    ]
    deployments.runner_deployment(found).apply()


def test_a_tracking_server_that_falls_silent_may_be_asked_again_and_its_password_is_in_no_log(
    project: Project, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client

    from flows.launch import StageFailed

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("flows.retrain.RETRY_SECONDS", 0)
    path = Path(f"recipes/{RECIPE}.yaml")
    schedule = {"schedule": {"cron": "0 0 * * *", "max_retries": 1}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | schedule))
    state, _ = retrain_in_session([].append)
    with pytest.raises(StageFailed, match=r"http://127\.0\.0\.1:\d+ does not answer as a tracking server should"):
        state.result()
    said = everything_said()
    assert said.count("does not answer as a tracking server") >= 3  # of the task, of the flow, in the log
    assert "secret" not in said
    with get_client(sync_client=True) as client:
        run = newest_flow_run(client)
    assert (run.run_count, run.empirical_policy.retries) == (2, 1)


def test_a_file_that_is_still_written_to_is_left_to_the_next_run(project: Project, inbox: Path) -> None:
    follow_folder(inbox, settle_seconds=60)
    (inbox / "b.jsonl").write_text('{"text": "b"}\n')
    (inbox / "c.jsonl").write_text('{"text": "c"}\n')
    os.utime(inbox / "c.jsonl", (time.time() - 120,) * 2)
    said: list[str] = []
    assert bring(said) == [Path("data/smoke/c.jsonl")]
    assert any("b.jsonl may not be complete" in line for line in said)
    assert bring([]) == []


def bring(said: list[str]) -> list[Path]:
    from components.recipes import Library

    with workspace.open_repo() as repo, follow.data_held():
        return follow.bring(Library(), "smoke-text", repo, said.append)


def test_a_kill_between_copy_and_record_loses_nothing(project: Project, inbox: Path, monkeypatch) -> None:
    (inbox / "b.jsonl").write_text('{"text": "b"}\n')
    bring([])
    (inbox / "b.jsonl").write_text('{"text": "changed"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(follow.collect, "record", lambda *_rest: os._exit)
        patch.setattr(follow, "_note", lambda places: follow_note(places) if places else None)
        bring([])
    assert Path("data/smoke/b.jsonl").read_text() == '{"text": "changed"}\n'
    before = history.version()
    assert bring([]) == [Path("data/smoke/b.jsonl")]
    assert history.version() != before
    assert bring([]) == []


follow_note = follow._note


def test_a_followed_folder_that_is_not_there_is_refused(project: Project, inbox: Path) -> None:
    shutil.rmtree(inbox)
    state = retrain()
    assert state.is_failed()
    with pytest.raises(Refused, match=r"follows .*inbox.* Mount it, or change follow\.folder"):
        state.result()


def test_data_that_have_drifted_from_the_champions_need_force(project: Project, inbox: Path) -> None:
    lines = "".join(json.dumps({"text": "x" * (20 + k % 40)}) + "\n" for k in range(400))
    (inbox / "b.jsonl").write_text(lines)
    retrain()
    registry.set_alias(RECIPE, registry.CHAMPION, "1")
    (inbox / "c.jsonl").write_text("".join(json.dumps({"text": "x" * 150}) + "\n" for _ in range(800)))
    state = retrain()
    with pytest.raises(Refused, match=r"drifted .* beyond 0\.25 .*text_num_chars .*start the flow with force"):
        state.result()
    drifted = newest_run()
    assert "**too far**" in tracking.kept_text(drifted.run_id, "drift.md")
    assert registry.aliases(RECIPE) == {"champion": "1", "challenger": "1"}
    state = retrain(force=True)
    assert state.message == "version 1, registered before", "the toy's package does not depend on the data"
    assert newest_run().run_id != drifted.run_id
    assert profiles.drifts(RECIPE, []) == ([], {"smoke-text": "a model makes it, so it is taken in after this"})


def test_a_corpus_that_a_model_filters_waits_for_that_model_and_the_others_for_none() -> None:
    from flows.retrain import of_raw_data

    stages = plan(Library(ROOT / "recipes"), "sd-demo")
    first = {(stage.verb, stage.name) for stage in of_raw_data(stages)}
    taken_in = {(stage.verb, stage.name) for stage in stages if stage.verb in ("ingest", "validate")}
    assert taken_in - first == {("ingest", "demo-sd-japanese-near"), ("validate", "demo-sd-japanese-near")}
    assert first < taken_in


def test_a_clone_that_is_behind_takes_the_data_of_the_newest_release_and_one_with_data_of_its_own_keeps_them(
    project: Project, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_first = inbox / "a1.jsonl"
    bring_first.write_text('{"text": "a1"}\n')
    bring([])
    subprocess.run(["git", "add", "data.dvc", ".dvc", "recipes", "toy.py", "dvc.yaml", "input"], check=True)
    words = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "first"]
    subprocess.run(words, check=True)
    clone, other = tmp_path / "clone", tmp_path / "other"
    for each in (clone, other):
        subprocess.run(["git", "clone", "-q", ".", str(each)], check=True)
    (inbox / "b.jsonl").write_text('{"text": "b"}\n')
    retrain()
    newest = history.version()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri())

    monkeypatch.chdir(other)
    (other / "data/smoke").mkdir(parents=True)
    (other / "data/smoke/own.jsonl").write_text('{"text": "own"}\n')
    with workspace.open_repo() as repo:
        raw_data.add(repo, [Path("data/smoke/own.jsonl")])
    mine = history.version()
    assert not catch_up()
    assert history.version() == mine != newest

    monkeypatch.chdir(clone)
    assert catch_up()
    assert history.version() == newest
    assert Path("data/smoke/b.jsonl").read_text() == '{"text": "b"}\n'
    assert f"package-{RECIPE}" in yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert not catch_up(), "it is taken once"


def catch_up() -> bool:
    from components.graph import plan
    from components.recipes import Library

    with workspace.open_repo() as repo, follow.data_held():
        return history.catch_up(Library(), plan(Library(), RECIPE), repo, print)


def test_the_schedule_of_a_recipe_names_every_problem_with_the_nearest_right_word(tmp_path: Path) -> None:
    from components.recipes import read_section

    text = yaml.safe_load((ROOT / "recipes" / "gpt-demo.yaml").read_text())
    text["schedule"] = {"cron": "99 3 * * *", "timezone": "Asia/Tokio", "promot": "ask"}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(Refused) as refusal:
        read_section(path, "recipe")
    assert "bad minute; expected five fields" in str(refusal.value)
    assert "Did you mean 'Asia/Tokyo'?" in str(refusal.value)
    assert "Did you mean 'promote'?" in str(refusal.value)
    text["schedule"] = {"cron": "0 3 31 2 *"}
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(Refused, match="bad day-of-month"):
        read_section(path, "recipe")


def test_a_schedule_and_a_followed_folder_make_no_stage_stale() -> None:
    from components.graph import render
    from components.recipes import Library

    rendered = "".join(render(Library(ROOT / "recipes")).values())
    assert not {"- schedule", "- follow", "- publish"} & {line.strip() for line in rendered.splitlines()}
    assert paths.DATA.as_posix() in rendered
