"""The words of operation: schedules, comparison, promotion. They import libraries inside, as `command_line` does."""

from collections.abc import Callable

from cyclopts import App, Group

from flows.terminal import console

OPERATION = Group("Operation", sort_key=3)


def compare(recipe: str, /, *, last: int = 5) -> int:
    """Show the last runs of a recipe side by side: differing parameters, what came out, what it cost, data and code.

    Parameters
    ----------
    recipe
        A recipe, such as gpt-demo.
    last
        How many runs, the newest first.
    """
    from flows import compare as comparing

    comparing.show(comparing.compare(recipe, last), console)
    return 0


WORDS: list[Callable[..., int]] = [
    compare,
]
"""In the order of the help."""


def add_to(app: App) -> None:
    """Add every word of operation to the command line."""
    for place, word in enumerate(WORDS):
        app.command(word, group=OPERATION, sort_key=place)
