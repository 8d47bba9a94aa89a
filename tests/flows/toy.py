"""The stages of the throw-away project: real processes that keep every rule of a stage in milliseconds.

`python toy.py VERB NAME SECONDS [die|refuse|hold]`: works in steps of 0.1 s, keeps the last step in a checkpoint, and
leaves a state whose bytes depend on its input alone. With `hold` it ends when somebody has made the file `go`.
"""

import os
import signal
import sys
import time
from pathlib import Path

from components import paths
from components.journal import Journal
from components.lifeline import die_with_parent
from components.manifest import Manifest, writing
from components.outcomes import Outcome, Refused, clear_outcome, write_outcome


def work(verb: str, name: str, seconds: float, is_held: bool) -> None:
    """Count steps; go on from the checkpoint of a run that was stopped."""
    journal = Journal(verb, name)
    journal.parameters({"seconds": seconds, "deep": {"list": [1, 2]}})
    checkpoint = Path(".hiraku/toy") / f"{verb}-{name}"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    first = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    journal.rewrite([{"step": k, "time": 1.0, "metrics": {f"{verb}/loss": 1 / (k + 1)}} for k in range(first)])
    for step in range(first, round(seconds * 10)):
        print(f"step {step}", flush=True)
        time.sleep(0.1)
        journal.metrics(step, loss=1 / (step + 1))
        checkpoint.write_text(str(step + 1))
    while is_held and not Path("go").exists():
        time.sleep(0.1)
        step += 1
        journal.metrics(step, loss=1 / (step + 1))
    with writing(Manifest(verb, name, {f"components.{verb}": 1})) as folder:
        inside = folder / paths.PAYLOAD[verb]
        inside.mkdir(exist_ok=True)
        (inside / "bytes").write_text(f"{verb} {name} {seconds} {Path('input').read_text()}")
        if verb == "package":
            (folder / "transformers").mkdir()
            (folder / "transformers" / "config.json").write_text("{}")
    checkpoint.unlink(missing_ok=True)


def main() -> int:
    """Run one toy stage and leave its outcome."""
    die_with_parent()
    verb, name, seconds, *how = sys.argv[1:]
    clear_outcome(verb, name)
    with Path("started").open("a") as stream:
        stream.write(f"{verb} {os.getpid()}\n")
    marker = Path(f"{verb}-died")
    if "die" in how and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        if "refuse" in how:
            raise Refused("The toy is refused. Change its command.")
        work(verb, name, float(seconds), is_held="hold" in how)
    except Refused as error:
        write_outcome(verb, name, Outcome("refused", str(error), {"start": 0.0, "work": 0.0}))
        return 1
    write_outcome(verb, name, Outcome("done", "", {"start": 0.1, "work": float(seconds)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
