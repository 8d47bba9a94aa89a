"""The words of operation: schedules, comparison, promotion. They import libraries inside, as `command_line` does."""

from collections.abc import Callable

from cyclopts import App, Group

OPERATION = Group("Operation", sort_key=3)

WORDS: list[Callable[..., int]] = []
"""In the order of the help."""


def add_to(app: App) -> None:
    """Add every word of operation to the command line."""
    for place, word in enumerate(WORDS):
        app.command(word, group=OPERATION, sort_key=place)
