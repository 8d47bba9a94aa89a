"""Two stages at once: each after its parents, one that computes at a time, and none outlives the flow."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import yaml

from components.graph import Node, Stage, plan
from components.recipes import Library
from components.settings import settings
from flows.launch import LAUNCHES, NICE
from flows.side_by_side import computes, run_all
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import PATIENCE_SECONDS, ancestors, is_gone, wait_until

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


class Lanes:
    """Runs stages by waiting, and remembers when each began and ended, in which thread and place."""

    def __init__(self, fails: Node | None = None) -> None:
        self.spans: dict[Node, tuple[float, float]] = {}
        self.threads: dict[Node, str] = {}
        self.fails = fails

    def __call__(self, each: Stage, is_beside: bool) -> None:
        node, began = (each.verb, each.name), time.monotonic()
        self.threads[node] = threading.current_thread().name
        assert is_beside == (threading.current_thread() is not threading.main_thread())
        time.sleep(0.1 if node == self.fails else 0.3)
        self.spans[node] = began, time.monotonic()
        if node == self.fails:
            raise RuntimeError(f"{each.name} fails")

    def overlap(self, one: Node, other: Node) -> bool:
        (began, ended), (also_began, also_ended) = self.spans[one], self.spans[other]
        return began < also_ended and also_began < ended


@pytest.fixture
def said() -> list[str]:
    return []


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
    assert lanes.overlap(A, B)
    assert {lanes.threads[node] for node in computing} == {threading.main_thread().name}
    assert said == []


def test_the_stage_that_most_computing_waits_for_goes_first(said: list[str]) -> None:
    lanes = Lanes()
    run_all(STAGES, lanes, said.append)
    assert lanes.spans[A][0] < lanes.spans[B][0]


def test_off_runs_one_after_another(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRAKU_SIDE_BY_SIDE", "off")
    settings.cache_clear()
    lanes = Lanes()
    run_all(STAGES, lanes, said.append)
    spans = sorted(lanes.spans.values())
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))


@pytest.mark.parametrize("fails", [A, B])
def test_after_a_failure_the_stage_beside_comes_to_its_end_and_nothing_else_begins(
    fails: Node, said: list[str]
) -> None:
    lanes = Lanes(fails)
    with pytest.raises(RuntimeError, match=f"^{fails[1]} fails$"):
        run_all(STAGES, lanes, said.append)
    other = next(node for node in (A, B) if node != fails)
    assert set(lanes.spans) == {A, B}
    assert lanes.spans[other][1] > lanes.spans[fails][1]
    assert said == [f"{fails[1]} fails\nNothing else begins; ingest {other[1]} comes to its end first."]


def test_an_interruption_of_one_ends_the_waiting_of_the_other(said: list[str]) -> None:
    waits = threading.Event()

    def run(each: Stage, _is_beside: bool) -> None:
        if threading.current_thread() is not threading.main_thread():
            waits.set()
            LAUNCHES.pause(PATIENCE_SECONDS * 10)
        waits.wait(PATIENCE_SECONDS)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all(STAGES, run, said.append)
    assert waits.is_set()
    assert time.monotonic() - began < PATIENCE_SECONDS
    LAUNCHES.pause(0.0)  # for the next flow of this process it is open again


def test_real_stages_of_a_recipe_that_compute_are_those_that_hold_the_gpus() -> None:
    found = {(each.verb, each.name) for each in plan(Library(ROOT / "recipes"), "sd-demo") if computes(each)}
    assert ("shard", "demo-sd-base+demo-sd-latents") in found
    assert ("ingest", "demo-sd-japanese-near") in found
    assert ("ingest", "demo-sd-base") not in found
    assert ("package", "sd-demo") not in found


# ---- real processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(project: Project) -> Project:
    """A project of two stages that do not depend on each other, of which one trains; each would take a minute."""
    body = {
        f"{verb}-{name}": {
            "cmd": f"python toy.py {verb} {name} 60",
            "deps": ["input"],
            "outs": [next(each.out for each in plan(Library(), RECIPE) if each.verb == verb).replace(old, name)],
        }
        for verb, name, old in (("ingest", "one", "smoke-text"), ("pretrain", "two", RECIPE))
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": body}))
    return project


@contextlib.contextmanager
def both_at_work(project: Project) -> "Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]":
    """A flow whose two stages are at work, and the processes of stages and launchers."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    flow = subprocess.Popen(
        [sys.executable, str(TWO_LANES)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    found: list[psutil.Process] = []
    try:
        for toy in (Path(".hiraku/toy/ingest-one"), Path(".hiraku/toy/pretrain-two")):
            wait_until(toy.is_file, f"{toy.name} does not start")
        stages = [psutil.Process(project.started(verb)[0]) for verb in ("ingest", "pretrain")]
        found = [each for one in stages for each in (one, ancestors(one)[0])]
        assert [each.ppid() for each in found[1::2]] == [flow.pid, flow.pid]
        # The one that trains is in the flow's own lane, the other gives way to it.
        assert [each.nice() for each in found] == [NICE, NICE, 0, 0]
        yield flow, found
    finally:
        for process in (flow, *found):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        flow.communicate()


def test_an_interruption_ends_both_stages_and_says_so(two: Project) -> None:
    with both_at_work(two) as (flow, processes):
        flow.send_signal(signal.SIGINT)
        said = flow.communicate(timeout=PATIENCE_SECONDS)[0]
        assert "Stopping: ingest one comes to its end; Ctrl-C again ends it at once." in said
        assert "Stopping: pretrain two saves its checkpoint; Ctrl-C again ends it at once." in said
        assert "interrupted" in said
        assert all(is_gone(each) for each in processes)
    assert len(two.started()) == 2
    assert '"pid"' not in Path(".dvc/tmp/rwlock").read_text()


def test_a_killed_flow_leaves_neither_stage(two: Project) -> None:
    with both_at_work(two) as (flow, processes):
        flow.kill()
        for each in processes:
            wait_until(lambda each=each: is_gone(each), "it works on")
