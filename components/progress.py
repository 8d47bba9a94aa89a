"""How far long work is: a bar in a terminal, plain lines in a log. Both go to standard error."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from components.settings import settings

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_SECONDS = 10.0
"""The least time between two lines of a log."""


def shows_bar() -> bool:
    """Whether this process draws a bar."""
    wanted = settings().progress
    return wanted == "bar" or (wanted == "auto" and sys.stderr.isatty())


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """The progress of one piece of work with a known number of steps; a context manager.

    Args:
        label: what is done, such as `pretrain gpt-demo`.
        total: steps in all.
        done: steps that an earlier run has done.
        unit: what a line of a log calls them.
        is_silent: say nothing, as one of several processes that do the same.
    """

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "step", is_silent: bool = False) -> None:
        self.label, self.total, self.start, self.done, self.unit = label, total, done, done, unit
        self.is_silent = is_silent
        self.bar: Bar | None = None

    def __enter__(self) -> "Progress":
        self.began = time.monotonic()
        self.last_line = float("-inf")
        if shows_bar() and not self.is_silent:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            words = TextColumn("{task.fields[words]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words)
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(self.label, total=self.total, completed=self.start, words="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def time_left(self) -> str:
        """From the mean speed of this run; empty before its first step."""
        done_now = self.done - self.start
        if not done_now or self.done >= self.total:
            return ""
        seconds = (time.monotonic() - self.began) / done_now * (self.total - self.done)
        return f"{duration(seconds)} left"

    def update(self, step: int, words: str = "") -> None:
        """Say that so many steps are done, with what there is to tell; a log gets a line every ten seconds at most."""
        self.done = step
        told = "  ".join(part for part in (words, self.time_left()) if part)
        if self.bar is not None:
            self.bar.update(self.task, completed=step, words=told)
        elif step >= self.total or time.monotonic() - self.last_line >= LINE_SECONDS:
            self.last_line = time.monotonic()
            self.say(f"{self.unit} {step:,}/{self.total:,}  {told}".rstrip())

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        elif not self.is_silent:
            sys.stderr.write(f"{self.label}: {text}\n")
            sys.stderr.flush()
