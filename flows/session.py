"""One flow run from start to end: what its tasks share, what is marked as dead before, what is closed after.

The command line opens a session and calls a flow in it, which joins it. A Prefect worker calls the flow of a deployment
by its dotted name in a process of its own; there the flow opens the session itself. So a worker killed with -9 takes
nothing with it: the flow goes on to its end, since the stage is its child and not the worker's, and says so to Prefect
and MLflow. If the flow's process is killed too, as at a reboot, its stage ends with it, and the next session, of
whichever kind, marks what it left and goes on from the checkpoint.
"""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect import get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.context import TagsContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.runtime import flow_run
from prefect.states import Crashed

from components import processes, tracking
from components.recipes import Library, parameters_of
from components.settings import set_quiet_environment
from components.wording import one_line, shown
from flows import history, server, workspace
from flows.launch import LAUNCHES, StageStopped
from flows.mirror import known_run
from flows.showing import show
from flows.summary import Summary, as_text

VERSIONS = (workspace.DATA_FILE, workspace.LOCK_FILE, Path("recipes/mine/dvc.lock"))
"""What names every byte of a release; nobody commits them for a scheduled worker, so the release's run keeps them."""
DATA_VERBS = frozenset({"ingest", "validate", "fit", "shard"})
"""Verbs that work on no recipe."""
OURS = "hiraku"
"""Tag of every flow run of ours; automations touch no others."""
MARK = "process:"
"""Begins the tag by which a flow run names its process."""
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
    data: str = ""
    """`data.dvc` as it was when the raw data were read; empty if none were."""
    loading: "Future[int] | None" = None
    """Done when the tracking library is loaded and its dead runs are swept, which happens while Prefect starts."""

    repo_lock: threading.Lock = field(default_factory=threading.Lock)
    """DVC's view is for one thread at a time."""

    def is_fresh(self, address: str) -> bool:
        """As `flows.workspace.is_fresh`, in any thread."""
        with self.repo_lock:
            return workspace.is_fresh(self.repo, address)

    def input_key(self, address: str) -> str:
        """As `flows.workspace.input_key`, in any thread."""
        with self.repo_lock:
            return workspace.input_key(self.repo, address)

    def note_data(self) -> None:
        """Note which raw data were read: another recipe's flow may bring more at any time after."""
        if workspace.DATA_FILE.is_file():
            self.data = workspace.DATA_FILE.read_text(encoding="utf-8")
        self.release.tags.update(history.data_tags())
        with self.guarded("MLflow did not take the version of the raw data"):
            for key, value in history.data_tags().items():
                self.release.tag(key, value)

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """A server that does not answer in the block is a trouble to be told, and never the end of a flow."""
        try:
            yield
        except tracking.troubles() + (HTTPError,) as error:  # noqa: RUF005 (mypy knows only this form)
            self.summary.troubles.append(f"{what}: {one_line(shown(error), 400)}")


_session: Session | None = None


def current() -> Session:
    """The session of this process."""
    if _session is None:
        raise RuntimeError("tasks run inside the flows of flows.release")
    return _session


@contextlib.contextmanager
def joined(verb: str, name: str, experiment: str, check: Callable[[Say], None]) -> Iterator[Session]:
    """The session of a flow: that of its process, or, when a worker runs it, one of its own.

    Args:
        verb: as of `opened`; all are used only for a session of its own.
        name: as of `opened`.
        experiment: as of `opened`.
        check: refuses what could not come to its end; the command line has done so before it opened a session.
    """
    if _session is not None:
        _begin(_session)
        # For a task with tags Prefect asks its server for slots, and on SQLite is refused for two seconds after the
        # task before; tags of the flow run are set by now.
        with TagsContext(current_tags=set()):
            yield _session
        return
    set_quiet_environment()
    _outlive_listener()
    _mark_run()
    check(_print)
    session = None
    try:
        with opened(verb, name, experiment, _print) as session:
            _begin(session)
            yield session
    finally:
        if session is not None:
            report = as_text(session.summary)
            _print(report)
            get_run_logger().info("%s", report)


def _begin(session: Session) -> None:
    session.summary.flow_run_id = session.release.tags["flow_run_id"] = str(flow_run.id)
    if session.loading:
        with session.guarded("MLflow did not mark the runs of processes that are gone"):
            session.loading.result()


