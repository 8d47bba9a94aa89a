"""The sides of a comparison: each measurement a process of its own, which writes what it found as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from components.outcomes import Refused


def our_command(module: str) -> list[str]:
    """The command of a module of ours."""
    return [sys.executable, "-m", module]


def peer_command(python: Path, script: str) -> list[str]:
    """The command of a peer's script."""
    return [str(python), str(PEERS / script)]


def run_side(command: list[str], words: list[str], outcome: Path) -> dict[str, Any]:
    """Run one side in a fresh process.

    Args:
        command: of `our_command` or `peer_command`.
        words: what follows it; the outcome's path is added.
        outcome: the JSON file that the process is to write.

    Raises:
        Refused: it fails, or writes nothing.
    """
    outcome.unlink(missing_ok=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    whole = [*command, *words, str(outcome)]
    done = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not outcome.is_file():
        raise Refused(f"{' '.join(whole)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return found
