"""The peer of ppo_speed: TRL's PPOTrainer on the same networks, prompts, optimiser and sizes.

    python trl_ppo.py FOLDER PRECISION OUTCOME

FOLDER holds what `benchmarks.alignment_project` wrote: `work.json`, `questions.json`, the network to start from and the
reward model, which is also what TRL's critic begins as. OUTCOME is the JSON file to write. Imports nothing of ours.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from readings import ALIGNMENT_ARGUMENTS, Clock, peak_memory, shared_arguments, tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer


def arguments(work: dict[str, Any], precision: str, folder: str) -> PPOConfig:
    """TRL's own defaults, but for what both sides share, without checkpointing of activations and without samples."""
    rounds = work["rounds"]
    return PPOConfig(
        **shared_arguments(work, precision, folder),
        **ALIGNMENT_ARGUMENTS,
        total_episodes=work["num_steps"] * rounds["num_prompts"],
        per_device_train_batch_size=rounds["mini_batch_samples"],
        gradient_accumulation_steps=rounds["num_prompts"] // rounds["mini_batch_samples"],
        num_mini_batches=rounds["num_prompts"] // rounds["mini_batch_samples"],
        local_rollout_forward_batch_size=rounds["num_prompts"],
        num_ppo_epochs=rounds["num_epochs"],
        response_length=rounds["answer_tokens"],
        temperature=1.0,
        stop_token="eos",
        kl_coef=rounds["kl_coefficient"],
        gamma=rounds["discount"],
        lam=rounds["trace"],
        vf_coef=rounds["value_weight"],
        learning_rate=rounds["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        num_sample_generations=0,
    )


def told(row: dict[str, float], answer_tokens: int) -> dict[str, float]:
    """What TRL logs of a round, under our names; a full answer for each that has no end."""
    return {
        "entropy": row["objective/entropy"] / answer_tokens,
        "kl_per_answer": row["objective/kl"],
        "reward": row["objective/scores"],
        "answer_tokens": answer_tokens if not row["val/num_eos_tokens"] else float("nan"),
    }


def main(folder: Path, precision: str, outcome: Path) -> None:
    """Train once and write what was measured."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    start = [AutoModelForCausalLM.from_pretrained(folder / work["start"], dtype=torch.float32) for _ in range(2)]
    judge = [
        AutoModelForSequenceClassification.from_pretrained(folder / work["judge"], dtype=torch.float32)
        for _ in range(2)
    ]
    clock = Clock(work["warmup_steps"])
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        trainer = PPOTrainer(
            arguments(work, precision, checkpoints),
            tokenizer(work),
            model=start[0],
            ref_model=start[1],
            reward_model=judge[0],
            value_model=judge[1],
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:1]),
            callbacks=[clock],
        )
        trainer.train()
    history = [row for row in trainer.state.log_history if "objective/kl" in row]
    answer_tokens = work["rounds"]["answer_tokens"]
    found = {
        "steady": clock.between("warm", "done"),
        "first": told(history[0], answer_tokens),
        "last": told(history[-1], answer_tokens),
        "peak_memory_bytes": peak_memory(),
        "name": f"TRL PPOTrainer {trl.__version__}",
    }
    outcome.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
