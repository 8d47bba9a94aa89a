"""What TRL's trainers compute, for the tests of ours: losses, gradients, advantages and rewards of its own code.

    python trl_truths.py OUTCOME

Runs TRL's PPOTrainer and DPOTrainer on random networks of a few hundred parameters, reads the tensors inside of their
steps, and writes them as JSON: `tests/models/truths/trl.json`, to be written again with another TRL only. Imports
nothing of ours.
"""

import inspect
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import trl
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer
from trl.trainer import dpo_trainer

SEED = 2
"""With it answers that end have 1, 3, 5 and 6 tokens."""
NUM_SAMPLES, PROMPT_TOKENS, ANSWER_TOKENS = 4, 3, 6
WORDS = [*"abcdefgh", "[END]", "[PAD]"]
END, PADDING = 8, 9
PPO_KEYS = {"kl_coef": 0.1, "gamma": 0.95, "lam": 0.9, "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.3}
TEMPERATURE = 0.7
BETA = 0.3
LEARNING_RATE = 0.01
"""High, so that the second epoch's ratios and values are clipped here and there."""


def network(kind: Any, seed: int) -> Any:
    """A tiny GPT-2 of a class of transformers that never says padding, ends now and then, and is sure of some ids."""
    set_seed(seed)
    special: dict[str, Any] = {"pad_token_id": PADDING, "eos_token_id": END, "bos_token_id": END, "num_labels": 1}
    shape: dict[str, Any] = {"n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "initializer_range": 0.4}
    made = kind(GPT2Config(vocab_size=len(WORDS), **shape, **special))
    base = made.transformer
    with torch.no_grad():
        base.ln_f.bias[0] = 5.0  # more than the norm can take away
        base.wte.weight[PADDING] = 0.0
        base.wte.weight[PADDING, 0], base.wte.weight[END, 0] = -20.0, 0.3
    return made


def tokenizer(padding: int) -> PreTrainedTokenizerFast:
    """Words of one letter, and the id of the one that pads."""
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[PADDING]))
    made.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=WORDS[padding], eos_token=WORDS[END])


