"""Promotion: the challenger becomes the champion if it is no worse, every gate is passed and whoever is asked agrees.

Read `_promote` as a table of contents. Every end is written to the version's tags and description. The order of what
acts on servers lets any failure be repeated: publish (verified), then the note that it moves, then the alias.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed

from components import claims, decisions, evidence, gates, hub, registry
from components.comparison import IN_WORDS, Comparison
from components.decisions import Decision
from components.gates import Candidate, Gate
from components.manifest import MANIFEST_NAME, tree_hash
from components.outcomes import Refused
from components.publish import publish
from components.recipes import Library
from components.registry import Version
from components.wording import one_line
from flows import approval, events, trouble
from flows.checks import before_promotion
from flows.hub_token import hub_token
from flows.launch import StageFailed
from flows.release import STAGES
from flows.session import current, joined, run
from flows.tasks import RETRY_SECONDS, is_worth_retrying, when_free

PROOF = "loaded"
"""Tag of a version: which files were loaded back, by which libraries."""
KEPT, NOTHING = "Kept", "NothingToDo"
"""Names of the final states of a run after which the champion is the one that it was."""

Say = Callable[[str], None]

ask_here: ContextVar[approval.Ask | None] = ContextVar("ask_here", default=None)
"""How the bare command line asks for approval; a run of a deployment is suspended instead."""


told = partial(
    trouble.told,
    "The champion is what the registry says when it is back; run the same again, which goes on from there.",
    "registry",
)
"""A registry that does not answer is told as such: what has moved until then is what the registry says."""


def step(task_run_name: str) -> Any:
    """A task of a promotion or a rollback."""
    named: Any = task(
        task_run_name=task_run_name,
        retries=2,
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=is_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return lambda work: named(told()(work))


@flow(name="promote", flow_run_name="promote {recipe}", persist_result=False)
def promote_flow(
    recipe: str, version: str = "", content_hash: str = "", registry_only: bool = False, only_close: bool = False
) -> Any:
    """Compare a version with the champion, check its gates, ask for approval, publish it, and make it the champion.

    Args:
        recipe: The recipe whose model is promoted, such as gpt-demo.
        version: A version's number in the registry; empty for the newest challenger.
        content_hash: The content hash that the version must have; empty takes what it has now.
        registry_only: Move the champion in the registry and publish nothing.
        only_close: Only close a question that nobody has answered in time; a waiting promotion puts such a run on the
            clock by itself.
    """
    with joined("promote", recipe, STAGES, partial(before_promotion, recipe)), told():
        closed = approval.close_unanswered(recipe, current().say)
        if only_close:
            return Completed(name=NOTHING, message="a question was closed" if closed else "no question to close")
        with claims.taken(recipe, str(flow_run.id), approval.is_over, may_wait=True) as claim:
            challenger, champion = choose(recipe, claim.version or version, claim.content_hash or content_hash)
            return _promote(claim, challenger, champion, registry_only)


def _promote(claim: claims.Claim, challenger: Version, champion: Version | None, registry_only: bool) -> Any:
    """Everything after the choice; returns the final state."""
    recipe = challenger.model
    if champion and champion.version == challenger.version:
        return _nothing_to_do(challenger)
    comparison = compare(recipe, challenger, champion)
    found = check_gates(challenger, comparison, registry_only)
    page = decisions.page_of(comparison, found, champion, challenger)
    show(recipe, page)
    before = champion.version if champion else ""
    decide = partial(Decision, verdict=comparison.verdict, champion=before, flow_run=str(flow_run.id))
    if failed := [f"{gate.name}: {gate.reason}" for gate in found if not gate.passed]:
        return _keep(challenger, decide("refused", failed), page)
    if claim.version and claim.champion != before:
        changed = (
            f"the champion is version {before or 'none'} now, and was {claim.champion or 'none'} when it was asked"
        )
        return _keep(challenger, decide("refused", [changed]), page)
    answer = _approval(challenger, champion, page)
    if answer is not None and not answer.approve:
        refused = decide("refused", ["approval was not given"], by=answer.name, note=answer.note)
        return _keep(challenger, refused, page)
    who = {"by": answer.name, "note": answer.note} if answer else {}
    against = f"beside version {before}: " if before else ""
    reasons = [f"{against}{IN_WORDS[comparison.verdict]}"]
    reasons += [f"{gate.name}: {gate.reason}" for gate in found]
    move(challenger, decide("promoted", reasons, **who), page, registry_only)
    return Completed(message=f"version {challenger.version} is the champion; before it was {before or 'none'}")


def _approval(challenger: Version, champion: Version | None, page: str) -> approval.Approval | None:
    """A person's answer; None if the recipe asks nobody."""
    section = Library().read("recipe", challenger.model).promote
    if not section.approval:
        return None
    if approval.is_deployed():
        return approval.suspended(challenger, champion, section.approval_timeout_hours, page)
    ask = ask_here.get()
    if ask is None:
        raise Refused(
            f"Recipe '{challenger.model}' asks for a person's approval, and a flow run without a deployment cannot "
            f"wait for one. Run: hiraku promote {challenger.model}, or a deployment of flows.promote.promote_flow"
        )
    return ask(f"Make version {challenger.version} of {challenger.model} the champion?")


