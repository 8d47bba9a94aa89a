"""Two stages at once: each after its parents, and one that computes at a time."""

import contextlib
import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from components.graph import Node, Stage, plan, plan_to
from components.recipes import Library
from components.settings import settings
from flows import side_by_side
from flows.launch import LAUNCHES, StageStopped
from flows.side_by_side import Board, computes, run_all
from tests.conftest import ROOT
from tests.flows.test_launch import PATIENCE_SECONDS


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
        if self.fails and node not in self.fails:
            with contextlib.suppress(StageStopped):
                LAUNCHES.pause(PATIENCE_SECONDS)  # until the other has failed
        else:
            time.sleep(0.0 if self.fails else 0.2)
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


def test_a_person_is_told_of_what_does_not_end_when_interrupted(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "SILENT_SECONDS", 0.1)
    told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        told.set()

    def run(each: Stage, is_beside: bool) -> None:
        both.wait()
        if not is_beside:
            raise KeyboardInterrupt
        told.wait(PATIENCE_SECONDS)  # as Prefect does between two tries

    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    with pytest.raises(KeyboardInterrupt):
        run_all([stage(*B), stage(*OTHER)], run, say)
    assert said == ["Waiting for ingest b, which is between two tries or tells a server how it ended."]


def test_a_corpus_that_a_network_of_this_machine_translates_computes(tmp_path: Path) -> None:
    engines = {
        "near": {"kind": "transformers", "model": "path:folder", "licence": "MIT"},
        "far": {"kind": "openai", "url": "http://localhost:1", "model": "other", "licence": "MIT"},
    }
    recipes = shutil.copytree(ROOT / "tests" / "recipes", tmp_path / "recipes")
    original = yaml.safe_load((recipes / "corpora" / "smoke-text.yaml").read_text())
    for name, engine in engines.items():
        source = {"kind": "translated", "corpus": "smoke-text", "engine": engine}
        (recipes / "corpora" / f"{name}.yaml").write_text(yaml.safe_dump(original | {"source": source}))
    found = {name: plan_to(Library(recipes), "ingest", name)[-1] for name in engines}
    assert {name: computes(each) for name, each in found.items()} == {"near": True, "far": False}


def test_real_stages_of_a_recipe_that_compute_are_those_that_hold_the_gpus() -> None:
    found = {(each.verb, each.name) for each in plan(Library(ROOT / "recipes"), "sd-demo") if computes(each)}
    assert ("shard", "demo-sd-base+demo-sd-latents") in found
    assert ("ingest", "demo-sd-japanese-near") in found
    assert ("ingest", "demo-sd-base") not in found
    assert ("package", "sd-demo") not in found
