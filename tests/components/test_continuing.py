"""Greedy continuations of many prompts are those of transformers, one prompt at a time."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from components.modalities.text.continuing import Stream, go_on

VOCABULARY, LONGEST, MOST = 50, 64, 24
SHAPE = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
PROMPTS = [(3, 4, 5, 6, 7), (8, 9), (10, 11, 12, 13, 14, 15, 16), (17, 18, 19, 17, 18), (20,), (21, 22, 23, 24)]


def built(architecture: str) -> Any:
    """A network that was never trained, but is sure of what it says."""
    torch.manual_seed(3)
    if architecture == "gpt2":
        network = GPT2LMHeadModel(GPT2Config(**SHAPE, n_positions=LONGEST, n_embd=32, n_layer=2, n_head=2))
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        network = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, **sizes, max_position_embeddings=LONGEST))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def by_transformers(network: Any, prompt: tuple[int, ...], most: int) -> list[int]:
    ids = torch.tensor([prompt])
    found = network.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=most, eos_token_id=None
    )
    return list(found[0, len(prompt) :].tolist())


def streams(prompts: list[tuple[int, ...]], most: list[int]) -> list[Stream]:
    return [Stream(prompt, number, lambda _: False) for prompt, number in zip(prompts, most, strict=True)]


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_continuations_are_those_of_transformers(architecture: str) -> None:
    network = built(architecture)
    asked = streams(PROMPTS, [MOST, MOST - 3, MOST, 5, MOST, 1])
    go_on(network, asked, VOCABULARY, lambda _batch: None)
    for stream in asked:
        assert stream.tokens == by_transformers(network, stream.prompt, stream.most)


def test_what_is_over_may_fill_the_context_while_others_go_on() -> None:
    network = built("gpt2")
    long = tuple(range(1, 48)) * 2
    prompts = [long[: LONGEST - 2], long[: LONGEST - MOST], long[1 : LONGEST - MOST], long[2 : LONGEST - MOST]]
    asked = streams(prompts, [2, MOST, MOST, MOST])
    go_on(network, asked, VOCABULARY, lambda _batch: None)
    for stream in asked:
        assert stream.tokens == by_transformers(network, stream.prompt, stream.most)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_prompts_of_several_beginnings_go_on_in_one_batch(architecture: str) -> None:
    network = built(architecture)
    beginnings = [tuple(range(1, 13)), tuple(range(30, 19, -1))]
    prompts = [(*beginning, *PROMPTS[place][: place + 1]) for beginning in beginnings for place in range(4)]
    asked = streams([*prompts, *PROMPTS], [MOST] * (len(prompts) + len(PROMPTS)))
    batches: list[int] = []
    go_on(network, asked, VOCABULARY, lambda batch: batches.append(len(batch)))
    assert batches == [len(asked)]
    for stream in asked:
        assert stream.tokens == by_transformers(network, stream.prompt, stream.most)
