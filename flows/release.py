"""The release of a recipe: every stage it depends on, in order, each a Prefect task that runs one DVC stage.

Prefect decides when and how often, DVC what is stale, MLflow remembers what came out.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

from components.settings import set_quiet_environment

set_quiet_environment()
# The terminal shows our lines; Prefect keeps them too, with its own, for its UI.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")

from prefect import flow, get_run_logger, tags, task  # noqa: E402 (after the settings that it reads on import)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType  # noqa: E402
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.states import Crashed  # noqa: E402

from components import paths, tracking  # noqa: E402
from components.graph import Stage, plan, plan_to  # noqa: E402
from components.manifest import MANIFEST_NAME, read_manifest  # noqa: E402
from components.outcomes import Busy, Refused  # noqa: E402
from components.publish import publish  # noqa: E402
from components.recipes import Library  # noqa: E402
from components.register import register  # noqa: E402
from flows import collect, server, workspace  # noqa: E402
from flows.launch import Launched, launch  # noqa: E402
from flows.mirror import RUN_NAME, Mirror  # noqa: E402
from flows.summary import Row, Summary  # noqa: E402
from models import part_of  # noqa: E402

FLOW_NAMES = {"text": "language", "image": "vision", "speech": "speech"}
"""Modality of a recipe -> name of its flow, and of the experiment its runs stand in."""
RETRY_SECONDS = [5.0, 30.0]
BUSY_SECONDS = 5.0
"""Pause before asking again for what another process holds."""
COMPARED = frozenset({"pretrain", "align", "evaluate"})
"""Verbs whose last figures stand in the release's run too, so that releases can be compared in one table."""


class StageFailed(RuntimeError):
    """A stage that may succeed when it is tried again."""


Say = Callable[[str], None]


@dataclass
class Session:
    """What the tasks of one flow run share. It is no argument of a task, so Prefect does not try to store it."""

    release: tracking.Release
    say: Say
    summary: Summary
    tracking: "Future[int] | None" = None
    """Done when the tracking library is loaded and dead runs are swept: it loads while Prefect starts."""
    repo: Any = None


# ---- tasks -----------------------------------------------------------------------------------------------------------


