"""The stages of a flow, two at a time where neither waits for the other.

One lane is the flow's own thread, which may run any stage. The other runs stages beside it, and none that computes with
a network: of those only one runs at a time, as it holds a machine's GPUs whole. Of what may begin, one that computes
goes first in the flow's own lane, and after that the stage that the most computing waits for.

A stage that fails does not end the one beside it, which may have worked for days: that comes to its end, nothing else
begins, and the failure is raised. An interruption asks both to end.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context

from components.graph import Node, Stage
from components.settings import settings
from flows.launch import LAUNCHES, Say, StageStopped, tell

COMPUTING = frozenset({"pretrain", "align", "evaluate"})
"""Verbs whose stages hold a machine's GPUs."""
WEIGHTS = frozenset({"pretrain", "align", "package"})
"""Verbs whose states hold a network's weights."""
DERIVED = frozenset({"ingest", "fit", "shard"})
"""Verbs that compute with a network if weights are among what they read."""

SILENT_SECONDS = 3.0
"""How long a person who interrupts sees nothing before we say what we wait for."""

Run = Callable[[Stage, bool], object]


def run_all(stages: Sequence[Stage], run: Run, say: Say) -> None:
    """Run stages, each after those of them that it depends on.

    Args:
        stages: in an order in which they could run one after another.
        run: runs one of them, and is told whether it stands beside another; called in this thread, and for those beside
            in a second one that has this one's context.
        say: receives a line when a stage fails while another is at work.

    Raises:
        what `run` raises, the first of it; or whatever interrupts this thread, after both lanes have ended.
    """
    board = Board(stages, run, say)
    if settings().side_by_side == "off":
        board.work()
    else:
        _run_in_two_lanes(board, say)
    if board.failure is not None:
        raise board.failure


def _run_in_two_lanes(board: "Board", say: Say) -> None:
    beside = threading.Thread(target=copy_context().run, args=(board.work_beside,), name="beside", daemon=True)
    try:
        beside.start()
        board.work()
        board.wait_for_beside()
    except BaseException as error:
        board.close()
        LAUNCHES.end(say, error)
        if beside.ident is not None and not board.wait_for_beside(SILENT_SECONDS):
            tell(say, f"Waiting for {board.at_work}, which is between two tries or tells a server how it ended.")
            board.wait_for_beside()
        raise


def computes(stage: Stage) -> bool:
    """Whether a stage computes with a network, and so holds the GPUs."""
    has_weights = stage.own_network or any(verb in WEIGHTS for verb, _ in stage.parents)
    return stage.verb in COMPUTING or (stage.verb in DERIVED and has_weights)


class Board:
    """What waits, what is at work and what is done; the lanes take from it."""

    def __init__(self, stages: Sequence[Stage], run: Run, say: Say) -> None:
        self.failure: BaseException | None = None
        self._run, self._say = run, say
        behind = _behind(stages)
        self._waiting = sorted(stages, key=lambda stage: -_num_computing(behind[_node(stage)], stages))
        self._at_work: list[Stage] = []
        self._undone = {_node(stage) for stage in stages}
        self._is_closed = False
        self._changed = threading.Condition()
        self._beside_has_ended = threading.Event()

    def work(self) -> None:
        """Run what may begin until nothing waits, in the thread that an interruption reaches."""
        while stage := self._taken(is_beside=False):
            self._run_one(stage, is_beside=False)

    def work_beside(self) -> None:
        """Run what may begin and computes with no network, until no such stage waits."""
        try:
            while stage := self._taken(is_beside=True):
                self._run_one(stage, is_beside=True)
        finally:
            self._beside_has_ended.set()

    def wait_for_beside(self, seconds: float | None = None) -> bool:
        """Wait until the lane beside has ended, at most so long; whether it has.

        An interrupted `Thread.join` of Python 3.11 takes a running thread for ended.
        """
        return self._beside_has_ended.wait(seconds)

    @property
    def at_work(self) -> str:
        """The stages at work, in words."""
        return " and ".join(f"{each.verb} {each.name}" for each in self._at_work)

    def close(self) -> None:
        """Let nothing else begin; what is at work goes on."""
        with self._changed:
            self._is_closed = True
            LAUNCHES.close()
            self._changed.notify_all()

    def _taken(self, is_beside: bool) -> Stage | None:
        """The next stage of a lane, when it may begin; None if there will be none."""
        with self._changed:
            while not self._is_closed:
                own = [stage for stage in self._waiting if not (is_beside and computes(stage))]
                if not own:
                    return None
                may_begin = [stage for stage in own if self._undone.isdisjoint(stage.parents)]
                if may_begin:
                    # Only the flow's own lane can compute, so it prepares nothing while it could.
                    stage = next(filter(computes, may_begin), may_begin[0])
                    self._waiting.remove(stage)
                    self._at_work.append(stage)
                    return stage
                self._changed.wait()
        return None

    def _run_one(self, stage: Stage, is_beside: bool) -> None:
        try:
            self._run(stage, is_beside)
        except BaseException as error:
            self._fail(stage, error)
            if not (is_beside or isinstance(error, Exception)):
                raise  # an interruption
        else:
            with self._changed:
                self._undone.remove(_node(stage))
                self._at_work.remove(stage)
                self._changed.notify_all()

    def _fail(self, stage: Stage, error: BaseException) -> None:
        """Keep the first failure, and tell a person now of what is not raised in a moment."""
        with self._changed:
            is_first = self.failure is None
            self.failure = self.failure or error
            self._at_work.remove(stage)
            other = self.at_work
            self.close()
        if isinstance(error, StageStopped) or not isinstance(error, Exception):
            return  # whoever asked for it knows
        if other:
            tell(self._say, f"{error}\nNothing else begins; {other} comes to its end first.")
        elif not is_first:
            tell(self._say, str(error))


def _node(stage: Stage) -> Node:
    return stage.verb, stage.name


def _behind(stages: Sequence[Stage]) -> dict[Node, set[Node]]:
    """Which stages depend on each, at any remove."""
    found: dict[Node, set[Node]] = {}
    for stage in reversed(stages):
        own = _node(stage)
        found.setdefault(own, set())
        for parent in stage.parents:
            found.setdefault(parent, set()).update(found[own], {own})
    return found


def _num_computing(behind: set[Node], stages: Sequence[Stage]) -> int:
    return sum(computes(stage) for stage in stages if _node(stage) in behind)