def plain(value: Any) -> Any:
    """A tensor as nested lists, fp32 in the nine digits that tell it from every other."""
    if isinstance(value, torch.Tensor):
        return plain(value.detach().tolist())
    if isinstance(value, list):
        return [plain(each) for each in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def locals_of_caller() -> dict[str, Any]:
    """The variables of the function that has called the one which calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    assert frame.f_back.f_back is not None
    return frame.f_back.f_back.f_locals


ROUND = {
    "old": "logprobs", "reference": "ref_logprobs", "scores": "scores", "kl": "kl", "earned": "rewards",
    "values": "values", "after_answer": "padding_mask", "after_state": "padding_mask_p1", "advantages": "advantages",
    "returns": "returns",
}  # fmt: skip
"""Our names of what `PPOTrainer.train` has when it whitens -> its own."""
UPDATE = {
    "targets": "mb_responses", "logits": "logits", "old": "mb_logprobs", "advantages": "mb_advantage",
    "values": "vpred", "old_values": "mb_values", "returns": "mb_return", "policy_loss": "pg_loss",
    "value_loss": "vf_loss", "loss": "loss",
}  # fmt: skip
"""The same of one update, when it goes back through the networks."""


def ppo_arguments(stop_token: str | None, folder: str) -> PPOConfig:
    """One round of two epochs of two updates, without dropout, mixed precision or anything else that runs beside."""
    return PPOConfig(
        output_dir=folder,
        **PPO_KEYS,
        temperature=TEMPERATURE,
        per_device_train_batch_size=NUM_SAMPLES,
        num_mini_batches=2,
        num_ppo_epochs=2,
        total_episodes=NUM_SAMPLES,
        response_length=ANSWER_TOKENS,
        stop_token=stop_token,
        missing_eos_penalty=1.0 if stop_token else None,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        num_sample_generations=0,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        seed=SEED,
    )


def ppo(stop_token: str | None, folder: str) -> dict[str, Any]:
    """One round of TRL's PPO: what it makes of a batch, and its updates with their gradients by logits and values.

    Args:
        stop_token: `eos`, so that answers have different lengths; None gives all of them the same.
        folder: for TRL's own files.
    """
    found: dict[str, Any] = {"updates": []}

    def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        inside, result = locals_of_caller(), original(values, mask)
        found.update({ours: plain(inside[theirs]) for ours, theirs in ROUND.items()})
        found["whitened"] = plain(result.masked_fill(~mask, 0))
        return result

    def backward(_: Any, loss: torch.Tensor) -> None:
        inside = locals_of_caller()
        wanted = [inside["logits"], inside["vpred_temp"]]
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True)
        values = gradients[1][:, inside["context_length"] - 1 : -1].squeeze(-1)
        rows = inside["micro_batch_inds"].tolist()
        update = {ours: plain(inside[theirs]) for ours, theirs in UPDATE.items()}
        update |= {"rows": rows, "logits_gradient": plain(gradients[0]), "values_gradient": plain(values)}
        found["updates"].append(update)
        loss.backward()

    original: Callable[..., torch.Tensor] = ppo_trainer.masked_whiten
    prompts = torch.randint(0, END, (NUM_SAMPLES, PROMPT_TOKENS), generator=torch.Generator().manual_seed(SEED))
    rows = [{"input_ids": row} for row in prompts.tolist()]
    trainer = PPOTrainer(
        ppo_arguments(stop_token, folder),
        tokenizer(PADDING),
        model=network(GPT2LMHeadModel, 1),
        ref_model=network(GPT2LMHeadModel, 2),
        reward_model=network(GPT2ForSequenceClassification, 3),
        value_model=network(GPT2ForSequenceClassification, 4),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
    )
    with patch.object(ppo_trainer, "masked_whiten", whiten), patch.object(Accelerator, "backward", backward):
        trainer.train()
    return found


def dpo(folder: str) -> dict[str, Any]:
    """TRL's DPO loss of one batch, with its gradient by logits."""
    found: dict[str, Any] = {}

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        inside, result = locals_of_caller(), original(logits)
        (gradient,) = torch.autograd.grad(inside["loss"], inside["outputs"].logits, retain_graph=True)
        found.update(
            targets=plain(inside["shift_labels"]),
            is_answer=plain(inside["shift_completion_mask"].bool()),
            logits=plain(inside["shift_logits"]),
            reference_logits=plain(inside["ref_shift_logits"]),
            loss=plain(inside["loss"]),
            logits_gradient=plain(gradient[:, :-1]),
        )
        return result

    original: Callable[..., torch.Tensor] = dpo_trainer.entropy_from_logits
    rows = [
        {"prompt": "a b c", "chosen": " d e f", "rejected": " g h"},
        {"prompt": "b d", "chosen": " a", "rejected": " c c e f"},
        {"prompt": "h", "chosen": " h g f", "rejected": " e d"},
    ]
    arguments = trl.DPOConfig(
        output_dir=folder,
        beta=BETA,
        per_device_train_batch_size=len(rows),
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
    )
    trainer = trl.DPOTrainer(
        network(GPT2LMHeadModel, 1),
        ref_model=network(GPT2LMHeadModel, 2),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(END),  # TRL shows DPO's networks the padding
    )
    with patch.object(dpo_trainer, "entropy_from_logits", entropy):
        trainer.compute_loss(trainer.model.eval(), next(iter(trainer.get_train_dataloader())))
    return found


def main(outcome: Path) -> None:
    """Write everything."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "trl": trl.__version__,
            "torch": torch.__version__.partition("+")[0],
            "ppo": PPO_KEYS | {"temperature": TEMPERATURE, "full": ppo(None, folder), "ended": ppo("eos", folder)},
            "dpo": {"beta": BETA, **dpo(folder)},
        }
    outcome.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
