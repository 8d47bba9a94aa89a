"""Rollback: the champion before the present one is the champion again, on the Hub first and then in the registry.

Whatever fails in between, the alias tells the truth about the registry, and the same command goes on from there: what
is done already is found done. Called again after it has ended, it does nothing.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from components import claims, decisions, registry
from components.decisions import ROLLBACK, Decision
from components.outcomes import Refused
from components.publish import restore
from components.recipes import Library
from components.registry import Version
from flows import approval
from flows.checks import before_promotion
from flows.hub_token import hub_token
from flows.moving import approved, ends_written, places, published, require_unchanged, sent, settle, tell_moved
from flows.promote import NOTHING, Say, ended, step, told
from flows.release import STAGES
from flows.session import current, joined


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
        ends_written(recipe),
    ):
        champion, target = choose(recipe, to)
        place = places(Library().read("recipe", recipe), registry_only)
        restore_published(champion, target, place)
        go_back(champion, target, place)
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
    """Where a bare rollback goes.

    To the champion itself if an attempt to promote another has left that published, and if it came back by a rollback,
    so that this can be repeated.
    """
    last = decisions.last(champion)
    if last and last.verdict == ROLLBACK:
        return last.champion if last.outcome == "replaced" else champion.version
    for version in decisions.left_behind(champion.model, champion.version):
        half = decisions.last(version)
        return version.version if half and half.verdict == ROLLBACK else champion.version
    return champion.tags.get(decisions.PREVIOUS, "")


@step(task_run_name="restore what was published")
def restore_published(champion: Version, target: Version, place: str) -> None:
    """Note that it moves, then restore it where it is published; only if it has to be."""
    model = target.model
    with approved(target) as folder:
        claims.require_ours(model, str(flow_run.id))
        if champion.version != target.version:
            going = Decision("moving", ["a rollback"], ROLLBACK, champion.version, flow_run=str(flow_run.id))
            decisions.record(target, replace(going, left_at=place))
        if place:
            with hub_token(current().say), sent(model):
                restore(model, target.version, current().say, folder)


@step(task_run_name="go back")
def go_back(champion: Version, target: Version, place: str) -> None:
    """Move the alias, tell; each only if it has to be. What is taken back says so before, so that it stays so."""
    say, model, last = current().say, target.model, decisions.last(target)
    decide = partial(Decision, verdict=ROLLBACK, flow_run=str(flow_run.id))
    was_left = decisions.left_behind(model, target.version)
    with published(target, place, f"hiraku rollback {model} again, which goes on from there"):
        require_unchanged(target)
        claims.require_ours(model, str(flow_run.id))
        if champion.version != target.version:
            before = champion
        elif last and last.verdict == ROLLBACK and last.outcome == "moving":  # one died after it moved the alias
            before = registry.read_version(model, last.champion) or champion
        else:
            before = None
        if before is not None:
            taken = [f"version {target.version} is the champion again"]
            if not _is_replaced(before):
                decisions.record(before, decide("replaced", taken, champion=target.version))
            registry.set_alias(model, registry.CHAMPION, target.version)
            reasons = [f"version {before.version} was taken back"]
            decisions.record(target, decide("restored", reasons, champion=before.version))
        if place:
            settle(model, target.version)
    if before is not None:
        tell_moved(model, before.version, target.version, ROLLBACK)
        say(f"── {model}: version {target.version} is the champion again, version {before.version} is not")
    elif place and was_left:
        say(f"── {model}: version {target.version}, the champion, is put back at {place}")
    else:
        say(f"── {model}: version {target.version} is the champion already, nothing to do")


def _is_replaced(version: Version) -> bool:
    last = decisions.last(version)
    return last is not None and last.outcome == "replaced"


def rollback(recipe: str, to: str = "", registry_only: bool = False, say: Say = print) -> str:
    """Run a rollback to its end, after `flows.checks.before_promotion`; return what became of it in a sentence.

    Raises:
        Refused: there is no champion to go back to, or the Hub or the registry holds something else than it should.
        flows.launch.StageFailed: a server does not answer; the same again goes on from there.
    """
    named = rollback_flow.with_options(flow_run_name=f"rollback {recipe}")
    return ended("rollback", recipe, say, None, lambda: named(recipe, to, registry_only, return_state=True))
