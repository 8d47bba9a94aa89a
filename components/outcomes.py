"""How a stage ended, and whether to try again.

DVC turns every exit code of a stage into 255, so a stage leaves its outcome in a file beside the states, which the
launcher clears before and reads after.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from components import paths

Kind = Literal["done", "refused", "busy", "stopped", "failed"]


class Refused(ValueError):
    """The input is wrong or the result cannot be accepted. A retry would end the same way, so none is made.

    The message says what was found, what was expected, and the command or key to change.
    """


class Busy(RuntimeError):
    """Another process holds what this stage needs. Waiting helps."""


class Stopped(RuntimeError):
    """A person or a scheduler asked this stage to end, and it has saved its work. It is not begun again by itself."""


@dataclass(frozen=True)
class Outcome:
    """The end of one run of a stage."""

    kind: Kind
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by part: `start` (interpreter and imports), `work`."""
    scratch: str = ""
    """Folder of partial work that can go once the result is recorded; see `leave_scratch`."""


_scratch = ""


def leave_scratch(folder: Path) -> None:
    """Name the folder of partial work that led to this stage's result.

    The stage itself must not remove it: killed before DVC has recorded the result, the stage would begin from nothing.
    """
    global _scratch
    _scratch = str(folder)


def scratch_left() -> str:
    """What `leave_scratch` named in this process, for `Outcome.scratch`; empty if nothing."""
    return _scratch


def write_outcome(verb: str, name: str, outcome: Outcome) -> None:
    """Leave an outcome for the launcher."""
    path = paths.outcome(verb, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(outcome), ensure_ascii=False, indent=1), encoding="utf-8")
    partial.replace(path)


def clear_outcome(verb: str, name: str) -> None:
    """Forget the last run, so that an old outcome is never taken for a new one."""
    paths.outcome(verb, name).unlink(missing_ok=True)


def read_outcome(verb: str, name: str) -> Outcome | None:
    """The last run's outcome; None if the stage died before it could write one."""
    path = paths.outcome(verb, name)
    return Outcome(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
