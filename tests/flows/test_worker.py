"""A Prefect worker runs the release of a deployment; it is killed with -9 while a stage works.

What happens: the flow of a killed worker goes on to its end and reports it. Killed together, as at a reboot, nothing is
left; Prefect and MLflow go on to call the runs running until the next session, which marks them and resumes.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from components import tracking
from components.settings import HEARTBEATS
from flows import server
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project, connected
from tests.flows.test_launch import ancestors, is_gone, wait_until

POOL = "toys"
CHECKPOINT = Path(".hiraku/toy") / f"pretrain-{RECIPE}"
BYTES = f"pretrain {RECIPE} 8.0 raw"
"""What an undisturbed run leaves."""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `prefect server start` runs, its background services included: they too judge a run whose worker died."""
    home = tmp_path_factory.mktemp("prefect")
    port = server.free_port()
    url = f"http://127.0.0.1:{port}/api"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_API_URL", url)
        patch.setenv("PYTHONPATH", str(ROOT))
        process = server.start("prefect", port, home / server.LOG_NAME)
        try:
            wait_until(
                lambda: server.answers(f"{url}/health"), "the Prefect server does not start", server.START_SECONDS
            )
            with connected(url, home):
                yield url
        finally:
            server.stop(process)


@pytest.fixture
def worker(project: Project, flows, prefect_server: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process worker that polls often; it finds the code by PYTHONPATH, as an installed project is found."""
    project.write_graph(pretrain="8")
    environment = {key: value for key, value in os.environ.items() if key not in HEARTBEATS}
    environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    # A worker is not started by our command line: Prefect logs through the pipe that breaks with the worker.
    del environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]
    with (project.folder.parent / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL],
            env=environment,
            cwd=project.folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:  # the test has failed before it killed anybody
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def deploy(project: Project) -> UUID:
    """Make a deployment with a dotted entry point, and ask for one run of it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    from flows import deployments
    from flows.session import OURS

    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        name, entry = project.folder.parent.name, "tests.flows.toy_flow.release_flow"
        made = deployments.Deployment(name, entry, "A release of toys.", {"recipe": RECIPE}, [OURS])
        deployment = deployments.runner_deployment(made, POOL).apply()
        return client.create_flow_run_from_deployment(deployment, parameters={"recipe": RECIPE}).id


def state_of(flow_run: UUID) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run).state.type.value


def logged(flow_run: UUID) -> str:
    """What Prefect's page shows of a flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as client:
        found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run])))
    return "\n".join(each.message for each in found)


def statuses(flow_run: UUID) -> set[str]:
    """Of the runs on the tracking server that one flow run made."""
    experiment = tracking.client().get_experiment_by_name("language")
    assert experiment is not None
    found = tracking.client().search_runs([experiment.experiment_id], f"tags.flow_run_id = '{flow_run}'")
    assert {run.data.tags["hiraku.kind"] for run in found} == {"release", "stage"}
    return {run.info.status for run in found}


def family(project: Project) -> tuple[psutil.Process, psutil.Process, psutil.Process]:
    """Flow, launcher and stage, once the long stage works."""
    wait_until(CHECKPOINT.is_file, "the toy stage does not start")
    stage = psutil.Process(project.started("pretrain")[-1])
    launcher, flow, *_ = ancestors(stage)
    return flow, launcher, stage


@pytest.mark.slow
def test_the_flow_of_a_killed_worker_goes_on_to_its_end_and_nobody_else_starts_its_stage(
    project: Project, flows, worker: "subprocess.Popen[bytes]"
) -> None:
    flow_run = deploy(project)
    flow, launcher, stage = family(project)
    assert flow.environ().items() >= HEARTBEATS.items(), "the server would take it for dead between two heartbeats"
    worker.kill()
    # Another release of the same at that moment waits for the stage, and finds it made.
    flows.run_verb("pretrain", RECIPE)
    wait_until(lambda: is_gone(flow), "the flow does not end")
    assert all(map(is_gone, (launcher, stage)))
    assert (state_of(flow_run), statuses(flow_run)) == ("COMPLETED", {"FINISHED"})
    assert "registry" in logged(flow_run)
    assert len(project.started("pretrain")) == 1
    assert project.bytes_of("pretrain") == BYTES
    assert {row.state for row in flows.release(RECIPE).rows} == {"ready"}


@pytest.mark.slow
def test_after_a_reboot_nothing_is_left_and_the_next_release_ends_with_the_same_bytes(
    project: Project, flows, worker: "subprocess.Popen[bytes]"
) -> None:
    flow_run = deploy(project)
    flow, launcher, stage = family(project)
    worker.kill()
    flow.kill()
    wait_until(lambda: all(map(is_gone, (flow, launcher, stage))), "something lives on")
    assert len(project.started("pretrain")) == 1
    assert (state_of(flow_run), "RUNNING" in statuses(flow_run)) == ("RUNNING", True)
    said: list[str] = []
    done = flows.release(RECIPE, said.append)
    assert {row.verb for row in done.rows if row.state == "ran"} == {"pretrain", "evaluate", "package"}
    began, ended = said.index(f"── pretrain {RECIPE}"), said.index(f"── evaluate {RECIPE}")
    assert "step 0" not in said[began:ended], "it began anew instead of going on from its checkpoint"
    assert len(project.started("pretrain")) == 2
    assert project.bytes_of("pretrain") == BYTES
    assert state_of(flow_run) == "CRASHED"
    assert "RUNNING" not in statuses(flow_run)
