"""One verb on one name, in a process of its own: CPU seconds and memory, once on little text and then on the real one.

The first pass pays for imports and for what libraries keep, so that the second one is work alone.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.machine import forget_peak, memory, peak_memory
from components.settings import set_quiet_environment


def main(verb: str, warm_up: str, name: str, outcome: str) -> None:
    """Run a verb on two names of the project in the current folder, and write what the second one took."""
    set_quiet_environment()
    run = getattr(import_module(f"components.{verb}"), verb)
    run(warm_up)
    forget_peak()
    base_bytes, began = memory(), time.process_time()
    run(name)
    found = {
        "cpu_seconds": time.process_time() - began,
        "base_bytes": base_bytes,
        "peak_bytes": peak_memory(),
    }
    Path(outcome).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
