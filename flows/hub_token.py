"""The token of a Hub: from the environment, or from Prefect's Secret block, and never in a log."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from components.hub import TOKEN

BLOCK = "hf-token"

Say = Callable[[str], None]


@contextmanager
def hub_token(say: Say) -> Iterator[None]:
    """While the block runs, `HF_TOKEN` is what the environment has, or what Prefect's Secret block `hf-token` holds.

    Without either there is none: whoever needs it says so. The variable is gone after, so that no process that is
    started later inherits it.

    Args:
        say: receives where the token was taken from, and nothing of the token itself.
    """
    found = "" if os.environ.get(TOKEN) else _of_block()
    if not found:
        yield
        return
    say(f"The token of the Hub is taken from Prefect's Secret block '{BLOCK}'.")
    before = os.environ.get(TOKEN)
    os.environ[TOKEN] = found
    try:
        yield
    finally:
        if before is None:
            del os.environ[TOKEN]
        else:
            os.environ[TOKEN] = before


def _of_block() -> str:
    """The block's value; empty if there is no such block."""
    from prefect.blocks.system import Secret

    load: Any = Secret.load
    try:
        block = load(BLOCK, _sync=True)
    except ValueError:  # Prefect's answer when there is none
        return ""
    return str(block.value.get_secret_value())
