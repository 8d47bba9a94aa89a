"""Our side of sft_speed and ppo_speed: the verb `align` as a person runs it, with its time read from outside.

    python -m benchmarks.our_alignment FOLDER RECIPE OUTCOME

FOLDER is the project that `benchmarks.alignment_project` wrote, OUTCOME the JSON file to write.
"""

import json
import sys
from pathlib import Path

from benchmarks.our_trainer import align_or_pretrain
from components.meters import peak_process_memory


def run(folder: Path, recipe: str, outcome: Path) -> None:
    """Align once in this process and write what was measured."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    outcome = outcome.absolute()
    watch = align_or_pretrain(folder, "align", recipe, "cpu")
    found = {
        "steady": watch.found(work["warmup_steps"], work["num_steps"])["steady"],
        "first": watch.told[1],
        "last": watch.told[work["num_steps"]],
        "peak_memory_bytes": peak_process_memory(),
        "name": "Hiraku",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    from components.settings import set_quiet_environment

    set_quiet_environment()
    run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