def _print(line: str) -> None:
    """A line for whoever listens; a worker that is gone must not end its flow."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")  # one call, as two stages may have lines at once
        sys.stdout.flush()


def _outlive_listener() -> None:
    """Without this, Prefect's console handler ends the process at its first line after the worker is gone."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def opened(verb: str, name: str, experiment: str, say: Say) -> Iterator[Session]:
    """A session while the block runs; every run is left in the right state however the block ends.

    Args:
        verb: what the flow does: `release`, or a verb alone.
        name: what it does that to; its run is named after both.
        experiment: where the runs stand on the tracking server.
        say: receives lines for the terminal.
    """
    global _session  # a process runs one flow at a time
    started = time.monotonic()
    release = tracking.Release(name, experiment, _tags(verb, name), verb, parameters=_parameters(verb, name))
    session = _session = Session(release, say, Summary(name))
    LAUNCHES.open()
    status = "FAILED"
    try:
        with workspace.open_repo() as session.repo, ThreadPoolExecutor(1) as loader:
            if not workspace.has_remote(session.repo):
                say(workspace.NO_REMOTE)
            session.loading = loader.submit(tracking.sweep)
            server.wait()
            _sweep()
            yield session
        status = "FINISHED"
    except BaseException as error:
        is_asked = isinstance(error, KeyboardInterrupt | SystemExit | TerminationSignal | StageStopped)
        status = "KILLED" if is_asked else "FAILED"
        session.summary.reason = one_line(shown(error), 400)
        raise
    finally:
        _session = None
        _close(session, status)
        session.summary.seconds = time.monotonic() - started


def run(verb: str, name: str, experiment: str, marks: list[str], say: Say, start: Callable[[], None]) -> Summary:
    """Run a flow in a session, its runs tagged with `marks`; return what became of each stage."""
    session = None
    try:
        with opened(verb, name, experiment, say) as session, tags(OURS, *marks, _process_mark()):
            start()
    except BaseException:
        for trouble in session.summary.troubles if session else []:  # no summary will be shown
            say(f"warning: {trouble}")
        raise
    finally:
        _drain()
    return session.summary


def _tags(verb: str, name: str) -> dict[str, str]:
    revision = workspace.git_revision()
    recipe = {} if verb in DATA_VERBS else {"recipe": name}
    dirty = str(revision.is_dirty).lower()
    return {**recipe, "git_revision": revision.commit, "git_dirty": dirty, **history.data_tags()}


def _parameters(verb: str, name: str) -> dict[str, Any]:
    library = Library()
    is_recipe = verb not in DATA_VERBS and name in library.files["recipe"]
    return parameters_of(library, name) if is_recipe else {}


def _close(session: Session, status: str) -> None:
    release = session.release
    with session.guarded("MLflow did not take all of what the release found and kept"):
        for row in session.summary.rows:
            if row.state in ("ready", "restored"):
                found = known_run(row.verb, row.name)
                if row.key and found.get("key") == row.key:  # else it is the run of other inputs
                    release.tag(f"{row.state}.{row.verb}.{row.name}", json.dumps(found))
        release.tag(history.ANCESTORS, history.ancestors())
        for path in VERSIONS:
            release.attach(path, (Path("versions") / path.parent).as_posix())
        if session.data:
            release.write(f"versions/{workspace.DATA_FILE}", session.data)
        show(release, session.summary, status)
    with session.guarded("MLflow has not been told that the release has ended"):
        release.close(status)
    session.summary.run_id = release.run_id


def _drain() -> None:
    """Send what Prefect has queued, before the embedded server ends."""
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


# ---- the dead --------------------------------------------------------------------------------------------------------


def _process_mark() -> str:
    return f"{MARK}{processes.mark()}"


def _mark_run() -> None:
    """Mark this flow run, which a worker's server has made, as ours; one tried again carries the mark of a dead one."""
    with get_client(sync_client=True) as client:
        others = [tag for tag in client.read_flow_run(UUID(flow_run.id)).tags if not _is_mark(tag)]
        client.update_flow_run(UUID(flow_run.id), tags=[*others, _process_mark()])


def _sweep() -> None:
    """Mark flow runs as crashed that still count as running though their process on this machine is gone."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    gone: Any = Crashed(message="Its process is gone; the same command goes on from here.")
    with get_client(sync_client=True) as client:
        for each in client.read_flow_runs(flow_run_filter=running):
            if any(_is_dead(tag) for tag in each.tags):
                client.set_flow_run_state(each.id, gone, force=True)


def _is_mark(tag: str) -> bool:
    return tag.startswith(MARK)


def _is_dead(tag: str) -> bool:
    return _is_mark(tag) and processes.is_dead(tag.removeprefix(MARK))
