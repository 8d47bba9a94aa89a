"""The tasks of the flows: one runs a DVC stage, the others bring raw data, register and publish.

Tasks are called, not submitted, and keep no results: DVC decides what is done already.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from components import paths, tracking
from components.graph import Stage
from components.hub import Unfinished
from components.manifest import MANIFEST_NAME, read_manifest
from components.outcomes import Busy, Refused
from components.publish import publish
from components.recipes import Library
from components.register import register
from flows import collect, profiles, scoreboard, trouble
from flows.hub_token import hub_token
from flows.launch import LAUNCHES, Launched, StageFailed, StageStopped, launch
from flows.mirror import Mirror
from flows.session import Session, current
from flows.showing import COMPARED
from flows.side_by_side import run_all
from flows.slots import slot
from flows.summary import Row

RETRY_SECONDS: list[float] = [5.0, 30.0]
REPORT_NAME = "report.md"
BUSY_SECONDS = 5.0
"""First pause before asking again for what another process holds; each is twice as long as the one before."""
LONGEST_BUSY_SECONDS = 60.0
"""Asking starts DVC, beside the training that is waited for."""

Say = Callable[[str], None]
Result = TypeVar("Result")


def is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Wrong input stays wrong; only what may end otherwise is tried again."""
    return not isinstance(state.result(raise_on_failure=False), Refused | StageStopped)


@task(task_run_name="collect raw data", cache_policy=NO_CACHE, persist_result=False)
def collect_data(corpora: list[str]) -> None:
    """Make or fetch the raw data that is missing."""
    session = current()
    for corpus in corpora:
        bring = partial(collect.complete, Library(), corpus, session.repo, session.say)
        when_free(bring, f"raw data of {corpus}", session.say)


