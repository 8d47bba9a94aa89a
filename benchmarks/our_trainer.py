"""Our side of training_speed: the verb `pretrain` as a person runs it, with its time read from outside.

    python -m benchmarks.our_trainer FOLDER PRECISION DEVICE OUTCOME

FOLDER is the project that `benchmarks.project` wrote, PRECISION the name of its recipe, OUTCOME the JSON file to write.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from components.checkpoints import Checkpoints
from components.journal import Journal
from components.meters import peak_process_memory

Reading = tuple[float, float]
"""CPU time of this process and the wall clock, in seconds."""


def _now() -> Reading:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time(), time.perf_counter()


def _between(begin: Reading, end: Reading) -> list[float]:
    return [after - before for before, after in zip(begin, end, strict=True)]


@dataclass
class Watch:
    """What the trainer writes into its journal, and when; and when a checkpoint is done."""

    losses: dict[int, tuple[Reading, float]] = field(default_factory=dict)
    """By step."""
    validations: list[tuple[Reading, float]] = field(default_factory=list)
    checkpoints: list[Reading] = field(default_factory=list)
    told: dict[int, dict[str, float]] = field(default_factory=dict)
    """All that was written of training, by step."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read along while a verb runs in this process."""
        write, save = Journal.metrics, Checkpoints.save

        def metrics(journal: Journal, step: int, **values: float) -> None:
            if "loss" in values:
                self.losses[step] = (_now(), values["loss"])
                self.told[step] = values
            if "valid_loss" in values:
                self.validations.append((_now(), values["valid_loss"]))
            write(journal, step, **values)

        def saved(checkpoints: Checkpoints, *args: Any, **kwargs: Any) -> Any:
            place = save(checkpoints, *args, **kwargs)
            self.checkpoints.append(_now())
            return place

        with patch.object(Journal, "metrics", metrics), patch.object(Checkpoints, "save", saved):
            yield

    def found(self, warmup_steps: int, num_steps: int) -> dict[str, Any]:
        """What both sides report, see `benchmarks.training_speed.Run`."""
        (warm, _), (done, last_loss) = self.losses[warmup_steps], self.losses[num_steps]
        validated, valid_loss = self.validations[-1]
        return {
            "steady": _between(warm, done),
            "validation": _between(done, validated),
            "checkpoint": _between(validated, self.checkpoints[-1]),
            "first_loss": self.losses[1][1],
            "last_loss": last_loss,
            "valid_loss": valid_loss,
        }


def align_or_pretrain(folder: Path, verb: str, recipe: str, device: str) -> Watch:
    """Run a training verb in this process and read along; the current folder becomes the project's."""
    os.chdir(folder)
    watch = Watch()
    # A root of its own for each run, since a finished training is not made twice. The only checkpoint is the last
    # step's, and its share of a long training is added by arithmetic: by time, one would fall into some runs only.
    with tempfile.TemporaryDirectory(dir=".") as checkpoint_root:
        os.environ |= {
            "HIRAKU_ACCELERATOR": device,
            "HIRAKU_CHECKPOINT_ROOT": checkpoint_root,
            "HIRAKU_CHECKPOINT_EVERY_SECONDS": "1e9",
            "HIRAKU_NUM_THREADS": "1" if device == "cpu" else "0",
            "HIRAKU_PROGRESS": "lines",
        }
        with watch.watching():
            getattr(import_module(f"components.{verb}"), verb)(recipe)
    return watch


def run(folder: Path, precision: str, device: str, outcome: Path) -> None:
    """Train once in this process and write what was measured."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    outcome = outcome.absolute()
    watch = align_or_pretrain(folder, "pretrain", precision, device)
    found = watch.found(work["warmup_steps"], work["num_steps"])
    found |= {"peak_memory_bytes": peak_process_memory(), "name": "Hiraku"}
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    from components.settings import set_quiet_environment

    set_quiet_environment()
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
