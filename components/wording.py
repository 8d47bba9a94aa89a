"""Phrases of the errors that people cause, so that they all answer: what was found, what was expected, what to do."""

import errno
import re
import signal
from collections.abc import Iterable

from rapidfuzz import process

DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO})
"""Numbers of errors that this machine's disk has caused, and no network."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that a person most likely meant, or None if nothing is close."""
    match = process.extractOne(name, list(known), score_cutoff=60)
    return match[0] if match else None


def unknown_name(what: str, name: str, known: Iterable[str], way_out: str) -> str:
    """`No recipe named 'gpt-dmeo'. Did you mean 'gpt-demo'? <way out>`."""
    known = sorted(known)
    near = nearest_name(name, known)
    if near:
        hint = f"Did you mean '{near}'?"
    elif known:
        hint = f"There are: {', '.join(known)}."
    else:
        hint = "There are none."
    return f"No {what} named '{name}'. {hint} {way_out}"


def either(ways: list[str]) -> str:
    """Several ways out, of which one is to be taken: `a, b or c`."""
    return " or ".join(part for part in (", ".join(ways[:-1]), ways[-1]) if part)


def one_line(text: object, limit: int = 200) -> str:
    """Shorten a value for a message: a single line of at most `limit` characters."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def shown(text: object) -> str:
    """A text fit for a person, a log or a server: without the user and password that a URL in it may carry."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", str(text))


def ending(code: int) -> str:
    """How a process ended, by the return code that Python gives."""
    if code < 0:
        name = signal.Signals(-code).name
        cause = " (killed by a person, or by the kernel for want of memory)" if name == "SIGKILL" else ""
        return f"was ended by {name}{cause}"
    return f"ended with exit code {code}"
