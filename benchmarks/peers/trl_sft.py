"""The peer of sft_speed: TRL's SFTTrainer with packing on the same network, conversations, optimiser and rates.

    python trl_sft.py FOLDER PRECISION OUTCOME

FOLDER holds what `benchmarks.alignment_project` wrote: `work.json`, `conversations.json`, and the network to start
from. OUTCOME is the JSON file to write. Imports nothing of ours.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from readings import ALIGNMENT_ARGUMENTS, Clock, FollowingTrainer, following_arguments, peak_memory, tokenizer
from transformers import AutoModelForCausalLM


class FollowingSft(FollowingTrainer, trl.SFTTrainer):
    """TRL's SFTTrainer with given learning rates."""


def arguments(work: dict[str, Any], precision: str, folder: str) -> trl.SFTConfig:
    """TRL's own defaults, but for what both sides share, and without checkpointing of activations."""
    return trl.SFTConfig(
        **following_arguments(work, precision, folder),
        **ALIGNMENT_ARGUMENTS,
        packing=True,
        max_length=work["window_tokens"] + 1,
        completion_only_loss=True,
        per_device_train_batch_size=work["micro_windows"],
        gradient_accumulation_steps=work["batch_windows"] // work["micro_windows"],
    )


class Losses(Clock):
    """Reads the clock, and keeps the losses of the first and the last step."""

    def __init__(self, warmup_steps: int) -> None:
        super().__init__(warmup_steps)
        self.losses: dict[int, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:  # noqa: ARG002
        """What Trainer says of the steps since it last did."""
        if "loss" in logs:
            self.losses[state.global_step] = float(logs["loss"])


def main(folder: Path, precision: str, outcome: Path) -> None:
    """Train once and write what was measured."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    rows = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    clock = Losses(work["warmup_steps"])
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        trainer = FollowingSft(
            AutoModelForCausalLM.from_pretrained(folder / work["start"], dtype=torch.float32),
            args=arguments(work, precision, checkpoints),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(work),
            callbacks=[clock],
        )
        trainer.rates = work["learning_rates"]
        if len(trainer.train_dataset) != work["batch_windows"]:
            raise SystemExit(f"{len(trainer.train_dataset)} packs, expected {work['batch_windows']}: not the same work")
        trainer.train()
    found = {
        "steady": clock.between("warm", "done"),
        "first": {"loss": clock.losses[1]},
        "last": {"loss": clock.losses[work["num_steps"]]},
        "peak_memory_bytes": peak_memory(),
        "name": f"TRL SFTTrainer {trl.__version__}",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
