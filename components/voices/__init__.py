"""Machines that read texts aloud, behind one small protocol; the sections of `schema` name them."""

from importlib import import_module
from typing import Any, Protocol

import numpy as np

# The one table of voices: kind of a section -> module with `open_engine(section)` and
# `REVISION`, raised when what it says changes.
ENGINES = {"openjtalk": "components.voices.openjtalk"}


class Engine(Protocol):
    """What reads aloud."""

    facts: dict[str, Any]
    """All that decides a sound: names the engine in manifests, and its sounds in what is kept of them."""

    def say(self, text: str, speaker: Any) -> np.ndarray:
        """Read a text aloud: float32 [samples] at 16 kHz, within [-1, 1]; empty if nothing in it can be spoken.

        Args:
            text: in the language of the voice.
            speaker: `components.voices.schema.Speaker`.
        """


def open_engine(section: Any) -> Engine:
    """The engine of a section.

    Raises:
        Refused: it cannot be opened, or has no such voice.
    """
    opened: Engine = import_module(ENGINES[section.kind]).open_engine(section)
    return opened
