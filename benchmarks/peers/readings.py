"""What the peers' scripts share: readings, arguments, given learning rates, a tokenizer. Imports nothing of ours."""

import resource
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback

ALIGNMENT_ARGUMENTS = {"logging_steps": 1, "save_strategy": "no", "gradient_checkpointing": False, "use_cpu": True}
"""What all of TRL's trainers are given."""


def shared_arguments(work: dict[str, Any], precision: str, folder: str) -> dict[str, Any]:
    """What every trainer is given."""
    optimizer = work["optimizer"]
    return {
        "output_dir": folder,
        "adam_beta1": optimizer["beta1"],
        "adam_beta2": optimizer["beta2"],
        "adam_epsilon": optimizer["epsilon"],
        "bf16": precision == "bf16",
        "disable_tqdm": True,
        "report_to": "none",
    }


def following_arguments(work: dict[str, Any], precision: str, folder: str) -> dict[str, Any]:
    """What a `FollowingTrainer` is given."""
    optimizer = work["optimizer"]
    return {
        **shared_arguments(work, precision, folder),
        "max_steps": work["num_steps"],
        "learning_rate": optimizer["learning_rate"],
        "weight_decay": optimizer["weight_decay"],
        "max_grad_norm": optimizer["clip_norm"],
    }


class FollowingTrainer(Trainer):
    """transformers' Trainer with given learning rates."""

    rates: list[float]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:  # noqa: ARG002 - Trainer's
        """The rates of the file, step by step."""
        rates, peak, followed = self.rates, self.args.learning_rate, optimizer or self.optimizer
        assert followed is not None
        self.lr_scheduler = LambdaLR(followed, lambda step: rates[min(step, len(rates) - 1)] / peak)
        return self.lr_scheduler


class Clock(TrainerCallback):
    """The process's CPU time and the wall clock, in seconds, at the ends of steps, validation and checkpoint."""

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        self.readings: dict[str, tuple[float, float]] = {}

    def read(self, name: str) -> None:
        """Remember when something ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.readings[name] = (time.process_time(), time.perf_counter())

    def between(self, begin: str, end: str) -> list[float]:
        """Seconds of CPU time and of the wall clock."""
        return [after - before for before, after in zip(self.readings[begin], self.readings[end], strict=True)]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - Trainer's
        """The end of an optimiser step, or of a round."""
        if state.global_step == self.warmup_steps:
            self.read("warm")
        if state.global_step == state.max_steps:
            self.read("done")

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """The end of a validation."""
        self.read("validated")

    def on_save(self, *_: Any, **__: Any) -> None:
        """The end of a checkpoint."""
        self.read("saved")


def peak_memory() -> int:
    """Bytes; on Linux its own figure for this process, since getrusage begins with that of the one which started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    lines = status.read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def tokenizer(work: dict[str, Any]) -> PreTrainedTokenizerFast:
    """One that nobody asks to encode anything: it has the ids that pad and end."""
    words = {str(number): number for number in range(work["num_ids"])}
    made = Tokenizer(WordLevel(words, unk_token="0"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=str(work["pad"]), eos_token=str(work["eos"]), padding_side="left"
    )
