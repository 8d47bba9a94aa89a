"""Promotion: the challenger becomes the champion if it is no worse, every gate is passed and whoever is asked agrees.

Read `_promote` as a table of contents. Every end is written to the version's tags and description. The order of what
acts on servers lets any failure be repeated: the note that it moves, then publish (verified), then the alias.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed

from components import claims, decisions, evidence, gates, hub, registry
from components.comparison import IN_WORDS, Comparison
from components.decisions import ROLLBACK, Decision
from components.gates import Candidate, Gate
from components.outcomes import Refused
from components.publish import publish
from components.recipes import Library
from components.registry import Version
from components.wording import one_line
from flows import approval, trouble
from flows.checks import before_promotion
from flows.hub_token import hub_token
from flows.moving import approved, ends_written, finish, places, published, put_back, require_unchanged, sent, settle
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
        with claims.taken(recipe, str(flow_run.id), approval.is_over, may_wait=True) as claim, ends_written(recipe):
            approval.require_standing(claim)
            challenger, champion = choose(recipe, claim.version or version, claim.content_hash or content_hash)
            return _promote(claim, challenger, champion, registry_only)


def _promote(claim: claims.Claim, challenger: Version, champion: Version | None, registry_only: bool) -> Any:
    """Everything after the choice; returns the final state."""
    recipe = challenger.model
    place = places(Library().read("recipe", recipe), registry_only)
    keep = partial(_keep, challenger, champion, place)
    if champion and champion.version == challenger.version:
        return _nothing_to_do(challenger, place)
    comparison = compare(recipe, challenger, champion)
    found = check_gates(challenger, comparison, bool(place))
    page = decisions.page_of(comparison, found, champion, challenger)
    show(recipe, page)
    before = champion.version if champion else ""
    decide = partial(Decision, verdict=comparison.verdict, champion=before, flow_run=str(flow_run.id))
    if failed := [f"{gate.name}: {gate.reason}" for gate in found if not gate.passed]:
        return keep(decide("refused", failed), page)
    if claim.version and claim.champion != before:
        changed = (
            f"the champion is version {before or 'none'} now, and was {claim.champion or 'none'} when it was asked"
        )
        return keep(decide("refused", [changed]), page)
    answer = _approval(challenger, champion, page)
    if answer is not None and not answer.approve:
        return keep(decide("refused", ["approval was not given"], by=answer.name, note=answer.note), page)
    who = {"by": answer.name, "note": answer.note} if answer else {}
    against = f"beside version {before}: " if before else ""
    reasons = [f"{against}{IN_WORDS[comparison.verdict]}"]
    reasons += [f"{gate.name}: {gate.reason}" for gate in found]
    decision = decide("promoted", reasons, **who)
    publish_approved(challenger, decision, page, place)
    move(challenger, decision, page, place)
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


def _keep(challenger: Version, champion: Version | None, place: str, decision: Decision, page: str) -> Any:
    """The champion stays, and the version says why; where an attempt before has left it, the champion is put back."""
    decisions.record(challenger, decision, page)
    reasons = "; ".join(decision.reasons)
    take_back(challenger.model, champion, place)
    current().say(f"── {challenger.model}: version {challenger.version} is not promoted: {reasons}")
    return Completed(name=KEPT, message=f"version {challenger.version} is not promoted: {one_line(reasons, 600)}")


def _nothing_to_do(champion: Version, place: str) -> Any:
    """The version is the champion; if a run died before it could write so, that is made up for."""
    last = decisions.last(champion)
    is_rollback = last is not None and last.verdict == ROLLBACK
    if last and last.outcome == "moving" and not is_rollback:
        finish(champion, replace(last, outcome="promoted", left_at=""), "")
    take_back(champion.model, champion, place)
    current().say(f"── {champion.model}: version {champion.version} is the champion already, nothing to do")
    if last and is_rollback and last.outcome in ("moving", "replaced"):
        current().say(f"   A rollback has not come to its end. To end it, run: hiraku rollback {champion.model}")
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
def check_gates(challenger: Version, comparison: Comparison, goes_out: bool) -> list[Gate]:
    """Ask every gate about the registered files."""
    recipe = Library().read("recipe", challenger.model)
    with registry.fetched(challenger) as folder:
        proof = challenger.tags.get(PROOF, "")
        scores = evidence.scores_of(challenger)
        found = gates.check(Candidate(challenger.model, recipe, challenger, folder, comparison, scores, proof))
    if all(gate.passed for gate in found if gate.name in ("loads", "files and size")):
        registry.tag_version(challenger, PROOF, gates.proof_of_loading(challenger))
    if goes_out and recipe.publish.repository:
        found.append(_token_gate(challenger.model, recipe.publish.repository))
    for gate in found:
        current().say(f"   {'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.reason}")
    return found


def _token_gate(model: str, repository: str) -> Gate:
    """Before a person is asked: without a token that may write, the version could not go where its recipe says."""
    ways = (
        f"Set HF_TOKEN or Prefect's Secret block hf-token to one that may write to {repository}, take 'publish' out of "
        "the recipe, or move the champion in the registry alone (--registry-only)"
    )
    with hub_token(current().say), sent(model):
        if not hub.token():
            return Gate("token of the Hub", False, f"there is no token to publish to {repository}. {ways}")
        try:
            with hub.opened(repository) as there:
                bar = there.bar_to_writing()
        except Refused as error:
            return Gate("token of the Hub", False, str(error))
    return Gate("token of the Hub", not bar, f"{bar}. {ways}" if bar else f"there is one for {repository}")


@task(task_run_name="show {recipe}", cache_policy=NO_CACHE, persist_result=False)
def show(recipe: str, page: str) -> None:
    """The comparison as an artifact, so that whoever approves sees in Prefect's pages what is better."""
    key = f"promotion-{recipe}".replace(".", "-")
    create_markdown_artifact(page, key=key, description=f"Challenger and champion of {recipe}")


@step(task_run_name="publish what was approved")
def publish_approved(challenger: Version, decision: Decision, page: str, place: str) -> None:
    """Look at the files again, note that they move, and publish them; refused if they are not what was approved."""
    with approved(challenger) as folder:
        claims.require_ours(challenger.model, str(flow_run.id))
        decisions.record(challenger, replace(decision, outcome="moving", left_at=place), page)
        if place:
            with hub_token(current().say), sent(challenger.model):
                publish(challenger.model, current().say, challenger.version, unapproved=True, files=folder)


@step(task_run_name="make it the champion")
def move(challenger: Version, decision: Decision, page: str, place: str) -> None:
    """Move the alias, if version and claim still are what they were."""
    again, back = (
        f"hiraku promote {challenger.model} --version {challenger.version}",
        f"hiraku rollback {challenger.model}",
    )
    with published(challenger, place, f"{again} to end it", f"{back} to take it back there"):
        require_unchanged(challenger)
        claims.require_ours(challenger.model, str(flow_run.id))
        registry.set_alias(challenger.model, registry.CHAMPION, challenger.version)
        finish(challenger, decision, page)
        if place:
            settle(challenger.model, challenger.version)


@step(task_run_name="put the champion back where {recipe} is published")
def take_back(recipe: str, champion: Version | None, place: str) -> None:
    """Undo what an attempt that came to nothing has published, if one has."""
    put_back(recipe, champion, place)


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
