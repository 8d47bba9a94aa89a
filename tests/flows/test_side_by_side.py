"""Two stages at once: each after its parents, one that computes at a time, and none outlives the flow."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml

from components.graph import Node, Stage, plan
from components.outcomes import Refused
from components.recipes import Library
from components.settings import settings
from flows.launch import LAUNCHES, LEAST_NICE, NICE, StageStopped
from flows.side_by_side import Board, computes, run_all
from flows.summary import Summary
from tests.conftest import ROOT
from tests.flows import two_lanes
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import PATIENCE_SECONDS, ancestors, is_gone, wait_until
from tests.flows.test_release import runs_of

TWO_LANES = Path(__file__).with_name("two_lanes.py")


def stage(verb: str, name: str, *parents: Node) -> Stage:
    return Stage(verb, name, deps=(), params=(), parents=parents)


A, B = ("ingest", "a"), ("ingest", "b")
TRAINED, OTHER = ("pretrain", "a"), ("pretrain", "b")
LATENTS, LAST = ("shard", "b+a"), ("align", "c")
STAGES = [
    stage(*B),
    stage(*A),
    stage(*TRAINED, A),
    stage(*OTHER, A),
    stage(*LATENTS, B, TRAINED),
    stage("validate", "b", B),
    stage(*LAST, LATENTS, OTHER),
]


@pytest.fixture(autouse=True)
def _open() -> None:
    LAUNCHES.open()


@pytest.fixture
def said() -> list[str]:
    return []


class Lanes:
    """Runs stages by waiting, and remembers when each began and ended, and in which lane."""

    def __init__(self, fails: dict[Node, BaseException] | None = None) -> None:
        self.spans: dict[Node, tuple[float, float]] = {}
        self.beside: dict[Node, bool] = {}
        self.fails = fails or {}
        self.both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
        """`ingest a` and `ingest b` are at work at once, or the test fails."""

    def __call__(self, each: Stage, is_beside: bool) -> None:
        node, began = (each.verb, each.name), time.monotonic()
        self.beside[node] = is_beside
        assert is_beside == (threading.current_thread() is not threading.main_thread())
        if node in (A, B) and settings().side_by_side == "on":
            self.both.wait()
        time.sleep(0.0 if node in self.fails else 0.2)
        self.spans[node] = began, time.monotonic()
        if node in self.fails:
            raise self.fails[node]

    def overlap(self, one: Node, other: Node) -> bool:
        (began, ended), (also_began, also_ended) = self.spans[one], self.spans[other]
        return began < also_ended and also_began < ended


def test_each_stage_follows_its_parents_and_what_computes_takes_turns(said: list[str]) -> None:
    lanes = Lanes()
    run_all(STAGES, lanes, said.append)
    assert set(lanes.spans) == {(each.verb, each.name) for each in STAGES}
    for each in STAGES:
        for parent in each.parents:
            assert lanes.spans[parent][1] <= lanes.spans[each.verb, each.name][0]
    computing = [(each.verb, each.name) for each in STAGES if computes(each)]
    assert computing == [TRAINED, OTHER, LATENTS, LAST]
    assert not any(lanes.overlap(one, other) for one in computing for other in computing if one != other)
    assert not any(lanes.beside[node] for node in computing)
    assert lanes.overlap(A, B)
    assert said == []


def test_the_stage_that_most_computing_waits_for_goes_first_and_one_that_computes_before_others(
    said: list[str],
) -> None:
    taken: list[Node] = []
    chain = [stage(*B), stage("validate", "b", B), stage(*A), stage(*TRAINED, A), stage("fit", "c"), stage(*OTHER)]

    def run(each: Stage, is_beside: bool) -> None:
        taken.append((each.verb, each.name))

    board = Board(chain, run, said.append)
    board.work()
    assert taken == [OTHER, A, TRAINED, B, ("validate", "b"), ("fit", "c")]


def test_off_runs_one_after_another(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRAKU_SIDE_BY_SIDE", "off")
    settings.cache_clear()
    lanes = Lanes()
    run_all(STAGES, lanes, said.append)
    spans = sorted(lanes.spans.values())
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))
    assert not any(lanes.beside.values())


@pytest.mark.parametrize("fails", [A, B])
@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit("broken")])
def test_after_a_failure_the_stage_beside_comes_to_its_end_and_nothing_else_begins(
    fails: Node, error: BaseException, said: list[str]
) -> None:
    lanes = Lanes({fails: error})
    with pytest.raises(type(error), match=r"^broken$"):
        run_all(STAGES, lanes, said.append)
    other = next(node for node in (A, B) if node != fails)
    assert set(lanes.spans) == {A, B}
    assert lanes.spans[other][1] > lanes.spans[fails][1]
    is_told = isinstance(error, Exception)
    assert said == [f"broken\nNothing else begins; ingest {other[1]} comes to its end first."] * is_told
    with pytest.raises(StageStopped):
        LAUNCHES.pause(0.0)


def test_a_second_failure_is_told_too_and_a_listener_that_is_gone_lets_nothing_begin() -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise BrokenPipeError

    lanes = Lanes({A: RuntimeError("the first"), B: RuntimeError("the second")})
    with pytest.raises(RuntimeError, match=r"the first|the second") as raised:
        run_all(STAGES, lanes, say)
    assert set(lanes.spans) == {A, B}
    unraised = "the second" if "first" in str(raised.value) else "the first"
    assert said[-1] == unraised


def test_an_interruption_of_one_ends_the_waiting_of_the_other(said: list[str]) -> None:
    waits = threading.Event()

    def run(each: Stage, is_beside: bool) -> None:
        if is_beside:
            waits.set()
            LAUNCHES.pause(PATIENCE_SECONDS * 10)
        waits.wait(PATIENCE_SECONDS)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(STAGES, run, said.append)
    assert waits.is_set()
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_real_stages_of_a_recipe_that_compute_are_those_that_hold_the_gpus() -> None:
    found = {(each.verb, each.name) for each in plan(Library(ROOT / "recipes"), "sd-demo") if computes(each)}
    assert ("shard", "demo-sd-base+demo-sd-latents") in found
    assert ("ingest", "demo-sd-japanese-near") in found
    assert ("ingest", "demo-sd-base") not in found
    assert ("package", "sd-demo") not in found


# ---- real processes --------------------------------------------------------------------------------------------------


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
    write_two(ingest="0 refuse", pretrain="12")
    said: list[str] = []
    with pytest.raises(Refused, match="The toy is refused"):
        run_both(said.append)
    assert any("Nothing else begins; pretrain two comes to its end first." in line for line in said)
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
