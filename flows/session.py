"""One flow run from start to end: what its tasks share, what is marked as dead before, what is closed after."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run
from prefect.states import Crashed

from components import paths, tracking
from flows import server, workspace
from flows.mirror import RUN_NAME
from flows.summary import Summary

VERSIONS = (workspace.DATA_FILE, workspace.LOCK_FILE, Path("recipes/mine/dvc.lock"))
"""What names every byte of a release; nobody commits them for a scheduled worker, so the release's run keeps them."""
DRAIN_SECONDS = 10.0

Say = Callable[[str], None]


@dataclass
class Session:
    """What the tasks of one flow run share. It is no argument of theirs, so Prefect does not try to store it."""

    release: tracking.Release
    say: Say
    summary: Summary
    repo: Any = None
    """DVC's view of the project."""
    loading: "Future[int] | None" = None
    """Done when the tracking library is loaded and its dead runs are swept, which happens while Prefect starts."""


_session: Session | None = None


def current() -> Session:
    """The session of this process."""
    if _session is None:
        raise RuntimeError("tasks run inside the flows of flows.release")
    return _session


def begin() -> None:
    """The first words of every flow."""
    session = current()
    session.summary.flow_run_id = session.release.tags["flow_run_id"] = str(flow_run.id)
    if session.loading:
        session.loading.result()


def run(recipe: str, experiment: str, marks: list[str], say: Say, start: Callable[[], None]) -> Summary:
    """Run a flow, and leave every run in the right state however it ends.

    Args:
        recipe: what the runs are named after.
        experiment: where they stand on the tracking server.
        marks: tags of the flow run.
        say: receives lines for the terminal.
        start: calls the flow.

    Returns:
        What became of each stage.
    """
    global _session  # a process runs one flow at a time
    started = time.monotonic()
    session = _session = Session(tracking.Release(recipe, experiment, _tags()), say, Summary(recipe))
    status = "FAILED"
    try:
        with workspace.open_repo() as session.repo, ThreadPoolExecutor(1) as loader:
            if not workspace.has_remote(session.repo):
                say(workspace.NO_REMOTE)
            session.loading = loader.submit(tracking.sweep, experiment)
            server.wait()
            _sweep()
            with tags(*marks, _process_mark()):
                start()
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        _session = None
        _close(session, status)
        _drain()
    session.summary.seconds = time.monotonic() - started
    return session.summary


def _tags() -> dict[str, str]:
    revision = workspace.git_revision()
    data = {f"data {path}": digest for path, digest in workspace.data_hashes().items()}
    return {"git_revision": revision.commit, "git_dirty": str(revision.is_dirty).lower(), **data}


def _close(session: Session, status: str) -> None:
    release = session.release
    for row in session.summary.rows:
        if row.state in ("ready", "restored"):
            known = paths.journal(row.verb, row.name) / RUN_NAME
            release.tag(f"{row.state}.{row.verb}.{row.name}", known.read_text("utf-8") if known.is_file() else "")
    for path in VERSIONS:
        release.attach(path, "versions")
    release.close(status)
    session.summary.run_id = release.run_id


def _drain() -> None:
    """Send what Prefect has queued, before the embedded server ends."""
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


# ---- the dead --------------------------------------------------------------------------------------------------------


def _process_mark() -> str:
    mark = tracking.process_tags()
    return f"process:{mark['hiraku.host']}/{mark['hiraku.process']}"


def _sweep() -> None:
    """Mark flow runs as crashed that still count as running though their process on this machine is gone."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    gone: Any = Crashed(message="Its process is gone; the same command goes on from here.")
    with get_client(sync_client=True) as client:
        for each in client.read_flow_runs(flow_run_filter=running):
            if any(_is_dead(mark) for mark in each.tags):
                client.set_flow_run_state(each.id, gone, force=True)


def _is_dead(mark: str) -> bool:
    host, _, process = mark.removeprefix("process:").rpartition("/")
    return mark.startswith("process:") and host == gethostname() and not tracking.is_alive(process)
