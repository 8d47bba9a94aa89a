"""Rollback: the champion before the present one is the champion again, on the Hub first and then in the registry.

Whatever fails in between, the alias tells the truth about the registry, and the same command goes on from there: what
is done already is found done. Called again after it has ended, it does nothing.
"""

from functools import partial
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from components import claims, decisions, registry
from components.decisions import Decision
from components.outcomes import Refused
from components.publish import restore
from components.recipes import Library
from components.registry import Version
from flows import approval
from flows.checks import before_promotion
from flows.hub_token import hub_token
from flows.promote import NOTHING, Say, ended, publishes, require_approved, sent, step, tell_moved, told
from flows.release import STAGES
from flows.session import current, joined

ROLLBACK = "rollback"
"""What stands for a verdict in the decisions and the event of a rollback."""


@flow(name="rollback", persist_result=False)
def rollback_flow(recipe: str, to: str = "", registry_only: bool = False) -> Any:
    """Make an earlier champion the champion again, in the registry and on the Hub.

    Args:
        recipe: The recipe whose champion is taken back, such as gpt-demo.
        to: The version to go back to; empty for the one that the present champion replaced.
        registry_only: Leave what is published as it is.
    """
    with (
        joined("rollback", recipe, STAGES, partial(before_promotion, recipe)),
        told(),
        claims.taken(recipe, str(flow_run.id), approval.is_over, may_wait=False),
    ):
        champion, target = choose(recipe, to)
        go_back(champion, target, registry_only)
        if champion.version == target.version:
            return Completed(name=NOTHING, message=f"version {target.version} is the champion already")
        return Completed(message=f"version {target.version} is the champion again; before it was {champion.version}")


@step(task_run_name="choose the champion before")
def choose(recipe: str, to: str) -> tuple[Version, Version]:
    """The champion, and the version to go back to; the same one if that has been done."""
    champion = registry.read_version(recipe, registry.CHAMPION)
    if champion is None:
        raise Refused(f"'{recipe}' has no champion, so there is nothing to take back. Run: hiraku promote {recipe}")
    wanted = to or _before(champion)
    if not wanted:
        raise Refused(
            f"Version {champion.version} of '{recipe}' is its first champion: there is none before it. Name another "
            f"that was one (--to VERSION), or promote a better one: hiraku promote {recipe}"
        )
    target = registry.read_version(recipe, wanted)
    was = sorted((row.version for row in registry.versions(recipe) if decisions.PROMOTED_AT in row.tags), key=int)
    if target is None or target.version not in was:
        what = "is not in the registry" if target is None else "was never the champion"
        raise Refused(
            f"Version {wanted} of '{recipe}' {what}, expected one of {', '.join(was) or 'none'}. For another: "
            f"hiraku promote {recipe} --version {wanted}"
        )
    return champion, target


def _before(champion: Version) -> str:
    """Where a bare rollback goes: nowhere if the champion came back by one, so that it can be repeated."""
    last = decisions.last(champion)
    if last and last.verdict == ROLLBACK:
        return champion.version
    return champion.tags.get(decisions.PREVIOUS, "")


@step(task_run_name="go back")
def go_back(champion: Version, target: Version, registry_only: bool) -> None:
    """Restore on the Hub, move the alias, tell; each only if it has to be."""
    say, model = current().say, target.model
    require_approved(target)
    if publishes(Library().read("recipe", model), registry_only):
        with hub_token(say), sent(model):
            restore(model, target.version, say)
    last = decisions.last(target)
    decide = partial(Decision, verdict=ROLLBACK, flow_run=str(flow_run.id))
    if champion.version != target.version:
        decisions.record(target, decide("moving", ["a rollback"], champion=champion.version))
        registry.set_alias(model, registry.CHAMPION, target.version)
        before = champion
    elif last and last.verdict == ROLLBACK and last.outcome == "moving":  # a rollback died after it moved the alias
        found = registry.read_version(model, last.champion)
        before = found or champion
    else:
        say(f"── {model}: version {target.version} is the champion already, nothing to do")
        return
    decisions.record(before, decide("replaced", [f"version {target.version} is the champion again"]))
    decisions.record(target, decide("restored", [f"version {before.version} was taken back"], champion=before.version))
    tell_moved(model, before.version, target.version, ROLLBACK)
    say(f"── {model}: version {target.version} is the champion again, version {before.version} is not")


def rollback(recipe: str, to: str = "", registry_only: bool = False, say: Say = print) -> str:
    """Run a rollback to its end, after `flows.checks.before_promotion`; return what became of it in a sentence.

    Raises:
        Refused: there is no champion to go back to, or the Hub or the registry holds something else than it should.
        flows.launch.StageFailed: a server does not answer; the same again goes on from there.
    """
    named = rollback_flow.with_options(flow_run_name=f"rollback {recipe}")
    return ended("rollback", recipe, say, None, lambda: named(recipe, to, registry_only, return_state=True))
