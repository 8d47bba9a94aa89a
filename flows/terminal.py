"""What every word of the command line prints to."""

import os
import sys

from rich.console import Console

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
