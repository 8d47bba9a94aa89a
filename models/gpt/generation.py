"""Sampling answers from a language model: whole batches of prompts, with a key-value cache."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def sample(
    network: "PreTrainedModel",
    prompt_ids: Tensor,
    is_prompt: Tensor,
    max_new_tokens: int,
    eos: int,
    num_ids: int,
    temperature: float = 1.0,
) -> Tensor:
    """Draw an answer to each prompt from the whole distribution, by torch's global generator.

    Args:
        network: a causal language model, in evaluation mode.
        prompt_ids: int64 [samples, tokens], padded at the left.
        is_prompt: truth values of the same shape; False is padding.
        max_new_tokens: an answer that has not ended by then is cut.
        eos: the id that ends an answer; it is part of it.
        num_ids: ids of the encoder; rows of the embedding beyond are never drawn.
        temperature: logits are divided by it; 0 takes the likeliest id instead of drawing.

    Returns:
        int64 [samples, at most max_new_tokens]; after an answer's end stand more `eos`.
    """
    base: Any = network.base_model
    head: Any = network.get_output_embeddings()
    cache = DynamicCache(config=network.config)
    mask, current = is_prompt.long(), prompt_ids
    has_padding = not bool(is_prompt.all())
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    has_ended = torch.zeros(len(prompt_ids), dtype=torch.bool, device=prompt_ids.device)
    drawn: list[Tensor] = []
    while len(drawn) < max_new_tokens and not bool(has_ended.all()):
        given = {"attention_mask": mask} if has_padding else {}
        hidden = base(
            input_ids=current, position_ids=positions, past_key_values=cache, use_cache=True, **given
        ).last_hidden_state[:, -1]
        logits = head(hidden)[:, :num_ids].float()
        token = logits.argmax(dim=1) if temperature == 0 else _drawn(logits / temperature)
        token = torch.where(has_ended, eos, token)
        drawn.append(token)
        has_ended |= token == eos
        current, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
    return torch.stack(drawn, dim=1)


def _drawn(logits: Tensor) -> Tensor:
    """An id of each row, [samples], by the exponential race (Gumbel's trick without its logarithms)."""
    noise = torch.rand_like(logits).log_().neg_()  # torch's exponential_ takes five times as long on a CPU
    return (logits.softmax(dim=1) / noise).argmax(dim=1)
