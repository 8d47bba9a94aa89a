"""Errors that no part of the project has put into words: a sentence for a person, the whole trace in a file."""

import os
import time
import traceback
from collections.abc import Sequence

from components.settings import STATE
from components.wording import one_line, shown

LOGS = STATE / "logs"
SOURCES = {
    "mlflow": "the tracking server (MLFLOW_TRACKING_URI; mlflow/README.md)",
    "prefect": "Prefect (PREFECT_API_URL)",
    "huggingface_hub": "the Hugging Face Hub (HF_ENDPOINT, HF_TOKEN)",
    "dvc": "DVC (dvc doctor)",
    "dvc_data": "DVC (dvc doctor)",
    "dvc_objects": "DVC (dvc doctor)",
    "sqlalchemy": "a database (MLFLOW_TRACKING_URI, or the files under .hiraku/)",
    "requests": "a server",
    "httpx": "a server",
    "httpx2": "a server",
}
"""Top-level package of an exception's class -> whose answer it is, and what to look at."""


def put(error: Exception, words: Sequence[str]) -> str:
    """A sentence about an error that reached the command line; its trace is kept in a file that the sentence names.

    Args:
        error: what was raised.
        words: of the command.
    """
    hints = [one_line(shown(note)) for note in getattr(error, "__notes__", [])]
    text = " ".join([f"{type(error).__name__}: {one_line(shown(error), 400).rstrip('.') or 'without a word'}.", *hints])
    who = _source(error)
    origin = f"It comes from {who}." if who else "It is a fault of the program: please report it with its trace."
    return f"{text} {origin} {_keep(error, words)}"


def _source(error: Exception) -> str:
    for each in type(error).__mro__:
        known = SOURCES.get(each.__module__.partition(".")[0])
        if known:
            return known
    return "the operating system" if isinstance(error, OSError) else ""


def _keep(error: Exception, words: Sequence[str]) -> str:
    trace = shown("".join(traceback.format_exception(error)))
    path = LOGS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"hiraku {' '.join(words)}\n\n{trace}", encoding="utf-8")
    except OSError as full:
        return f"The trace could not be kept in {path} ({full}), so here it is:\n{trace}"
    return f"The whole trace: {path}"
