"""Answers of a language model to many prompts at once, by transformers' own generation with a key-value cache."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.outcomes import Refused

BATCH_PROMPTS = 64


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    ids: tuple[int, ...]
    """Its tokens, the end of the text not among them."""
    has_ended: bool
    """Whether it ended by itself, within the tokens it was given."""


def answers(
    model: Any,
    prompts: list[np.ndarray],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> list[Answer]:
    """Answer every prompt, the most likely token at a time or, above temperature 0, sampled.

    Prompts of about the same length are answered together, padded at the left. torch's global generators are left as
    they were.

    Args:
        model: `network` (a causal language model on its device) and `encoder`.
        prompts: [tokens] each; with the new tokens it must fit into the network's context.
        max_new_tokens: an answer has no more.
        temperature: divides the logits; 0 takes the most likely token.
        seed: of the samples.
        tell: receives how many are answered, of how many.

    Raises:
        Refused: the network is no language model, or answers NaN.
    """
    import torch

    if not model.network.can_generate():
        raise Refused(
            "The network is a reward model, which answers nothing, but a task asks it questions. Take the task out of "
            "the recipe's 'evaluate.tasks'; 'preference-accuracy' is one for reward models."
        )
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    found: dict[int, Answer] = {}
    device = next(model.network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(order), BATCH_PROMPTS):
            part = order[start : start + BATCH_PROMPTS]
            batch = _batch(model, [prompts[number] for number in part], max_new_tokens, temperature, check=not start)
            found |= dict(zip(part, batch, strict=True))
            tell(len(found), len(prompts))
    return [found[number] for number in range(len(prompts))]


def _batch(model: Any, prompts: list[np.ndarray], max_new_tokens: int, temperature: float, check: bool) -> list[Answer]:
    import torch

    facts, network = model.encoder.facts, model.network
    width = max(map(len, prompts))
    ids, mask = np.full((len(prompts), width), facts["pad"], np.int64), np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = prompt, 1
    device = next(network.parameters()).device
    given = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    if check:
        _check_finite(network, given["input_ids"][:1], given["attention_mask"][:1])
    unused = list(range(facts["vocab_size"], network.config.vocab_size))
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    output = network.generate(
        **given,
        **sampling,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=facts["eos"],
        pad_token_id=facts["pad"],
        suppress_tokens=unused or None,
    )
    return [_answer(row, facts["eos"]) for row in output[:, width:].tolist()]


def _answer(row: list[int], eos: int) -> Answer:
    if eos in row:
        return Answer(tuple(row[: row.index(eos)]), has_ended=True)
    return Answer(tuple(row), has_ended=False)


def _check_finite(network: Any, ids: Any, mask: Any) -> None:
    """NaN would be answered with the first id of the vocabulary, and look like a bad model."""
    logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, -1]
    if not bool(logits.isfinite().all()):
        raise Refused(
            "The network gives logits that are not finite: its weights are damaged or training diverged. Look at the "
            "curve, then train again with a lower 'optimizer.learning_rate'."
        )
