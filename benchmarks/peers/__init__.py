"""Peers: each a script that imports nothing of ours and runs in an environment of its own, from a lock file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from components.outcomes import Refused

PEERS = Path(__file__).parent
ENVIRONMENTS = Path(".bench")


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment with exactly what `peers/<peer>.lock` names, made if it is not there.

    Raises:
        Refused: it cannot be made.
    """
    lock, place = PEERS / f"{peer}.lock", ENVIRONMENTS / peer
    made_from, python = place / lock.name, place / "bin" / "python"
    if python.exists() and made_from.is_file() and made_from.read_bytes() == lock.read_bytes():
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    print(f"Making {place} from {lock.name}", flush=True)
    try:
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True)
        environment = {**os.environ, "VIRTUAL_ENV": str(place.resolve())}
        subprocess.run([uv, "pip", "sync", "--quiet", str(lock)], env=environment, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"The environment of the peer '{peer}' cannot be made: {error}. Run: make setup") from error
    shutil.copyfile(lock, made_from)
    return python
