"""A process that runs two toy stages side by side, to be interrupted and killed."""

import signal
import sys

from components.graph import Stage
from flows.launch import StageStopped, launch, terminated
from flows.side_by_side import run_all
from flows.terminal import say

STAGES = [Stage(verb, name, deps=(), params=(), parents=()) for verb, name in (("pretrain", "two"), ("ingest", "one"))]


SHELL_SAYS = ("Terminated", "Killed")
"""How its child ended, in the words of a shell that waits for it: dash does, bash makes way."""


def said(line: str) -> None:
    """All but what the toys count and their shells say."""
    if not line.startswith(("step ", *SHELL_SAYS)):
        say(line)


def run(stage: Stage, is_beside: bool) -> None:
    """As a task does, without Prefect."""
    outcome = launch(stage.verb, stage.name, stage.address, said, is_beside).outcome
    say(f"{stage.verb} {stage.name} has ended as {outcome.kind}")
    if outcome.kind == "stopped":
        raise StageStopped(outcome.reason)
    if outcome.kind != "done":
        raise RuntimeError(outcome.reason)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    signal.signal(signal.SIGTERM, terminated)
    try:
        run_all(STAGES, run, say)
    except BaseException as error:
        say(type(error).__name__)
        sys.exit(1)
