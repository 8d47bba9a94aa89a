"""Who may move the champion of a model: one at a time, told by a tag of the model in the registry.

A registry has no lock. So a claim is written, and read again after a moment: of two that wrote at once, the one that
finds the other's name gives way. On one machine a file's lock is held besides, so there it is certain.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from components import processes, registry, tracking
from components.locks import held
from components.outcomes import Busy, Refused
from components.settings import STATE

TAG = "claim"
SETTLE_SECONDS = 1.0
"""Longer than the time between another's look and its claim."""


@dataclass(frozen=True)
class Claim:
    """Who moves, or asks whether to move, the champion of a model."""

    flow_run: str
    """The Prefect flow run."""
    process: str = ""
    """The mark of its process; empty while it waits for a person, when there is none."""
    version: str = ""
    """The version that it asks about, while it waits or goes on after an answer."""
    content_hash: str = ""
    champion: str = ""
    """The version that it would replace; empty for none."""
    until: float = 0.0
    """Unix time until which a question stands."""
    hours: float = 0.0
    """How long the question stands in all."""
    closer: str = ""
    """The flow run that closes the question if nobody answers."""


def read(model: str) -> Claim | None:
    """The claim on a model, whoever's."""
    text = registry.model_tags(model).get(TAG, "")
    return Claim(**json.loads(text)) if text else None


def write(model: str, claim: Claim) -> None:
    """Have a claim stand on a model."""
    registry.tag_model(model, TAG, json.dumps(asdict(claim)))


def release(model: str) -> None:
    """Take the claim from a model."""
    registry.remove_model_tag(model, TAG)


@contextlib.contextmanager
def taken(model: str, flow_run: str, is_over: Callable[[str], bool], may_wait: bool) -> Iterator[Claim]:
    """Hold the claim on a model while the block runs; it is released after, unless the block turned it into a question.

    Args:
        model: whose champion moves.
        flow_run: ours; a claim that it left as a question is taken up again.
        is_over: whether a flow run, by its id, has certainly ended.
        may_wait: whether a question of another flow run that stands is in the way; going back is always allowed. One
            that nobody has answered in time has been closed before (`flows.approval.close_unanswered`).

    Raises:
        Refused: another holds it; the message says who.
    """
    with _machine(model):
        if not registry.versions(model):
            raise Refused(f"The registry has no version of '{model}'. Run: hiraku release {model}")
        before = read(model)
        _require_free(model, before, flow_run, is_over, may_wait)
        asked = before if before and (before.flow_run == flow_run or not before.process) else None
        ours = (
            replace(asked, process=processes.mark())
            if asked and asked.flow_run == flow_run
            else Claim(flow_run, processes.mark())
        )
        try:
            write(model, ours)
        except tracking.troubles():  # of two that write a model's first claim at once, the store refuses one
            if (other := read(model)) in (None, before):
                raise
            raise Refused(_in_the_way(model, other)) from None
        time.sleep(SETTLE_SECONDS)
        after = read(model)
        if after != ours:
            raise Refused(_in_the_way(model, after))
        try:
            yield ours
        except BaseException:
            with contextlib.suppress(*tracking.troubles()):  # what the block ended with tells more than this would
                _let_go(model, flow_run, asked)
            raise
        _let_go(model, flow_run, asked)


def _let_go(model: str, flow_run: str, asked: Claim | None) -> None:
    """Release our claim, unless it was turned into a question; somebody's question that still stands is put back."""
    now = read(model)
    if now and now.flow_run == flow_run and now.process:
        release(model)
        if asked and asked.flow_run != flow_run:
            write(model, asked)


def require_ours(model: str, flow_run: str) -> None:
    """Refuse to go on when the claim that this process held is gone or another's, as after somebody deleted it.

    Raises:
        Refused: so it is.
    """
    now = read(model)
    if now is None or (now.flow_run, now.process) != (flow_run, processes.mark()):
        raise Refused(_in_the_way(model, now))


@contextlib.contextmanager
def _machine(model: str) -> Iterator[None]:
    try:
        with held(STATE / "claims" / model):
            yield
    except Busy as busy:
        raise Refused(
            f"The champion of '{model}' is being moved on this machine: {busy} Wait until it has ended."
        ) from None


def _require_free(
    model: str, claim: Claim | None, flow_run: str, is_over: Callable[[str], bool], may_wait: bool
) -> None:
    if claim is None or claim.flow_run == flow_run:
        return
    if claim.process:
        is_gone = processes.is_dead(claim.process) or is_over(claim.flow_run)
    else:
        is_gone = not may_wait or is_over(claim.flow_run)
    if not is_gone:
        raise Refused(_in_the_way(model, claim))


def _in_the_way(model: str, claim: Claim | None) -> str:
    if claim is None:
        return f"Somebody took our claim on the champion of '{model}' away. Run again."
    if not claim.process and time.time() > claim.until:
        return (
            f"Flow run {claim.flow_run} has its answer on version {claim.version} of '{model}' and goes on when a "
            "worker takes it. Wait until it has ended, or cancel it in Prefect's pages."
        )
    if not claim.process:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(claim.until))
        return (
            f"Flow run {claim.flow_run} asks whether version {claim.version} of '{model}' becomes the champion, and "
            f"waits for an answer until {when}. Answer it in Prefect's pages (Resume), or cancel it there."
        )
    return (
        f"Flow run {claim.flow_run} moves the champion of '{model}' now (process {claim.process}). Wait until it has "
        f"ended. If you know that it is gone, delete the tag '{TAG}' of the model in MLflow's pages and run again."
    )
