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
from readings import Clock, peak_memory, tokenizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM


class FollowingTrainer(trl.SFTTrainer):
    """TRL's SFTTrainer with given learning rates."""

    rates: list[float]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:  # noqa: ARG002 - Trainer's
        """The rates of the file, step by step."""
        rates, peak = self.rates, self.args.learning_rate
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: rates[min(step, len(rates) - 1)] / peak)
        return self.lr_scheduler


def arguments(work: dict[str, Any], precision: str, folder: str) -> trl.SFTConfig:
    """TRL's own defaults, but for what both sides share, and without checkpointing of activations."""
    optimizer = work["optimizer"]
    return trl.SFTConfig(
        output_dir=folder,
        max_steps=work["num_steps"],
        packing=True,
        max_length=work["window_tokens"] + 1,
        completion_only_loss=True,
        per_device_train_batch_size=work["micro_windows"],
        gradient_accumulation_steps=work["batch_windows"] // work["micro_windows"],
        learning_rate=optimizer["learning_rate"],
        adam_beta1=optimizer["beta1"],
        adam_beta2=optimizer["beta2"],
        adam_epsilon=optimizer["epsilon"],
        weight_decay=optimizer["weight_decay"],
        max_grad_norm=optimizer["clip_norm"],
        logging_steps=1,
        save_strategy="no",
        gradient_checkpointing=False,
        bf16=precision == "bf16",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
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
        trainer = FollowingTrainer(
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
