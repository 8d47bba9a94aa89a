"""A tracking server that falls silent inside a flow: told in words that hold no password, and tried again.

Prefect keeps the message and the trace of whatever a task raises, so this stands inside the tasks.
"""

import contextlib
from collections.abc import Iterator

from components import hub, tracking
from components.wording import one_line, shown
from flows.launch import StageFailed


@contextlib.contextmanager
def told(way_out: str, what: str = "tracking server", doing: str = "") -> Iterator[None]:
    """Tell of a server that does not answer as a failure which may end otherwise; also a decorator.

    Args:
        way_out: what holds then, and what to do.
        what: the part of the server that was asked.
        doing: begins the message.

    Raises:
        StageFailed: the server was silent, or this machine's disk did not take what it sent. Other errors of this
            machine pass as they are.
    """
    try:
        yield
    except tracking.troubles() as error:
        if isinstance(error, hub.Unfinished) or not tracking.is_of_server(error):
            raise
        if tracking.names_disk(error):
            words = one_line(shown(error), tracking.MOST_CHARS)
            raise StageFailed(f"This machine's disk did not take what was sent: {words}. Free some room.") from None
        raise StageFailed(
            f"{doing}{tracking.silence(error, what)}. {way_out}"
        ) from None  # MLflow's own words hold addresses in full
