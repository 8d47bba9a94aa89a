"""`hiraku serve` beside a real Prefect server: clocks, events, deaths; every run ends in a true state by itself.

One server and as few waits as can be: what has to wait for the 120 s of a missing heartbeat waits together.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml

from flows import events, server
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import is_gone, wait_until
from tests.flows.test_worker import CHECKPOINT, family, prefect_server, state_of  # noqa: F401 (a fixture)

SERVE = Path(__file__).with_name("toy_serve.py")
PATIENCE = 900
"""On a machine that does much else."""


def client():
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def serve(project: Project, *words: str) -> "subprocess.Popen[bytes]":
    """Start `hiraku serve` in a project; it polls often."""
    environment = {**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_RUNNER_HEARTBEAT_FREQUENCY": "30"}
    with (project.folder.parent / "serve.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(SERVE), "serve", *words],
            env=environment,
            cwd=project.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def runs(name: str = RECIPE, by_clock: bool = False) -> list:
    """Flow runs of a deployment that its clock has asked for, or others, oldest first."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    with client() as prefect:
        found = prefect.read_flow_runs(deployment_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)
    return [run for run in found if run.auto_scheduled == by_clock]


def lives() -> str:
    """The states of every run and what last happened, for a failed test to show."""
    with client() as prefect:
        states = [
            f"{run.name} {run.run_count} {run.expected_start_time:%H:%M:%S} "
            + " > ".join(f"{each.timestamp:%M:%S} {each.name}" for each in prefect.read_flow_run_states(run.id))
            for run in prefect.read_flow_runs(limit=50)
            if run.state.name != "Scheduled"
        ]
        seen = prefect.request("POST", "/events/filter", json={"limit": 50}).json()["events"]
    ticking = {each["resource"]["prefect.resource.id"] for each in seen if "ticking" in str(each["related"])}
    events = [
        f"{each['occurred']} {each['event']} {each['resource'].get('prefect.resource.name')} "
        f"{each['payload'].get('reason', '')}"
        for each in seen
        if each["resource"]["prefect.resource.id"] not in ticking
    ]
    return "\n".join([*states, *events])


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """What a power cut does to a process and all below it."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What a webhook of the server was told."""
    texts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_rest: object) -> None:
            """Nobody listens."""

    listener = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    from prefect.blocks.webhook import Webhook

    Webhook(method="POST", url=f"http://127.0.0.1:{listener.server_port}/").save("hiraku-notify", overwrite=True)
    try:
        yield texts
    finally:
        listener.shutdown()


@pytest.fixture
def served(project: Project, flows, told: list[str], tmp_path: Path) -> Project:
    """A project whose recipe has a clock of every minute, and whose corpus follows a folder."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    corpus = Path("recipes/corpora/smoke-text.yaml")
    text = yaml.safe_load(corpus.read_text()) | {"follow": {"folder": str(inbox), "settle_seconds": 0}}
    corpus.write_text(yaml.safe_dump(text))
    recipe = Path(f"recipes/{RECIPE}.yaml")
    text = yaml.safe_load(recipe.read_text()) | {"schedule": {"cron": "0 0 * * *"}}
    recipe.write_text(yaml.safe_dump(text))
    project.write_graph(ingest="0.1 data", validate="0.1 data", pretrain="8")
    return project


@pytest.mark.slow
def test_a_crash_a_reboot_an_event_and_a_crash_loop_each_end_by_themselves(served: Project, told: list[str]) -> None:
    process = serve(served)
    try:
        is_served(served)
        _a_killed_flow_goes_on(served, told)
        process = _a_reboot_and_meanwhile(served, process)
    except BaseException:
        print(lives())
        raise
    finally:
        kill_tree(process)


def is_served(project: Project, times: int = 1) -> None:
    log = project.folder.parent / "serve.log"
    wait_until(lambda: log.read_text().count("Ctrl-C stops") == times, "nothing is served", server.START_SECONDS)


def press(name: str) -> UUID:
    """What the button of a deployment does."""
    with client() as prefect:
        return prefect.create_flow_run_from_deployment(prefect.read_deployment_by_name(name).id).id


def _a_killed_flow_goes_on(project: Project, told: list[str]) -> None:
    """In the middle of training a flow is killed with -9: its runner sees it, and the server begins it again."""
    run = press(f"retrain/{RECIPE}")
    flow, _, stage = family(project)
    flow.kill()
    wait_until(lambda: is_gone(stage), "the stage works on")
    wait_until(lambda: state_of(run) == "COMPLETED", "the crashed run is not begun again", PATIENCE)
    assert len(project.started("ingest")) == 1, "a finished stage ran again"
    assert len(project.started("pretrain")) == 2
    assert project.bytes_of("pretrain") == f"pretrain {RECIPE} 8.0 raw"
    wait_until(lambda: any("has failed" in text and "SIGKILL" in text for text in told), "nobody is told", PATIENCE)


def _a_reboot_and_meanwhile(project: Project, process) -> "subprocess.Popen[bytes]":
    """Everything is killed; after the next start the dead run is found, by its missing heartbeats, and goes on."""
    (project.folder.parent / "inbox" / "b.jsonl").write_text('{"text": "b"}\n')
    before = {verb: len(project.started(verb)) for verb in ("ingest", "fit", "pretrain")}
    project.write_graph(ingest="0.1 data", validate="0.1 data", fit="0.1", pretrain="8")
    CHECKPOINT.unlink(missing_ok=True)
    project.folder.joinpath("input").write_text("new")
    run = press(f"retrain/{RECIPE}")
    family(project)
    wait_until(lambda: beats(run) > 0, "it has no heartbeat", PATIENCE)
    kill_tree(process)
    assert state_of(run) == "RUNNING"
    process = serve(project)
    is_served(project, times=2)
    loop = press("dying/dying")
    wait_until(lambda: state_of(run) == "COMPLETED", "the dead run is not found", PATIENCE)
    assert [message for message in messages_of(run) if "No heartbeat for 120 s" in message]
    assert len(project.started("ingest")) == before["ingest"] + 1
    assert len(project.started("pretrain")) == before["pretrain"] + 2
    assert project.bytes_of("pretrain") == f"pretrain {RECIPE} 8.0 new"
    landed = len(runs())
    events.corpus_landed("smoke-text", "hash", by="another")
    wait_until(lambda: len(runs()) > landed, "the event begins nothing", PATIENCE)
    wait_until(lambda: states_of(loop).count("Crashed") == 4, "the loop has another length", PATIENCE)
    time.sleep(10)
    assert states_of(loop).count("Running") == 4, "a crash loop is not bounded"
    assert state_of(loop) == "CRASHED"
    wait_until(lambda: not [each for each in runs() if not each.state.is_final()], "runs are left", PATIENCE)
    assert runs()[-1].state.message == "nothing new"
    assert [run for run in runs("ticking", by_clock=True) if run.state.is_completed()], "the clock stands still"
    return process


def states_of(run: UUID) -> list[str]:
    with client() as prefect:
        return [each.name for each in prefect.read_flow_run_states(run)]


def messages_of(run: UUID) -> list[str]:
    with client() as prefect:
        return [each.message or "" for each in prefect.read_flow_run_states(run)]


def beats(run: UUID) -> int:
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    with client() as prefect:
        return prefect.request("POST", "/events/filter", json={"filter": wanted}).json()["total"]
