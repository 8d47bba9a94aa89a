"""Whoever is killed with -9, nothing is left a few seconds later, and the next run ends with the same bytes."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from components.checkpoints import Checkpoints
from components.lifeline import SHELLS
from components.outcomes import Outcome, write_outcome
from flows.launch import Launched, _clear_scratch, _launched, launch
from tests.flows.conftest import Project

ADDRESS = "dvc.yaml:ingest-smoke-text"
CHECKPOINT = Path(".hiraku/toy/ingest-smoke-text")
PATIENCE_SECONDS = 120.0


def start(verb: str = "ingest") -> "subprocess.Popen[str]":
    words = [sys.executable, str(Path(__file__).with_name("launching.py")), verb, "smoke-text", ADDRESS]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def at_work(project: Project) -> psutil.Process:
    wait_until(CHECKPOINT.is_file, "the toy stage does not start")
    return psutil.Process(project.started()[-1])


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def ancestors(stage: psutil.Process) -> list[psutil.Process]:
    """Its launcher, the flow, and so on; dash stays between a launcher and its stage, where bash makes way."""
    return [each for each in stage.parents() if each.name() not in SHELLS]


@pytest.fixture
def slow(project: Project) -> Project:
    """A project whose first stage works for three seconds."""
    project.write_graph(ingest="3")
    return project


def expect_the_same_bytes(project: Project) -> None:
    """The next run goes on from the checkpoint."""
    before = len(project.started())
    said: list[str] = []
    assert launch("ingest", "smoke-text", ADDRESS, said.append).outcome.kind == "done"
    assert len(project.started()) == before + 1
    assert "step 0" not in said
    assert project.bytes_of("ingest", "smoke-text") == "ingest smoke-text 3.0 raw"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("victim", ["flow", "launcher", "stage"])
def test_after_a_kill_nothing_is_left_and_the_next_run_ends_with_the_same_bytes(
    slow: Project, victim: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)
    flow = start()
    stage = at_work(slow)
    launcher, parent, *_ = ancestors(stage)
    assert parent.pid == flow.pid
    {"flow": parent, "launcher": launcher, "stage": stage}[victim].kill()
    wait_until(lambda: is_gone(stage), "the stage works on")
    wait_until(lambda: is_gone(launcher), "the launcher lives on")
    flow.wait(PATIENCE_SECONDS)
    if victim == "stage":
        assert "failed" in flow.communicate()[0]
    assert len(slow.started()) == 1
    expect_the_same_bytes(slow)


def test_a_termination_lets_the_stage_end_first_and_gives_the_locks_back(slow: Project) -> None:
    flow = start()
    stage = at_work(slow)
    launcher = ancestors(stage)[0]
    launcher.send_signal(signal.SIGTERM)
    wait_until(lambda: is_gone(stage) and is_gone(launcher), "the stage works on")
    flow.communicate()
    assert '"pid"' not in Path(".dvc/tmp/rwlock").read_text()
    expect_the_same_bytes(slow)


def test_a_second_launch_of_a_stage_at_work_is_busy_and_starts_nothing(project: Project) -> None:
    project.write_graph(ingest="60")
    flow = start()
    at_work(project)
    second = launch("ingest", "smoke-text", ADDRESS, lambda _line: None)
    assert second.outcome.kind == "busy"
    assert "busy" in second.outcome.reason
    assert len(project.started()) == 1
    flow.kill()
    flow.communicate()


def test_a_missing_input_is_refused_and_named(project: Project) -> None:
    Path("input").unlink()
    outcome = launch("ingest", "smoke-text", ADDRESS, lambda _line: None).outcome
    assert outcome.kind == "refused"
    assert "input" in outcome.reason


def test_what_is_ready_is_not_run(project: Project) -> None:
    assert launch("ingest", "smoke-text", ADDRESS, lambda _line: None).how == "ran"
    again = launch("ingest", "smoke-text", ADDRESS, lambda _line: None)
    assert (again.how, again.outcome) == ("ready", Outcome("done"))


def test_partial_work_goes_when_its_result_is_recorded_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.time()
    folders = [Checkpoints("pretrain", "gpt-3.6b", digest * 64).folder for digest in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "step-0000000001-0.ckpt").write_bytes(b"weights")
    for kind in ("failed", "stopped"):
        write_outcome("pretrain", "gpt-3.6b", Outcome(kind, scratch=str(folders[0])))
        _clear_scratch("dvc.yaml:pretrain-gpt-3.6b", began)
        assert folders[0].is_dir()
    write_outcome("pretrain", "gpt-3.6b", Outcome("done", scratch=str(folders[0])))
    _clear_scratch("dvc.yaml:pretrain-gpt-3.6b", began + 60)  # an earlier launch's
    assert folders[0].is_dir()
    _clear_scratch("dvc.yaml:pretrain-gpt-3.6b", began)
    assert list(folders[0].parent.iterdir()) == [folders[1]]


def test_a_stage_that_was_asked_to_end_has_stopped_unless_its_launcher_was_killed() -> None:
    own = Outcome("stopped", "Stopped by SIGTERM after step 4.")
    assert _launched(own, 70, "it ended with exit code 1") == Launched(own, "ran", has_spoken=True)
    assert _launched(own, 143, "") == Launched(own, "ran", has_spoken=True)
    assert _launched(None, 143, "").outcome.kind == "stopped"
    assert _launched(own, -signal.SIGKILL, "").outcome.kind == "failed"
    assert not _launched(None, 70, "it was killed").has_spoken
    assert not _launched(own, 75, "another process is at it").has_spoken


def test_a_listener_that_is_gone_does_not_stop_a_stage_that_says_more_than_a_pipe_holds(project: Project) -> None:
    project.write_graph(ingest="1 && yes | head -c 300000")
    flow = start()
    at_work(project)
    assert flow.stdout is not None
    flow.stdout.close()
    try:
        flow.wait(PATIENCE_SECONDS)
    finally:
        flow.kill()
    assert project.bytes_of("ingest", "smoke-text") == "ingest smoke-text 1.0 raw"


@pytest.mark.parametrize(("verb", "ends"), [("ingest", "comes to its end"), ("pretrain", "saves its checkpoint")])
def test_an_interruption_says_what_is_waited_for(slow: Project, verb: str, ends: str) -> None:
    flow = start(verb)
    stage = at_work(slow)
    flow.send_signal(signal.SIGINT)
    said = flow.communicate(timeout=PATIENCE_SECONDS)[0]
    assert f"Stopping: {verb} smoke-text {ends}; Ctrl-C again ends it at once." in said
    assert is_gone(stage)


def test_a_stage_of_a_flow_ends_with_it_even_if_a_person_wants_stages_to_live_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIRAKU_OUTLIVE_PARENT", "1")
    project.write_graph(ingest="600 > /dev/null")  # a line into the pipe of a dead flow would end it anyway
    flow = start()
    stage = at_work(project)
    launcher = ancestors(stage)[0]
    flow.kill()
    flow.communicate()
    try:
        wait_until(lambda: is_gone(stage) and is_gone(launcher), "the stage works on")
    finally:
        for process in (stage, launcher):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
