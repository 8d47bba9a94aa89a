"""Two stages at once as processes and in a flow of Prefect: interrupted, killed, refused, told of."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml

from components.graph import plan
from components.outcomes import Refused
from components.recipes import Library
from flows.launch import LEAST_NICE, NICE
from flows.summary import Summary
from tests.flows import two_lanes
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import PATIENCE_SECONDS, ancestors, is_gone, wait_until
from tests.flows.test_release import runs_of

TWO_LANES = Path(__file__).with_name("two_lanes.py")


def write_two(*, ingest: str, pretrain: str) -> None:
    """A graph of two stages that do not depend on each other, of which one trains, with the words after their names."""
    words = {"ingest": ingest, "pretrain": pretrain}
    body = {
        f"{verb}-{name}": {
            "cmd": f"python toy.py {verb} {name} {words[verb]}",
            "deps": ["input"],
            "outs": [next(each.out for each in plan(Library(), RECIPE) if each.verb == verb).replace(old, name)],
        }
        for verb, name, old in (("ingest", "one", "smoke-text"), ("pretrain", "two", RECIPE))
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": body}))


@pytest.fixture
def two(project: Project) -> Project:
    """A project of two such stages that would take a minute."""
    write_two(ingest="60", pretrain="60")
    return project


@contextlib.contextmanager
def both_at_work(project: Project) -> "Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]":
    """A flow whose two stages are at work, and the processes of stages and launchers."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(TWO_LANES)]
    flow = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    found: list[psutil.Process] = []
    try:
        for toy in (Path(".hiraku/toy/ingest-one"), Path(".hiraku/toy/pretrain-two")):
            wait_until(toy.is_file, f"{toy.name} does not start")
        stages = [psutil.Process(project.started(verb)[0]) for verb in ("ingest", "pretrain")]
        found = [each for one in stages for each in (one, ancestors(one)[0])]
        assert [each.ppid() for each in found[1::2]] == [flow.pid, flow.pid]
        # The one that trains is in the flow's own lane, the other gives way to it.
        own = psutil.Process().nice()
        assert [each.nice() for each in found] == [min(own + NICE, LEAST_NICE)] * 2 + [own] * 2
        yield flow, found
    finally:
        for process in (flow, *found):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        flow.communicate()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_both_stages_and_says_so(two: Project, sent: signal.Signals) -> None:
    with both_at_work(two) as (flow, processes):
        flow.send_signal(sent)
        said = flow.communicate(timeout=PATIENCE_SECONDS)[0]
        lines = [line.removesuffix("; Ctrl-C again ends it at once.") for line in said.splitlines()]
        assert {"Stopping: ingest one comes to its end", "Stopping: pretrain two saves its checkpoint"} <= {
            line.removesuffix(".") for line in lines
        }
        assert "Nothing else begins" not in said
        assert lines[-1] == ("KeyboardInterrupt" if sent == signal.SIGINT else "SystemExit")
        assert all(is_gone(each) for each in processes)
    assert len(two.started()) == 2
    assert '"pid"' not in Path(".dvc/tmp/rwlock").read_text()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_an_interruption_while_the_flow_waits_for_the_stage_beside_ends_that(
    two: Project, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)
    with both_at_work(two) as (flow, processes):
        processes[2].kill()  # the stage that trains
        assert flow.stdout is not None
        for line in flow.stdout:
            if "ingest one comes to its end first" in line:
                break
        assert not is_gone(processes[0])
        flow.send_signal(signal.SIGINT)
        said = flow.communicate(timeout=PATIENCE_SECONDS)[0]
        assert said.splitlines() == [
            "Stopping: ingest one comes to its end; Ctrl-C again ends it at once.",
            "ingest one has ended as stopped",
            "KeyboardInterrupt",
        ]
        assert all(is_gone(each) for each in processes)


def test_a_second_interruption_kills_both(two: Project) -> None:
    with both_at_work(two) as (flow, processes):
        for each in processes[::2]:
            each.suspend()  # they cannot end when asked to
        flow.send_signal(signal.SIGINT)
        assert flow.stdout is not None
        while "Stopping: ingest one" not in flow.stdout.readline():
            assert flow.poll() is None
        flow.send_signal(signal.SIGINT)
        said = flow.communicate(timeout=PATIENCE_SECONDS)[0]
        assert said.splitlines()[-1] == "KeyboardInterrupt"
        assert all(is_gone(each) for each in processes)


def test_a_killed_flow_leaves_neither_stage(two: Project) -> None:
    with both_at_work(two) as (flow, processes):
        flow.kill()
        for each in processes:
            wait_until(lambda each=each: is_gone(each), "it works on")
        assert len(two.started()) == 2


# ---- in a flow of Prefect --------------------------------------------------------------------------------------------


def run_both(say: Callable[[str], None]) -> Summary:
    from prefect import flow

    from flows import session
    from flows.tasks import run_stages

    @flow(name="both", persist_result=False)
    def both() -> None:
        with session.joined("release", RECIPE, "language", lambda _say: None):
            run_stages(two_lanes.STAGES)

    return session.run("release", RECIPE, "language", [], say, both)


def test_each_lane_has_its_tasks_and_its_runs(project: Project, flows) -> None:
    write_two(ingest="0.5", pretrain="0.5")
    said: list[str] = []
    done = run_both(said.append)
    assert {(row.verb, row.name, row.state) for row in done.rows} == {
        ("ingest", "one", "ran"),
        ("pretrain", "two", "ran"),
    }
    assert done.troubles == []
    (release,) = runs_of("release")
    stages = {run.data.tags["name"]: run for run in runs_of("stage")}
    assert {run.info.status for run in (release, *stages.values())} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in stages.values()} == {release.info.run_id}
    assert {run.data.tags["flow_run_id"] for run in stages.values()} == {done.flow_run_id}
    assert task_states(done.flow_run_id) == {"ingest one": "COMPLETED", "pretrain two": "COMPLETED"}
    again = run_both(said.append)
    assert {row.state for row in again.rows} == {"ready"}


def test_a_refusal_beside_a_training_ends_the_flow_after_it(project: Project, flows) -> None:
    write_two(ingest="0 refuse", pretrain="0 hold")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Nothing else begins; pretrain two comes to its end first." in line:
            Path("go").touch()

    at_last = threading.Timer(PATIENCE_SECONDS, Path("go").absolute().touch)
    at_last.daemon = True
    at_last.start()
    with pytest.raises(Refused, match="The toy is refused"):
        run_both(say)
    assert at_last.is_alive(), "nothing was said"
    at_last.cancel()
    assert len(project.started("ingest")) == 1, "a refusal is not tried again"
    stages = {run.data.tags["name"]: run.info.status for run in runs_of("stage")}
    assert stages == {"one": "FAILED", "two": "FINISHED"}
    assert list(Path("artifacts").rglob("two/manifest.json"))


def task_states(flow_run_id: str) -> dict[str, str]:
    """Task run -> its state at the server, which hears of it a little later."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    own = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))
    found: dict[str, str] = {}

    def has_heard() -> bool:
        with get_client(sync_client=True) as client:
            found.update({run.name: str(run.state_type.value) for run in client.read_task_runs(flow_run_filter=own)})
        return len(found) == 2 and "RUNNING" not in found.values()

    wait_until(has_heard, "the server hears nothing of the tasks")
    return found
