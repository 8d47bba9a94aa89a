"""A polite end: SIGTERM and SIGINT are remembered until a step is done; a second one ends at once."""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Whether somebody has asked this process to end."""

    def __init__(self) -> None:
        self.received = 0
        """The signal's number; 0 while nobody has asked."""
        self.before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals; only a main thread may, elsewhere they stay as they are."""
        if threading.current_thread() is threading.main_thread():
            self.before = {each: signal.signal(each, self._note) for each in SIGNALS}

    def uninstall(self) -> None:
        """Give the signals back to whoever had them."""
        for each, handler in self.before.items():
            signal.signal(each, handler)
        self.before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
