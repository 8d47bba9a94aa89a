"""The stages of the throw-away project: real processes that keep every rule of a stage in milliseconds.

`python toy.py VERB NAME SECONDS [die|refuse|hold|data|draws]`: works in steps of 0.1 s, keeps the last step in a
checkpoint, and leaves a state whose bytes depend on its input alone. With `hold` it ends when somebody has made the
file `go`, with `die` it dies once, with `draws` it leaves a picture at every step, and with `data` its bytes are those
of the raw data, and `validate` leaves their profile.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components import paths
from components.journal import Journal
from components.lifeline import die_with_parent
from components.manifest import Manifest, writing
from components.outcomes import Outcome, Refused, clear_outcome, write_outcome

DATA = Path("data/smoke")


def raw() -> list[str]:
    """The lines of the raw data."""
    return [line for path in sorted(DATA.glob("*.jsonl")) for line in path.read_text().splitlines()]


def profile() -> str:
    """The profile of the raw data: how long its lines are."""
    lengths = [min(len(line) // 10, 19) for line in raw()]
    counts = [lengths.count(place) for place in range(20)]
    fact = {"edges": list(range(0, 210, 10)), "histogram": counts}
    return json.dumps({"num_records": len(lengths), "facts": {"text_num_chars": fact}, "categories": {}})


def work(verb: str, name: str, seconds: float, how: list[str]) -> None:
    """Count steps; go on from the checkpoint of a run that was stopped."""
    journal = Journal(verb, name)
    journal.parameters({"seconds": seconds, "deep": {"list": [1, 2]}})
    checkpoint = Path(".hiraku/toy") / f"{verb}-{name}"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    first = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    journal.rewrite([{"step": k, "time": 1.0, "metrics": {f"{verb}/loss": 1 / (k + 1)}} for k in range(first)])
    step = first - 1
    for step in range(first, round(seconds * 10)):
        print(f"step {step}", flush=True)
        time.sleep(0.1)
        journal.metrics(step, loss=1 / (step + 1), **speed_of(verb, step))
        if "draws" in how:
            journal.note(f"samples-{step:07d}.svg", f"<svg>{step}</svg>")
        checkpoint.write_text(str(step + 1))
    while "hold" in how and not Path("go").exists():
        time.sleep(0.1)
        step += 1
        journal.metrics(step, loss=1 / (step + 1))
    with writing(Manifest(verb, name, {f"components.{verb}": 1})) as folder:
        inside = folder / paths.PAYLOAD[verb]
        inside.mkdir(exist_ok=True)
        read = raw() if "data" in how else []
        (inside / "bytes").write_text(" ".join([f"{verb} {name} {seconds} {Path('input').read_text()}", *read]))
        if "data" in how and verb == "validate":
            (folder / "profile.json").write_text(profile())
        if verb == "pretrain":
            (folder / "previews.md").write_text("## Step 10\n\n> once\n\n## Step 1,000\n\n> upon\n")
        if verb == "evaluate":
            score(inside, seconds)
        if verb == "package":
            (folder / "transformers").mkdir()
            (folder / "transformers" / "config.json").write_text("{}")
    checkpoint.unlink(missing_ok=True)


def speed_of(verb: str, step: int) -> dict[str, float]:
    """What a trainer tells of its speed: a hundred tokens a step, at a thousand a second."""
    speeds = {"tokens_seen": 100.0 * (step + 1), "tokens_per_second": 1000.0, "flops_per_second": 5e6}
    return speeds if verb == "pretrain" else {}


def score(folder: Path, seconds: float) -> None:
    """Scores that get better the longer the evaluation is said to take."""
    items = {"task": ["smoke-held-out"] * 2, "item": ["a", "b"], "metric": ["bits"] * 2, "value": [1.0, 2.0]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    (folder / "scores.json").write_text(json.dumps({"tasks": {"smoke-held-out": {"perplexity": 10 - seconds}}}))


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
        work(verb, name, float(seconds), how)
    except Refused as error:
        write_outcome(verb, name, Outcome("refused", str(error), {"start": 0.0, "work": 0.0}))
        return 1
    write_outcome(verb, name, Outcome("done", "", {"start": 0.1, "work": float(seconds)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