def _is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Wrong input stays wrong; only what may end otherwise is tried again."""
    return isinstance(state.result(raise_on_failure=False), StageFailed)


_session: Session | None = None


def _current() -> Session:
    if _session is None:
        raise RuntimeError("a stage task runs inside one of the flows of this module")
    return _session


@task(task_run_name="collect raw data", cache_policy=NO_CACHE, persist_result=False)
def collect_data(corpora: list[str]) -> None:
    """Make or fetch the raw data that is missing."""
    session = _current()
    for corpus in corpora:
        collect.complete(Library(), corpus, session.repo, session.say)


@task(
    task_run_name="{verb} {name}",
    retries=2,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_stage(verb: str, name: str, address: str) -> None:
    """Bring one stage up to date through DVC, and mirror its journal to the tracking server."""
    session = _current()
    started = time.monotonic()
    if workspace.is_fresh(session.repo, address):
        _note_ready(session, verb, name, time.monotonic() - started)
        return
    logger = get_run_logger()

    def say(line: str) -> None:
        session.say(line)
        logger.info("%s", line)

    session.say(f"── {verb} {name}")
    key = workspace.input_key(session.repo, address)
    mirror = Mirror(session.release, verb, name, key, _stage_tags(key))
    with mirror:
        launched = _launch_when_free(verb, name, address, say)
    outcome = launched.outcome
    if launched.how == "ran":
        reason = outcome.reason if outcome.kind != "done" else ""
        hashes = _hash_tags(verb, name) if outcome.kind == "done" else {}
        mirror.finish(outcome.kind == "done", outcome.seconds, hashes | ({"reason": reason} if reason else {}))
    if mirror.trouble:
        session.summary.troubles.append(f"MLflow did not take all of {verb} {name}: {mirror.trouble}")
    if outcome.kind == "refused":
        raise Refused(outcome.reason)
    if outcome.kind != "done":
        session.say(f"{verb} {name}: {outcome.reason}")
        raise StageFailed(outcome.reason)
    work, start = outcome.seconds.get("work", 0.0), outcome.seconds.get("start", 0.0)
    overhead = time.monotonic() - started - work - start
    session.summary.rows.append(Row(verb, name, launched.how, work, start, overhead))
    if mirror.run_id:
        session.release.tag(f"{launched.how}.{verb}.{name}", mirror.run_id)
        if verb in COMPARED:
            session.release.metrics(mirror.last)


def _launch_when_free(verb: str, name: str, address: str, say: Say) -> Launched:
    """Launch a stage; while another process holds what it needs, wait and ask again."""
    told = ""
    while True:
        launched = launch(verb, name, address, say)
        if launched.outcome.kind != "busy":
            return launched
        if launched.outcome.reason != told:
            told = launched.outcome.reason
            say(f"{verb} {name} waits: {told}")
        time.sleep(BUSY_SECONDS)


def _note_ready(session: Session, verb: str, name: str, seconds: float) -> None:
    session.summary.rows.append(Row(verb, name, "ready", overhead=seconds))
    session.say(f"── {verb} {name}: ready")


@task(task_run_name="register {recipe}", retries=2, retry_delay_seconds=RETRY_SECONDS,
      retry_condition_fn=lambda _task, _run, state: not isinstance(state.result(raise_on_failure=False), Refused),
      cache_policy=NO_CACHE, persist_result=False)  # fmt: skip
def run_register(recipe: str) -> None:
    """Register the package; the registry is asked first, so this can be repeated."""
    session = _current()
    started = time.monotonic()
    receipt = register(recipe, session.release)
    session.summary.receipt = receipt
    state = "registered" if receipt["is_new"] else "ready"
    session.summary.rows.append(Row("register", recipe, state, work=time.monotonic() - started))
    session.say(f"── register {recipe}: version {receipt['version']} ({state})")


@task(task_run_name="publish {recipe}", cache_policy=NO_CACHE, persist_result=False)
def run_publish(recipe: str) -> None:
    """Publish the package, or say what would be published."""
    session = _current()
    session.summary.receipt = publish(recipe, session.say)


# ---- flows -----------------------------------------------------------------------------------------------------------


@flow(name="release", persist_result=False)
def release_flow(recipe: str) -> None:
    """Every stage of a recipe in the order of the graph, then its registration."""
    _begin()
    stages = plan(Library(), recipe)
    _collect_missing(stages)
    for stage in stages:
        run_stage(stage.verb, stage.name, stage.address)
    run_register(recipe)


@flow(name="stage", persist_result=False)
def stage_flow(verb: str, name: str) -> None:
    """One stage."""
    _begin()
    stage = plan_to(Library(), verb, name)[-1]
    _collect_missing([stage])
    run_stage(stage.verb, stage.name, stage.address)


@flow(name="receipt", persist_result=False)
def receipt_flow(verb: str, recipe: str) -> None:
    """Register or publish one package."""
    _begin()
    (run_register if verb == "register" else run_publish)(recipe)


def _begin() -> None:
    session = _current()
    session.summary.flow_run_id = session.release.tags["flow_run_id"] = str(flow_run.id)
    if session.tracking:
        session.tracking.result()


def _collect_missing(stages: list[Stage]) -> None:
    corpora = collect.missing(Library(), stages)
    if corpora:
        collect_data(corpora)


# ---- starting them ---------------------------------------------------------------------------------------------------


def release(recipe: str, say: Say = print) -> Summary:
    """Run the release of a recipe to its end, after `flows.checks`.

    Raises:
        Refused: input is wrong or a result cannot be accepted; what is done stays, the next run goes on from there.
    """
    modality = part_of(Library().read("recipe", recipe).family, "schema").MODALITY
    configured = release_flow.with_options(name=FLOW_NAMES[modality], flow_run_name=f"release {recipe}")
    session = _session_for(recipe, FLOW_NAMES[modality], say)
    marks = [f"recipe:{recipe}", f"modality:{modality}"]
    return _run(session, marks, lambda: configured(recipe))


def run_verb(verb: str, name: str, say: Say = print) -> Summary:
    """Run one verb on one name, after `flows.checks`.

    Raises:
        Refused: as `release`.
    """
    if verb in ("register", "publish"):
        session = _session_for(name, "receipts", say)
        receipts = receipt_flow.with_options(flow_run_name=f"{verb} {name}")
        return _run(session, [f"recipe:{name}"], lambda: receipts(verb, name))
    session = _session_for(name, "stages", say)
    single = stage_flow.with_options(flow_run_name=f"{verb} {name}")
    return _run(session, [f"verb:{verb}"], lambda: single(verb, name))


def _session_for(recipe: str, experiment: str, say: Say) -> Session:
    revision = workspace.git_revision()
    marks = {"git_revision": revision.commit, "git_dirty": str(revision.is_dirty).lower()}
    marks |= {f"data {path}": digest for path, digest in workspace.data_hashes().items()}
    return Session(tracking.Release(recipe, experiment, marks), say, Summary(recipe))


def _run(session: Session, marks: list[str], run: Callable[[], None]) -> Summary:
    """Run a flow in a session, and leave its release run in the right state however it ends."""
    global _session  # noqa: PLW0603 (tasks of one flow run share it; a process runs one at a time)
    started = time.monotonic()
    status = "FAILED"
    _session = session
    try:
        with workspace.open_repo() as session.repo, tags(*marks, _process_mark()), ThreadPoolExecutor(1) as loader:
            if not workspace.has_remote(session.repo):
                session.say(workspace.NO_REMOTE)
            session.tracking = loader.submit(tracking.sweep, session.release.experiment)
            server.wait()
            sweep()
            run()
        status = "FINISHED"
    except Busy as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _session = None
        _close(session, status)
    session.summary.seconds = time.monotonic() - started
    return session.summary


def _close(session: Session, status: str) -> None:
    release_run = session.release
    for row in session.summary.rows:
        if row.state in ("ready", "restored"):
            known = paths.journal(row.verb, row.name) / RUN_NAME
            release_run.tag(f"{row.state}.{row.verb}.{row.name}", known.read_text("utf-8") if known.is_file() else "")
    for path in (workspace.DATA_FILE, workspace.LOCK_FILE, Path("recipes/mine/dvc.lock")):
        release_run.attach(path, "versions")
    release_run.close(status)
    session.summary.run_id = release_run.run_id


def _process_mark() -> str:
    tags_of_process = tracking.process_tags()
    return f"process:{tags_of_process['hiraku.host']}/{tags_of_process['hiraku.process']}"


def sweep() -> None:
    """Mark flow runs as crashed that still count as running though their process on this machine is gone."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=running):
            for mark in run.tags:
                host, _, process = mark.removeprefix("process:").rpartition("/")
                if mark.startswith("process:") and host == gethostname() and not tracking.is_alive(process):
                    gone = Crashed(message="Its process is gone; the same command goes on from here.")
                    client.set_flow_run_state(run.id, gone, force=True)


def _stage_tags(key: str) -> dict[str, str]:
    return {"inputs": key, "flow_run_id": str(flow_run.id)}


def _hash_tags(verb: str, name: str) -> dict[str, str]:
    """The content hash of a state and of its parents."""
    if not (paths.state(verb, name) / MANIFEST_NAME).is_file():
        return {}
    manifest = read_manifest(verb, name)
    return {"payload_hash": manifest.payload_hash} | {f"parent {p}": digest for p, digest in manifest.parents.items()}
