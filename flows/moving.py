"""What a promotion and a rollback do to servers: look at the files again, publish, move the alias, and take back.

Between a Hub that has a version and a registry whose champion it is lies a moment in which anything may die. So a
version says `moving`, and where it goes, before it is published; whoever comes next finds that, and goes on or back.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from components import decisions, hub, registry, tracking
from components.decisions import Decision
from components.manifest import MANIFEST_NAME, tree_hash
from components.outcomes import Refused
from components.publish import restore
from components.registry import Version
from components.wording import either, one_line, shown
from flows import events
from flows.hub_token import hub_token
from flows.launch import StageFailed
from flows.session import current


def places(recipe: Any, registry_only: bool) -> str:
    """Where a recipe's versions are published on their way, in words; empty for nowhere."""
    if recipe.publish is None or registry_only:
        return ""
    return " and ".join(each for each in (recipe.publish.repository, recipe.publish.folder) if each)


# ---- what is looked at before anything moves -------------------------------------------------------------------------


@contextlib.contextmanager
def approved(version: Version) -> Iterator[Path]:
    """The files of a version, fetched once; refused if they are not those that were compared and approved."""
    require_unchanged(version)
    with registry.fetched(version) as folder:
        _require_content(version, tree_hash(folder, without=MANIFEST_NAME))
        yield folder


def require_unchanged(version: Version) -> None:
    """Refuse a version that is another content now, as the registry says."""
    now = registry.read_version(version.model, version.version)
    _require_content(version, now.content_hash if now else "nothing")


def _require_content(version: Version, found: str) -> None:
    if found == version.content_hash:
        return
    reason = (
        f"version {version.version} of '{version.model}' has the content {found[:12]} now, and was approved "
        f"with {version.content_hash[:12]}: somebody has changed it. The champion has not moved"
    )
    if now := registry.read_version(version.model, version.version):
        decisions.record(now, Decision("refused", [reason], flow_run=str(flow_run.id)))
    raise Refused(f"{reason}. Release it again: hiraku release {version.model}")


# ---- servers that fail -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sent(recipe: str) -> Iterator[None]:
    """A Hub that fails leaves the champion where it is; running again goes on from what has arrived."""
    try:
        yield
    except hub.Unfinished as error:
        raise StageFailed(
            f"{recipe} is not on the Hub as it should be, so the champion has not moved. {error}"
        ) from None  # no cause: its words hold addresses in full


@contextlib.contextmanager
def published(version: Version, place: str, *ways: str) -> Iterator[None]:
    """Whatever goes wrong after a version was published also tells that it was, and the ways on."""
    if not place:
        yield
        return
    state = f"{place} has version {version.version} of {version.model} already. Run {either(list(ways))}"

    def failure(silence: str) -> StageFailed:
        return StageFailed(f"{silence}, so the champion is what it says when it is back, while {state}")

    try:
        with tracking.silence_told(failure, "registry"):
            yield
    except Refused as error:
        raise Refused(f"{str(error).rstrip('.')}. {state}") from None


@contextlib.contextmanager
def ends_written(recipe: str) -> Iterator[None]:
    """A flow run that fails leaves no version waiting for it, or on the move."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(*tracking.troubles()):  # a registry that is silent is what it failed for
            decisions.fail_open(recipe, str(flow_run.id), one_line(shown(error), 300))
        raise


# ---- what is done and told after -------------------------------------------------------------------------------------


def finish(version: Version, decision: Decision, page: str) -> None:
    """What is written and told after the alias has moved."""
    decisions.record(version, decision, page)
    tell_moved(version.model, decision.champion, version.version, decision.verdict)
    current().say(f"── {version.model}: version {version.version} is the champion")


def tell_moved(recipe: str, before: str, after: str, verdict: str) -> None:
    """An event for Prefect's automations."""
    resource = {"prefect.resource.id": events.model_resource(recipe), "prefect.resource.name": recipe}
    emit_event(events.CHAMPION_MOVED, resource=resource, payload={"from": before, "to": after, "verdict": verdict})


def settle(model: str, champion: str) -> None:
    """Note that only the champion stands where the model is published."""
    for version in decisions.left_behind(model, champion):
        decisions.settle(version)


def put_back(model: str, champion: Version | None, place: str) -> None:
    """Have the champion stand where an attempt that came to nothing may have left another version.

    Args:
        model: whose versions.
        champion: the one to restore; without one there is none.
        place: what `places` says now; if it is empty, only a sentence tells what to do.

    Raises:
        Refused: the place does not take it.
        StageFailed: the place does not answer; the version remembers it.
    """
    left = decisions.left_behind(model, champion.version if champion else "")
    if not left:
        return
    last = decisions.last(left[0])
    what = f"{last.left_at if last else place} may hold version {left[0].version}, which is not the champion"
    if champion is None or not place:
        way = f"hiraku publish {model} --version champion" if champion else "delete it there, or promote a version"
        current().say(f"── {model}: {what}. To mend that: {way}")
        return
    current().say(f"── {model}: {what}; version {champion.version} is put back")
    try:
        with hub_token(current().say), sent(model):
            restore(model, champion.version, current().say)
    except Refused as error:
        raise Refused(f"{what}. {error} Or run: hiraku publish {model} --version champion") from None
    settle(model, champion.version)
