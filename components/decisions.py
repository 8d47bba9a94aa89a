"""What was decided of a version and why: written to its tags and its description in the registry, refusals too."""

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from components import registry
from components.comparison import Comparison
from components.gates import Gate
from components.markdown import table
from components.registry import Version
from components.wording import one_line

TAG = "decision"
"""Tag of a version: its last decision as JSON; those before are `decision.1`, `decision.2`, ..."""
PROMOTED_AT = "promoted_at"
PREVIOUS = "previous_champion"
"""Tag of a version that was promoted: which one it replaced; empty for none."""
ROLLBACK = "rollback"
"""What stands for a verdict in the decisions and the event of a rollback."""
UNFINISHED = ("waiting", "moving")
CARRYING = ("waiting", "moving", "refused", "failed", "unanswered")
"""Outcomes with which a version still stands where an attempt before has left it."""

Outcome = Literal["waiting", "moving", "promoted", "refused", "failed", "unanswered", "restored", "replaced"]
IN_WORDS: dict[Outcome, str] = {
    "waiting": "Waits for approval",
    "moving": "Is being made the champion",
    "promoted": "Promoted to champion",
    "refused": "Not promoted",
    "failed": "Not made the champion: the attempt failed",
    "unanswered": "Not promoted: no answer",
    "restored": "Champion again after a rollback",
    "replaced": "Taken back by a rollback",
}


@dataclass(frozen=True)
class Decision:
    """One decision."""

    outcome: Outcome
    reasons: list[str]
    verdict: str = ""
    champion: str = ""
    """The version that was the champion then; empty for none."""
    by: str = ""
    """Who approved or refused."""
    note: str = ""
    flow_run: str = ""
    left_at: str = ""
    """Where an attempt has published it, or may have, before it was the champion: until it is, or that is undone."""
    at: str = field(default_factory=lambda: moment(time.time()))


def moment(seconds: float) -> str:
    """A time of day in UTC, as tags and pages show it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def last(version: Version) -> Decision | None:
    """The last decision on a version, as its tags say."""
    text = version.tags.get(TAG, "")
    return Decision(**json.loads(text)) if text else None


def is_decided(version: Version) -> bool:
    """Whether anybody has decided on a version, or is about to; an attempt that failed has decided nothing."""
    found = last(version)
    return found is not None and found.outcome != "failed"


def earlier(version: Version) -> list[Decision]:
    """The decisions before the last one, oldest first."""
    numbers = sorted(int(key.partition(".")[2]) for key in version.tags if key.startswith(f"{TAG}."))
    return [Decision(**json.loads(version.tags[f"{TAG}.{number}"])) for number in numbers]


def record(version: Version, decision: Decision, page: str = "") -> None:
    """Write a decision; what stood there before becomes an earlier one, unless it was only a step towards this one.

    Args:
        version: as read from the registry; its tags are read again.
        decision: what was decided.
        page: Markdown that goes into the description after the decisions, such as `page_of` makes.
    """
    now = registry.read_version(version.model, version.version) or version
    before, past = last(now), earlier(now)
    if before and decision.outcome in CARRYING and not decision.left_at:
        decision = replace(decision, left_at=before.left_at)
    if before and before.outcome not in UNFINISHED:
        past.append(before)
        registry.tag_version(now, f"{TAG}.{len(past)}", now.tags[TAG])
    if decision.outcome == "promoted":
        registry.tag_version(now, PREVIOUS, decision.champion)
        registry.tag_version(now, PROMOTED_AT, decision.at)
    short = {**asdict(decision), "reasons": [one_line(each, 300) for each in decision.reasons[:12]]}
    short["note"] = one_line(decision.note, 500)
    registry.tag_version(now, TAG, json.dumps(short, ensure_ascii=False))
    registry.describe_version(now, "\n\n".join(part for part in (_told(decision, past), page) if part))


def settle(version: Version) -> None:
    """Note that a version no longer stands where an attempt to promote it left it."""
    if (found := last(version)) and found.left_at:
        text = json.dumps(asdict(replace(found, left_at="")), ensure_ascii=False)
        registry.tag_version(version, TAG, text)


def left_behind(model: str, champion: str) -> list[Version]:
    """The versions, newest first, that an attempt left published though another one is the champion."""
    others = [row for row in registry.versions(model) if row.version != champion]
    return [row for row in others if (found := last(row)) and found.left_at]


def fail_open(model: str, flow_run: str, reason: str) -> None:
    """Have no version wait for, or be on the move by, a flow run that ends now without having moved the champion."""
    champion = registry.aliases(model).get(registry.CHAMPION, "")
    for row in registry.versions(model):
        found = last(row)
        if found and found.flow_run == flow_run and found.outcome in UNFINISHED and row.version != champion:
            failed = Decision("failed", [reason], found.verdict, found.champion, found.by, found.note, flow_run)
            record(row, replace(failed, left_at=found.left_at))


def _told(decision: Decision, past: list[Decision]) -> str:
    lines = [f"**{IN_WORDS[decision.outcome]}**, {decision.at}{_whom(decision)}."]
    lines += [f"- {one_line(reason, 300)}" for reason in decision.reasons]
    if decision.left_at:
        lines.append(f"- it may stand at {decision.left_at}, though it is not the champion")
    if past:
        lines.append("\nEarlier:")
        lines += [f"- {each.at}: {IN_WORDS[each.outcome].lower()}{_whom(each)}" for each in reversed(past[-8:])]
    return "\n".join(lines)


def _whom(decision: Decision) -> str:
    by = f" by {decision.by}" if decision.by else ""
    return f"{by} ({one_line(decision.note, 200)})" if decision.note else by


def page_of(comparison: Comparison, gates: list[Gate], champion: Version | None, challenger: Version) -> str:
    """What a person reads before approving, as Markdown."""
    from components.comparison import IN_WORDS as VERDICTS

    against = f"version {champion.version}, the champion" if champion else "no champion"
    parts = [f"Version {challenger.version} beside {against}: **{VERDICTS[comparison.verdict]}**."]
    if comparison.tests:
        head = ("Task", "Measure", "n", "Champion", "Challenger", "Gain, 95 % interval", "p", "")
        parts += [table(head, comparison_rows(comparison)), comparison.method]
    rows = [("passed" if gate.passed else "**failed**", gate.name, gate.reason) for gate in gates]
    return "\n\n".join([*parts, table(("", "Gate", "Why"), rows)] if rows else parts)


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row a test, in words."""
    return [
        (
            test.task,
            f"{test.measure.name} ({test.measure.better} is better)",
            f"{test.num_items:,}",
            f"{test.champion:.4g}",
            f"{test.challenger:.4g}",
            f"{test.gain:+.3g} ({test.low:+.3g} to {test.high:+.3g})",
            f"{test.corrected:.2g}",
            test.words,
        )
        for test in comparison.tests
    ]
