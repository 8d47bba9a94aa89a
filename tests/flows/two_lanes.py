"""A process that runs two toy stages side by side, to be interrupted and killed."""

import signal
import sys

from components.graph import Stage
from flows.launch import StageStopped, launch
from flows.side_by_side import run_all

STAGES = [Stage(verb, name, deps=(), params=(), parents=()) for verb, name in (("pretrain", "two"), ("ingest", "one"))]


def run(stage: Stage, is_beside: bool) -> None:
    """As a task does, without Prefect."""
    done = launch(stage.verb, stage.name, stage.address, print, is_beside)
    if done.outcome.kind != "done":
        raise StageStopped(f"{stage.verb} {stage.name}: {done.outcome.reason}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    try:
        run_all(STAGES, run, print)
    except KeyboardInterrupt:
        sys.stdout.write("interrupted\n")
