"""OpenJTalk, opened once and without a word: its reading of 何 by a network, which it offers at import, is not used."""

import contextlib
import io
from functools import cache
from types import ModuleType


@cache
def openjtalk() -> ModuleType:
    """The library; at import it prints an advertisement to the standard output, where progress is told."""
    with contextlib.redirect_stdout(io.StringIO()):
        import pyopenjtalk
    return pyopenjtalk
