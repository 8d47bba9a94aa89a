"""Somebody else's language model: a Llama of random weights, whose tokenizer puts `<s>` before a text."""

from pathlib import Path
from typing import Any

import torch


def untrained_llama(tokenizer: Path, folder: Path, *, hidden_size: int, max_positions: int, seed: int) -> Any:
    """The network; its tokenizer is written to a folder.

    Args:
        tokenizer: one of ours, whose pieces it has.
        folder: receives the tokenizer.
        hidden_size: twice as wide between layers.
        max_positions: of its context.
        seed: of its weights.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    theirs = AutoTokenizer.from_pretrained(tokenizer)
    begin = [("<s>", theirs.bos_token_id)]
    theirs.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=begin)
    theirs.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(theirs), hidden_size=hidden_size, intermediate_size=2 * hidden_size, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=max_positions, bos_token_id=1, eos_token_id=2, pad_token_id=3,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)