@task(
    task_run_name="fetch {recipe}",
    retries=2,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fetch_model(recipe: str) -> None:
    """Fetch somebody else's model at its pinned commit; what has arrived stays, so this can be repeated."""
    session = current()
    with hub_token(session.say):
        try:
            collect.complete_model(Library(), recipe, session.repo, session.say)
        except Unfinished as error:
            raise StageFailed(f"fetch {recipe}: {error}") from None  # no cause: its words hold addresses in full


@task(
    task_run_name="{verb} {name}",
    retries=2,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_stage(verb: str, name: str, address: str, is_beside: bool = False) -> None:
    """Bring one stage up to date through DVC, and mirror its journal to the tracking server."""
    session = current()
    try:
        _run_stage(session, verb, name, address, is_beside)
    finally:
        if verb == "ingest":
            session.note_data()


def run_stages(stages: Sequence[Stage]) -> None:
    """Bring stages up to date, each after its parents, side by side where that can be."""

    def run(stage: Stage, is_beside: bool) -> None:
        run_stage(stage.verb, stage.name, stage.address, is_beside)

    run_all(stages, run, current().say)


def _run_stage(session: Session, verb: str, name: str, address: str, is_beside: bool) -> None:
    started = time.monotonic()
    if session.is_fresh(address):
        key = when_free(lambda: session.input_key(address), f"{verb} {name}", session.say)
        session.summary.rows.append(Row(verb, name, "ready", overhead=time.monotonic() - started, key=key))
        session.say(f"── {verb} {name}: ready")
        return
    session.say(f"── {verb} {name}")
    say = _recording(session.say)
    mirror, launched = when_free(lambda: _launch(session, verb, name, address, say, is_beside), f"{verb} {name}", say)
    outcome = launched.outcome
    if outcome.kind == "refused":
        raise Refused(outcome.reason)
    if outcome.kind != "done":
        if not launched.has_spoken:
            session.say(f"{verb} {name}: {outcome.reason}")
        ending = StageStopped if outcome.kind == "stopped" or LAUNCHES.is_ending else StageFailed
        raise ending(f"{verb} {name}: {outcome.reason}")
    work, start = outcome.seconds.get("work", 0.0), outcome.seconds.get("start", 0.0)
    _show_report(session, verb, name)
    overhead = time.monotonic() - started - work - start
    session.summary.rows.append(Row(verb, name, launched.how, work, start, overhead, mirror.key))


def _show_report(session: Session, verb: str, name: str) -> None:
    """Leave what a stage reports in Markdown as an artifact of the flow run; most stages report none."""
    report = paths.state(verb, name) / REPORT_NAME
    if report.is_file():
        key = re.sub(r"[^a-z0-9]+", "-", f"{verb}-{name}")
        with session.guarded(f"Prefect did not take the report of {verb} {name}"):
            create: Any = create_markdown_artifact
            create(report.read_text(encoding="utf-8"), key=key, description=f"What {verb} found of {name}")


def _recording(say: Say) -> Say:
    """Say a line, and keep it with the task run."""
    logger = get_run_logger()

    def both(line: str) -> None:
        say(line)
        logger.info("%s", line)

    return both


def when_free(attempt: Callable[[], Result], what: str, say: Say) -> Result:
    """Attempt something; while another process holds what it needs, wait and attempt it again, ever more rarely."""
    told, pause = "", BUSY_SECONDS
    while True:
        try:
            return attempt()
        except Busy as busy:
            if str(busy) != told:
                told = str(busy)
                say(f"{what} waits: {told}")
        LAUNCHES.pause(pause)
        pause = min(2 * pause, LONGEST_BUSY_SECONDS)


def _launch(session: Session, verb: str, name: str, address: str, say: Say, is_beside: bool) -> tuple[Mirror, Launched]:
    """Launch a stage, its journal mirrored into a run that is linked to the release's.

    Raises:
        Busy: another process holds what it needs.
    """
    key = session.input_key(address)
    mirror = Mirror(session.release, verb, name, key, {"inputs": key, "flow_run_id": str(flow_run.id)})
    try:
        with mirror:
            with slot(verb):
                launched = launch(verb, name, address, say, is_beside)
            outcome = launched.outcome
            has_worked = launched.how == "ran" and outcome.kind != "busy"
            is_made = has_worked and outcome.kind == "done"
            mirror.finish(outcome, has_worked, _hashes(verb, name) if is_made else {tracking.REASON: outcome.reason})
    finally:
        if mirror.trouble:
            session.summary.troubles.append(f"MLflow did not take all of {verb} {name}: {mirror.trouble}")
    if outcome.kind == "busy":
        raise Busy(outcome.reason)
    if is_made and mirror.run_id:
        with session.guarded(f"MLflow did not take the link to {verb} {name}"):
            session.release.tag(f"ran.{verb}.{name}", json.dumps({"run_id": mirror.run_id, "key": key}))
            if verb in COMPARED:
                session.release.metrics(mirror.last)
    return mirror, launched


def _hashes(verb: str, name: str) -> dict[str, str]:
    """The content hash of a state and of its parents."""
    if not (paths.state(verb, name) / MANIFEST_NAME).is_file():
        return {}
    manifest = read_manifest(verb, name)
    return {"payload_hash": manifest.payload_hash} | {f"parent {p}": digest for p, digest in manifest.parents.items()}


@task(
    task_run_name="register {recipe}",
    retries=2,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_register(recipe: str) -> None:
    """Register the package; the registry is asked first, so this can be repeated."""
    session = current()
    started = time.monotonic()
    with trouble.told("Start it again: mlflow/README.md.", doing=f"register {recipe}: "):
        receipt = when_free(lambda: register(recipe, session.release), f"register {recipe}", session.say)
    if receipt["is_new"]:
        with session.guarded("MLflow did not take the profiles of the data"):
            profiles.keep(session.release, recipe)
    session.summary.receipt = receipt
    state = "registered" if receipt["is_new"] else "ready"
    session.summary.rows.append(Row("register", recipe, state, work=time.monotonic() - started))
    session.say(f"── register {recipe}: version {receipt['version']} ({state})")


@task(
    task_run_name="publish {recipe}",
    retries=2,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_publish(recipe: str, version: str = "", to: str | None = None, unapproved: bool = False) -> None:
    """Publish a version of a recipe's model; the Hub is asked first, so this can be repeated."""
    session = current()
    started = time.monotonic()
    with hub_token(session.say), trouble.told("Start it again: mlflow/README.md."):
        try:
            receipt = publish(recipe, session.say, version, to, unapproved)
        except Unfinished as error:
            raise StageFailed(f"publish {recipe}: {error}") from None  # no cause: its words hold addresses in full
    state = "published" if receipt["is_new"] else "ready"
    session.summary.rows.append(Row("publish", recipe, state, work=time.monotonic() - started))


@task(task_run_name="scores of {recipe}", cache_policy=NO_CACHE, persist_result=False)
def show_scores(recipe: str) -> None:
    """Leave the score table as an artifact of the flow run, where Prefect's pages show it; none without scores."""
    text = scoreboard.as_markdown(recipe)
    if text:
        key = f"scores-{re.sub(r'[^a-z0-9]+', '-', recipe)}"
        with current().guarded(f"Prefect did not take the scores of {recipe}"):
            create: Any = create_markdown_artifact
            create(text, key=key, description=f"Scores of {recipe}")