def _keep(challenger: Version, decision: Decision, page: str) -> Any:
    """The champion stays, and the version says why."""
    decisions.record(challenger, decision, page)
    reasons = "; ".join(decision.reasons)
    current().say(f"── {challenger.model}: version {challenger.version} is not promoted: {reasons}")
    return Completed(name=KEPT, message=f"version {challenger.version} is not promoted: {one_line(reasons, 600)}")


def _nothing_to_do(champion: Version) -> Any:
    """The version is the champion; if a run died before it could write so, that is made up for."""
    last = decisions.last(champion)
    if last and last.outcome == "moving":
        finish(champion, Decision(**{**vars(last), "outcome": "promoted"}), "")
    current().say(f"── {champion.model}: version {champion.version} is the champion already, nothing to do")
    return Completed(name=NOTHING, message=f"version {champion.version} is the champion already")


# ---- tasks -----------------------------------------------------------------------------------------------------------


@step(task_run_name="choose a version of {recipe}")
def choose(recipe: str, version: str, content_hash: str) -> tuple[Version, Version | None]:
    """The challenger, by alias or number, and the champion."""
    wanted = version or registry.CHALLENGER
    challenger = registry.read_version(recipe, wanted)
    if challenger is None:
        there = ", ".join(row.version for row in registry.versions(recipe)) or "none"
        what = f"no version '{version}'" if version else "no version with the alias challenger"
        raise Refused(f"The registry has {what} of '{recipe}'; there are: {there}. Run: hiraku release {recipe}")
    if content_hash and challenger.content_hash != content_hash:
        raise Refused(
            f"Version {challenger.version} of '{recipe}' has the content {challenger.content_hash[:12]}, expected "
            f"{content_hash[:12]}: it is not what was looked at. Start the promotion again with what there is now."
        )
    last = decisions.last(challenger)
    if not version and last and last.outcome == "replaced":
        raise Refused(
            f"Version {challenger.version} of '{recipe}' was taken back by a rollback at {last.at}. Release a better "
            f"one (hiraku release {recipe}), or name it to try it all the same: --version {challenger.version}"
        )
    return challenger, registry.read_version(recipe, registry.CHAMPION)


@step(task_run_name="compare with the champion of {recipe}")
def compare(recipe: str, challenger: Version, champion: Version | None) -> Comparison:
    """Both on the same items; the champion is scored anew where the tasks have changed."""
    session = current()
    done = when_free(
        lambda: evidence.compared(recipe, champion, challenger, session.say), f"compare {recipe}", session.say
    )
    beside = f" beside version {champion.version}" if champion else ""
    session.say(f"── {recipe}: version {challenger.version}{beside}: {IN_WORDS[done.verdict]}")
    for row in decisions.comparison_rows(done):
        task_name, measure, count, old, new, gain, p, words = row
        session.say(f"   {task_name}: {measure} {old} -> {new}, gain {gain}, n = {count}, p = {p}: {words}")
    if done.method:
        session.say(f"   {done.method}")
    return done


@step(task_run_name="check the gates")
def check_gates(challenger: Version, comparison: Comparison, registry_only: bool) -> list[Gate]:
    """Ask every gate about the registered files."""
    recipe = Library().read("recipe", challenger.model)
    with registry.fetched(challenger) as folder:
        proof = challenger.tags.get(PROOF, "")
        scores = evidence.scores_of(challenger)
        found = gates.check(Candidate(challenger.model, recipe, challenger, folder, comparison, scores, proof))
    if all(gate.passed for gate in found if gate.name in ("loads", "files and size")):
        registry.tag_version(challenger, PROOF, gates.proof_of_loading(challenger))
    if publishes(recipe, registry_only) and recipe.publish.repository:
        found.append(_token_gate(recipe.publish.repository))
    for gate in found:
        current().say(f"   {'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.reason}")
    return found


def publishes(recipe: Any, registry_only: bool) -> bool:
    """Whether a promotion publishes."""
    return recipe.publish is not None and not registry_only


