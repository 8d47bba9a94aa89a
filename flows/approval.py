"""A person's approval: typed input of a suspended flow run in Prefect's pages, or a question at the bare terminal.

Prefect suspends only runs of a deployment. A suspended run has no process: the question stands in the registry as the
claim on the model, and a second run of the deployment is put on the clock that closes it if nobody answers.
"""

import getpass
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from prefect.states import Failed, Scheduled
from pydantic import Field

from components import claims, decisions, processes, registry
from components.decisions import Decision
from components.outcomes import Refused
from components.registry import Version

CLOSING_SECONDS = 5.0
"""How long after a question's end it is closed: Prefect itself fails the run first."""


class Approval(RunInput):
    """Whether the challenger becomes the champion."""

    approve: bool = Field(description="Yes makes the challenger the champion; no leaves everything as it is.")
    name: str = Field(description="Who decides.", min_length=1)
    note: str = Field(default="", description="Why; it stands with the version.")


Ask = Callable[[str], Approval | None]
"""Shows a person what was found, as Markdown, and returns the answer."""


def is_deployed() -> bool:
    """Whether this flow run belongs to a deployment, so that it can be suspended."""
    return bool(deployment.id)


def at_terminal(question: str) -> Approval:
    """Ask whoever sits at the terminal.

    Raises:
        Refused: nobody does.
    """
    from rich.prompt import Confirm, Prompt

    from flows.terminal import console

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused(
            "The recipe asks for a person's approval (promote.approval) and this is no terminal to ask at. Run it at "
            "one, add --yes if you approve, or start the deployment 'promote' in Prefect's pages, which asks there."
        )
    approve = Confirm.ask(question, console=console, default=False)
    return Approval(approve=approve, name=getpass.getuser(), note=Prompt.ask("Why", console=console, default=""))


def beforehand(_question: str) -> Approval:
    """The answer of somebody who has said yes on the command line."""
    return Approval(approve=True, name=getpass.getuser(), note="--yes")


def suspended(challenger: Version, champion: Version | None, hours: float, page: str) -> Approval:
    """Suspend this flow run until a person answers; it runs again from its beginning then, and returns here.

    Raises:
        prefect.exceptions.Pause: the run is suspended.
    """
    model, ours = challenger.model, claims.read(challenger.model)
    if ours is None or ours.flow_run != str(flow_run.id):
        raise Refused(f"The claim on '{model}' is gone: somebody deleted it. Start the promotion again.")
    if not ours.version:
        until = time.time() + hours * 3600
        question = replace(
            ours,
            process="",
            version=challenger.version,
            content_hash=challenger.content_hash,
            champion=champion.version if champion else "",
            until=until,
            hours=hours,
            closer=_put_on_the_clock(model, until),
        )
        claims.write(model, question)
        waits = [f"Flow run {question.flow_run} waits for an answer until {decisions.moment(until)}."]
        asked = Decision("waiting", waits, champion=question.champion, flow_run=question.flow_run)
        decisions.record(challenger, asked, page)
    form = Approval.with_initial_data(description=page)
    key = f"approve-{challenger.version}-{challenger.content_hash[:12]}"
    answer = suspend_flow_run(wait_for_input=form, timeout=max(1, round(hours * 3600)), key=key)
    standing = claims.read(model) or ours
    if standing.closer:
        _take_off_the_clock(standing.closer)
    claims.write(model, replace(standing, process=processes.mark(), closer=""))
    return answer


def require_standing(claim: claims.Claim) -> None:
    """Refuse a flow run that has asked, but whose question was closed: its answer is bound to nothing any more.

    Raises:
        Refused: so it is.
    """
    if claim.version or not is_deployed():
        return
    with get_client(sync_client=True) as client:
        has_asked = bool(client.read_flow_run(UUID(claim.flow_run)).empirical_policy.pause_keys)
    if has_asked:
        raise Refused(
            "The question of this flow run was closed before its answer was taken up, so what was approved may not be "
            "what there is now. Start the promotion again, which asks again."
        )


def _put_on_the_clock(model: str, until: float) -> str:
    """A run of this deployment that begins when the question has stood long enough."""
    when = datetime.fromtimestamp(until + CLOSING_SECONDS, UTC)
    with get_client(sync_client=True) as client:
        made = client.create_flow_run_from_deployment(
            UUID(str(deployment.id)),
            parameters={"recipe": model, "only_close": True},
            state=Scheduled(scheduled_time=when),
            name=f"close the question of {flow_run.name}",
        )
    return str(made.id)


def _take_off_the_clock(closer: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.delete_flow_run(UUID(closer))
        except ObjectNotFound:
            return


# ---- questions that nobody answers -----------------------------------------------------------------------------------


def close_unanswered(model: str, say: Callable[[str], None]) -> bool:
    """Close a question whose time is over or whose flow run was ended; return whether there was one.

    One that was answered in time stands, however long its flow run waits for a worker.
    The version gets its decision, the flow run a state that says what happened, and the model is free again.
    """
    question = claims.read(model)
    if question is None or question.process or question.flow_run == str(flow_run.id):
        return False
    is_late, state = time.time() > question.until, _state_of(question.flow_run)
    is_answered = state is not None and not state.is_paused() and not state.is_final()
    if is_answered or not (is_late or is_over(question.flow_run)):
        return False
    reason = (
        f"no answer in {question.hours:g} hours" if is_late else f"its flow run {question.flow_run} was ended"
    ) + "; the champion stays"
    version = registry.read_version(model, question.version)
    if version is not None:
        decision = Decision("unanswered", [reason], champion=question.champion, flow_run=question.flow_run)
        decisions.record(version, decision)
    if is_late:
        _fail(question.flow_run, f"Version {question.version}: {reason}. Start the promotion again to ask again.")
    claims.release(model)
    say(f"── {model}: version {question.version} was not promoted: {reason}")
    return True


def is_over(run: str) -> bool:
    """Whether a flow run has certainly ended; nothing is certain of one that is unknown to this server."""
    state = _state_of(run)
    return state is not None and bool(state.is_final())


def _state_of(run: str) -> Any:
    """A flow run's state; None if it has none, or is of another server, such as one embedded in a command."""
    if not run:
        return None
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(UUID(run)).state
        except ObjectNotFound:
            return None


def _fail(run: str, message: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run)).state
            if state is not None and (state.is_paused() or state.is_failed()):
                client.set_flow_run_state(UUID(run), Failed(name="NoAnswer", message=message), force=True)
        except ObjectNotFound:
            return
