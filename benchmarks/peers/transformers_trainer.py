"""The peer of training_speed: transformers' Trainer on the same network, windows, optimiser and learning rates.

    python transformers_trainer.py FOLDER PRECISION DEVICE OUTCOME

FOLDER holds what `benchmarks.training_speed` wrote: `work.json`, `initial/` (weights), `train.npy` and `valid.npy`
(windows of tokens, in the order in which they are to be read, each with one token more than the network is given).
OUTCOME is the JSON file to write. Imports nothing of ours.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from readings import Clock, FollowingTrainer, following_arguments, peak_memory
from transformers import AutoModelForCausalLM, TrainingArguments, __version__


class Windows(torch.utils.data.Dataset):
    """Windows [number, window_tokens + 1] as what a causal model of transformers is given."""

    def __init__(self, path: Path) -> None:
        self.windows = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        window = self.windows[number].astype(np.int64)
        # Without labels that are shifted already, the last position of each window would predict nothing.
        return {"input_ids": window[:-1], "labels": window[1:], "shift_labels": window[1:]}


class KeepingTrainer(FollowingTrainer):
    """One that keeps the first and the last step's loss."""

    losses: list[torch.Tensor]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Trainer's own step."""
        loss = super().training_step(*args, **kwargs)
        self.losses = [*self.losses[:1], loss]
        return loss


def arguments(work: dict[str, Any], precision: str, device: str, folder: str) -> TrainingArguments:
    """Trainer's own defaults, but for what both sides share."""
    return TrainingArguments(
        **following_arguments(work, precision, folder),
        per_device_train_batch_size=work["batch_windows"],
        per_device_eval_batch_size=work["batch_windows"],
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_steps=work["log_every_steps"],
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=work["num_steps"],
        save_strategy="steps",
        save_steps=work["num_steps"],
        use_cpu=device == "cpu",
        torch_compile=device != "cpu",  # as Hiraku's default
    )


def main(folder: Path, precision: str, device: str, outcome: Path) -> None:
    """Train once and write what was measured."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    clock = Clock(work["warmup_steps"])
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        trainer = KeepingTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder / "initial"),
            args=arguments(work, precision, device, checkpoints),
            train_dataset=Windows(folder / "train.npy"),
            eval_dataset=Windows(folder / "valid.npy"),
            callbacks=[clock],
        )
        trainer.rates, trainer.losses = work["learning_rates"], []
        trainer.train()
    found = {
        "steady": clock.between("warm", "done"),
        "validation": clock.between("done", "validated"),
        "checkpoint": clock.between("validated", "saved"),
        "first_loss": float(trainer.losses[0]),
        "last_loss": float(trainer.losses[-1]),
        "valid_loss": next(row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row),
        "peak_memory_bytes": peak_memory(),
        "name": f"transformers Trainer {__version__}",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