def _token_gate(repository: str) -> Gate:
    """Before a person is asked: without a token the version could not go where its recipe says."""
    with hub_token(current().say):
        is_there = bool(hub.token())
    way_out = (
        f"there is no token to publish to {repository}. Set HF_TOKEN or Prefect's Secret block hf-token, take "
        "'publish' out of the recipe, or move the champion in the registry alone (--registry-only)"
    )
    return Gate("token of the Hub", is_there, f"there is one for {repository}" if is_there else way_out)


@task(task_run_name="show {recipe}", cache_policy=NO_CACHE, persist_result=False)
def show(recipe: str, page: str) -> None:
    """The comparison as an artifact, so that whoever approves sees in Prefect's pages what is better."""
    key = f"promotion-{recipe}".replace(".", "-")
    create_markdown_artifact(page, key=key, description=f"Challenger and champion of {recipe}")


@step(task_run_name="make it the champion")
def move(challenger: Version, decision: Decision, page: str, registry_only: bool) -> None:
    """Publish what was approved, then move the alias; nothing moves if it is not what was approved."""
    recipe = Library().read("recipe", challenger.model)
    require_approved(challenger)
    if publishes(recipe, registry_only):
        with hub_token(current().say), sent(challenger.model):
            publish(challenger.model, current().say, challenger.version)
        require_approved(challenger)
    decisions.record(challenger, Decision(**{**vars(decision), "outcome": "moving"}), page)
    registry.set_alias(challenger.model, registry.CHAMPION, challenger.version)
    finish(challenger, decision, page)


def require_approved(challenger: Version) -> None:
    """Refuse a version whose content, in the registry's words or bytes, is not what was compared and approved."""
    now = registry.read_version(challenger.model, challenger.version)
    found = now.content_hash if now else "nothing"
    if found == challenger.content_hash:
        with registry.fetched(challenger) as folder:
            found = tree_hash(folder, without=MANIFEST_NAME)
    if found != challenger.content_hash:
        reason = (
            f"version {challenger.version} of '{challenger.model}' has the content {found[:12]} now, and was approved "
            f"with {challenger.content_hash[:12]}: somebody has changed it. The champion has not moved"
        )
        if now is not None:
            decisions.record(now, Decision("refused", [reason], flow_run=str(flow_run.id)))
        raise Refused(f"{reason}. Release it again: hiraku release {challenger.model}")


def finish(version: Version, decision: Decision, page: str) -> None:
    """What is written and told after the alias has moved."""
    decisions.record(version, decision, page)
    tell_moved(version.model, decision.champion, version.version, decision.verdict)
    current().say(f"── {version.model}: version {version.version} is the champion")


def tell_moved(recipe: str, before: str, after: str, verdict: str) -> None:
    """An event for Prefect's automations."""
    resource = {"prefect.resource.id": events.model_resource(recipe), "prefect.resource.name": recipe}
    emit_event(events.CHAMPION_MOVED, resource=resource, payload={"from": before, "to": after, "verdict": verdict})


@contextlib.contextmanager
def sent(recipe: str) -> Iterator[None]:
    """A Hub that fails leaves the champion where it is; running again goes on from what has arrived."""
    try:
        yield
    except hub.Unfinished as error:
        raise StageFailed(
            f"{recipe} is not on the Hub as it should be, so the champion has not moved. {error}"
        ) from None  # no cause: its words hold addresses in full


# ---- the bare command line -------------------------------------------------------------------------------------------


def promote(
    recipe: str,
    version: str = "",
    registry_only: bool = False,
    ask: approval.Ask = approval.at_terminal,
    say: Say = print,
) -> str:
    """Run a promotion to its end, after `flows.checks.before_promotion`.

    Args:
        recipe: whose model.
        version: a version's number; empty for the challenger.
        registry_only: publish nothing.
        ask: how a person is asked.
        say: receives what is found.

    Returns:
        What became of it, in a sentence.

    Raises:
        Refused: the champion stays; the message says why.
        flows.launch.StageFailed: a server does not answer; trying again may help.
    """
    named = promote_flow.with_options(flow_run_name=f"promote {recipe}")
    return ended("promote", recipe, say, ask, lambda: named(recipe, version, "", registry_only, return_state=True))


def ended(verb: str, recipe: str, say: Say, ask: approval.Ask | None, start: Callable[[], Any]) -> str:
    """Run a flow of this module or `flows.rollback` from the command line; see `promote`."""
    states: list[Any] = []
    before = ask_here.set(ask)
    try:
        run(verb, recipe, STAGES, [f"recipe:{recipe}"], say, lambda: states.append(finished(start())))
    finally:
        ask_here.reset(before)
    (state,) = states
    if state.name == KEPT:
        raise Refused(state.message[:1].upper() + state.message[1:])
    return str(state.message)


def finished(state: Any) -> Any:
    """A final state; one that failed raises what it failed for."""
    if not state.is_completed():
        state.result(raise_on_failure=True)
    return state
