"""The heap of this process, as the C library keeps it."""

import contextlib
import ctypes
import sys


def give_back_freed() -> None:
    """Give freed blocks back to the system, where the C library can.

    glibc does not take the place of a freed tensor for an equal one where a small block lies behind it, since tensors
    are aligned. So what is computed part by part, with a node of the graph kept for each, would hold as much as all
    parts at once.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)
