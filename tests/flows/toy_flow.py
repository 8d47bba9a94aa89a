"""The flows as a worker loads them in a throw-away project: the graph of its toys is not rendered again."""

import os
import signal

from prefect import flow

from flows import tasks, workspace
from flows.release import release_flow
from flows.retrain import retrain_flow

workspace.rendered_again = list
tasks.BUSY_SECONDS = 0.5


@flow(name="dying", persist_result=False)
def dying_flow() -> None:
    """Die each time."""
    os.kill(os.getpid(), signal.SIGKILL)


@flow(name="ticking", persist_result=False)
def ticking_flow() -> None:
    """Do nothing, by the clock."""


__all__ = ["dying_flow", "release_flow", "retrain_flow", "ticking_flow"]
