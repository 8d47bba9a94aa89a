"""What Prefect's server does by itself: it finds dead runs, begins them again, and tells people.

    zombies    a run that has sent no heartbeat for 120 s is marked as crashed
    restarts   a crashed run of a deployment is begun again, at most three times; DVC finds the finished
               stages fresh, and a training goes on from its checkpoint
    telling    a failed run, an approval that is waited for and a new champion, through a block of the server

They are made by `hiraku serve` and `hiraku deploy`, once by name, and brought up to date only when they differ from
what is here: the server forgets whose heartbeats it waits for when an automation is updated, and after a reboot those
are the dead. Only runs with the tag `hiraku` are touched.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from components.outcomes import Refused
from components.settings import settings
from components.wording import unknown_name
from flows.events import CHAMPION_MOVED, model_resource
from flows.session import OURS

HEARTBEATS_SECONDS = 120
"""Four heartbeats of 30 s, the shortest that Prefect allows: a server that lags behind for a minute kills nobody."""
MOST_RESTARTS = 3
"""A run that crashes once more stays crashed."""
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused", "AwaitingRetry", "Late")
"""Names of states after which nobody waits for a heartbeat."""
ONCE = timedelta(seconds=1)
"""A server on SQLite that finds its database locked handles an event again; with no window it would act again too."""
BLOCK = "hiraku-notify"
"""Name of the block of the server that telling goes through, unless HIRAKU_NOTIFY_BLOCK names another."""
WEBHOOK = "webhook"
"""Slug of the type of block that is called; any other type sends notifications."""

Say = Callable[[str], None]


def ensure(say: Say) -> list[str]:
    """Have the automations on the server, each once; return their names.

    Raises:
        Refused: HIRAKU_NOTIFY_BLOCK names a block that the server does not have.
    """
    with get_client(sync_client=True) as client:
        block = _block(client)
        if block is None:
            say(
                f"Nobody is told of failures, approvals and champions: the server has no block named '{BLOCK}', such "
                "as a Slack webhook, and HIRAKU_NOTIFY_BLOCK names no other. Prefect's pages show them all the same."
            )
        wanted = [_zombies(), _restarts(), *(_telling(*block) if block else [])]
        for automation in wanted:
            _put(client, automation)
    return [automation.name for automation in wanted]


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Make an automation, or bring the one of its name up to date if it is another; further ones of its name go."""
    automation = automation.model_copy(update={"description": f"{automation.description} {_mark(automation)}"})
    known = client.read_automations_by_name(automation.name)
    if not known:
        client.create_automation(automation)
        return
    first, *others = known
    if first.description != automation.description:
        automation = automation.model_copy(update={"enabled": first.enabled})  # a person may have paused it
        client.update_automation(first.id, AutomationCore(**automation.model_dump(exclude={"owner_resource"})))
    for other in others:
        client.delete_automation(other.id)


def _mark(automation: AutomationCore) -> str:
    """What tells later whether an automation on the server was made from this one; a person's changes to it stay."""
    text = json.dumps(automation.model_dump(), sort_keys=True, default=_plain)
    return f"[{hashlib.sha256(text.encode()).hexdigest()[:8]}]"


def _plain(value: Any) -> Any:
    """Something that JSON knows and that is the same in every process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


# ---- the dead --------------------------------------------------------------------------------------------------------


def _ours() -> dict[str, str | list[str]]:
    """Related resource of every run of ours."""
    return {"prefect.resource.id": f"prefect.tag.{OURS}"}


def _runs(**labels: list[str]) -> dict[str, str | list[str]]:
    return {"prefect.resource.id": ["prefect.flow-run.*"], **labels}


def _zombies() -> AutomationCore:
    beat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name="hiraku: mark dead runs",
        description="A run without a heartbeat for 120 s has lost its process, as at a reboot.",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{name}" for name in ENDS)},
            match=_runs(),
            match_related=_ours(),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=HEARTBEATS_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                force=False,
                message=f"No heartbeat for {HEARTBEATS_SECONDS} s: its process is gone.",
            )
        ],
    )


def _restarts() -> AutomationCore:
    counts = [str(number) for number in range(1, MOST_RESTARTS + 1)]
    return AutomationCore(
        name="hiraku: begin crashed runs again",
        description=f"Up to {MOST_RESTARTS} times a run; finished stages are found fresh, a training goes on.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=_runs(**{"prefect.run-count": counts}),
            match_related=[_ours(), {"prefect.resource.role": "deployment"}],
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=ONCE,
        ),
        actions=[
            ChangeFlowRunState(
                name="AwaitingRetry",
                state=StateType.SCHEDULED,
                force=False,
                message="It has crashed, and is begun again.",
            )
        ],
    )


# ---- telling ---------------------------------------------------------------------------------------------------------


def _telling(block: UUID, is_webhook: bool) -> Iterator[AutomationCore]:
    """One automation for each of what people want to know."""
    run = "{{ flow_run.name }} ({{ flow.name }})"
    said = "{{ flow_run.state.message }}"
    cases: list[tuple[str, set[str], dict[str, Any], str, str]] = [
        (
            "tell of failures",
            {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            {"match": _runs(), "match_related": _ours()},
            f"{run} has failed",
            said,
        ),
        (
            "tell of waiting approvals",
            {"prefect.flow-run.Suspended"},
            {"match": _runs(), "match_related": _ours()},
            f"{run} waits for an approval",
            f"{said} {{{{ flow_run | ui_url }}}}",
        ),
        (
            "tell of champions",
            {CHAMPION_MOVED},
            {"match": {"prefect.resource.id": [model_resource("*")]}},
            "{{ event.resource.name }}: version {{ event.payload.to }} is the champion",
            "It was {{ event.payload.from }}. {{ event.payload.verdict }}",
        ),
    ]
    for name, expect, matches, subject, body in cases:
        yield AutomationCore(
            name=f"hiraku: {name}",
            description="Through the block that the server has for it.",
            trigger=EventTrigger(
                expect=expect,
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=ONCE,
                **matches,
            ),
            actions=[_action(block, is_webhook, subject, body)],
        )


def _action(block: UUID, is_webhook: bool, subject: str, body: str) -> CallWebhook | SendNotification:
    if not is_webhook:
        return SendNotification(block_document_id=block, subject=subject, body=body)
    # What a template fills in may hold quotes and line ends, so the whole text is put through `tojson`.
    payload = f"{{% set text %}}{subject}. {body}{{% endset %}}" + '{"text": {{ text | tojson }}}'
    return CallWebhook(block_document_id=block, payload=payload)


def _block(client: SyncPrefectClient) -> tuple[UUID, bool] | None:
    """The block that telling goes through, and whether it is a webhook; None if there is none and none is named."""
    wanted = settings().notify_block or BLOCK
    kind, _, name = wanted.rpartition("/")
    documents = client.read_block_documents(include_secrets=False, limit=200)
    known = {
        f"{each.block_type.slug}/{each.name}": each for each in documents if each.block_type is not None and each.name
    }
    found = [each for key, each in known.items() if key == wanted or (not kind and each.name == name)]
    if found:
        slug = found[0].block_type.slug if found[0].block_type else ""
        return found[0].id, slug == WEBHOOK
    if settings().notify_block:
        raise Refused(
            unknown_name("block", wanted, known, "Change HIRAKU_NOTIFY_BLOCK, or make the block in Prefect's pages.")
        )
    return None
