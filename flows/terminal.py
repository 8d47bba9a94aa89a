"""What every word of the command line prints to."""

import os
import sys

from rich.console import Console

from components.outcomes import Refused

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """A plain line; in a terminal the bar of a stage stands on standard error and is not disturbed."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever listened has ended, such as `tee` after Ctrl-C: the work goes on, or ends as it should, unheard.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def confirmed(question: str, way_out: str) -> None:
    """Go on only if whoever sits at the terminal says yes.

    Raises:
        Refused: nobody sits there, or they said no; `way_out` is the option that answers beforehand.
    """
    from rich.prompt import Confirm

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused(f"{question} This is no terminal to ask at. Add {way_out} if you want it.")
    if not Confirm.ask(question, console=console, default=False):
        raise Refused("Nothing was changed.")
