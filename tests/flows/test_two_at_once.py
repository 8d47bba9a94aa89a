"""Two flows at once in one checkout: no update of the raw data's record is lost, and the limit for GPUs is kept."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from components.outcomes import Refused
from flows import raw_data, server, workspace
from flows.launch import LAUNCHES, StageStopped
from tests.flows.conftest import Project
from tests.flows.test_launch import PATIENCE_SECONDS, wait_until

BRING = """
import sys, time
from components.outcomes import Busy
from components.recipes import Library
from flows import follow, workspace
from flows.tasks import when_free
import flows.tasks
flows.tasks.BUSY_SECONDS = 0.1
name = sys.argv[1]
for number in range(6):
    open(f'../inbox-{name}/{number}.jsonl', 'w').write('{"text": "%s %d"}' % (name, number))
    def bring():
        with workspace.open_repo() as repo, follow.data_held():
            return follow.bring(Library(), name, repo, print)
    when_free(bring, name, print)
"""

FOR_EVER = "print('holds', flush=True); time.sleep(600)"
HOLD = """
import sys, time
from prefect import flow
from flows import slots, tasks

def hold():
    with slots.slot("pretrain"):
        began = time.time()
        time.sleep(2)
        print("held", began, time.time(), flush=True)

@flow(name="holder")
def holder():
    tasks.when_free(hold, "pretrain", print)

holder()
"""


@pytest.mark.slow
def test_of_two_flows_that_bring_files_at_once_neither_loses_what_the_other_recorded(
    project: Project, tmp_path: Path
) -> None:
    text = yaml.safe_load(Path("recipes/corpora/smoke-text.yaml").read_text())
    for name in ("first", "second"):
        (tmp_path / f"inbox-{name}").mkdir()
        corpus = text | {"source": {"kind": "files", "paths": [name]}}
        corpus["follow"] = {"folder": str(tmp_path / f"inbox-{name}"), "settle_seconds": 0}
        Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(corpus))
    flows = [
        subprocess.Popen(
            [sys.executable, "-c", BRING, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in ("first", "second")
    ]
    said = [flow.communicate(timeout=300)[0] for flow in flows]
    assert [flow.returncode for flow in flows] == [0, 0], said
    with workspace.open_repo() as repo:
        listed = raw_data.listing(repo)
    assert set(listed) == {Path("data", name, f"{k}.jsonl") for name in ("first", "second") for k in range(6)}


def test_automations_are_made_once_and_brought_up_to_date_and_a_pause_of_a_person_stays(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient, get_client

    from flows import automations

    said: list[str] = []
    names = automations.ensure(said.append)
    assert any("hiraku-notify" in line for line in said)
    with get_client(sync_client=True) as client:
        (restarts,) = client.read_automations_by_name(names[1])
        client.pause_automation(restarts.id)
    with monkeypatch.context() as patch:  # an update makes the server forget whose heartbeats it waits for
        patch.setattr(SyncPrefectClient, "update_automation", None)
        assert automations.ensure(print) == names
    monkeypatch.setattr(automations, "MOST_RESTARTS", 1)
    assert automations.ensure(print) == names
    with get_client(sync_client=True) as client:
        (again,) = client.read_automations_by_name(names[1])
    assert (again.id, again.enabled) == (restarts.id, False)
    assert again.trigger.match.root["prefect.run-count"] in ("1", ["1"])
    monkeypatch.setattr(automations, "settings", lambda: type("S", (), {"notify_block": "webhook/hirako"}))
    with pytest.raises(Refused, match="HIRAKU_NOTIFY_BLOCK"):
        automations.ensure(print)


@pytest.mark.slow
def test_two_stages_that_compute_at_once_take_turns_at_the_one_slot(
    project: Project, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from flows import slots

    monkeypatch.setenv("HIRAKU_LIMIT_COMPUTING", "on")
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(slots.LIMIT)  # another test of this server may have made it
    assert slots.ensure(None) == 1
    assert slots.ensure(None) == 1, "it is made once"
    environment = os.environ | {"PREFECT_API_URL": prefect_server}
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    outputs = [holder.communicate(timeout=server.START_SECONDS)[0] for holder in holders]
    assert [holder.returncode for holder in holders] == [0, 0]
    lines = [line.split() for text in outputs for line in text.splitlines() if line.startswith("held ")]
    spans = sorted((float(began), float(ended)) for _, began, ended in lines)
    assert len(spans) == 2
    assert spans[0][1] <= spans[1][0], "both held the one slot"


def test_a_wait_for_the_slot_is_told_and_ends_with_the_flow(
    project: Project, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import slots, tasks

    monkeypatch.setenv("HIRAKU_LIMIT_COMPUTING", "on")
    monkeypatch.setattr(tasks, "BUSY_SECONDS", PATIENCE_SECONDS)
    slots.ensure(1)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        LAUNCHES.close()

    def take() -> None:
        with slots.slot("pretrain"):
            pytest.fail("both hold the one slot")

    with slots.slot("pretrain"), pytest.raises(StageStopped):
        tasks.when_free(take, "pretrain two", say)
    assert said == ["pretrain two waits: All slots of Prefect's limit 'gpu' are taken."]
    with slots.slot("evaluate"):
        pass  # it was given back


@pytest.mark.slow
def test_the_slot_of_a_killed_holder_comes_free_though_the_server_was_started_anew_meanwhile(
    project: Project, tmp_path: Path
) -> None:
    from flows import slots

    port = server.free_port()
    home = tmp_path / "prefect"
    home.mkdir()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {"PREFECT_API_URL": url, "PREFECT_HOME": str(home), "HIRAKU_LIMIT_COMPUTING": "on"}

    def start() -> "subprocess.Popen[bytes]":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_HOME", str(home))
            process = server.start("prefect", port, home / "server.log")
        wait_until(lambda: server.answers(f"{url}/health"), "no server", server.START_SECONDS)
        return process

    def hold(code: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True)

    process = start()
    holder = hold(HOLD.replace("holder()\n", "slots.ensure(1)\nholder()\n").replace("time.sleep(2)", FOR_EVER))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        holder.kill()
        server.stop(process)
        process = start()
        killed = time.monotonic()
        with httpx.Client(base_url=url) as client:
            assert client.get("/v2/concurrency_limits/gpu").json()["active_slots"] == 1, "nothing was held"
        waiter = hold(HOLD)
        assert "held " in waiter.communicate(timeout=server.START_SECONDS)[0]
        assert time.monotonic() - killed < slots.LEASE_SECONDS + 90, "the slot is found free too late"
    finally:
        holder.kill()
        server.stop(process)
