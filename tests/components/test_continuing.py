"""Greedy continuations are those of transformers, in fewer passes where the next tokens can be guessed."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from components.modalities.text.continuing import Stream, go_on
from components.modalities.text.guessing import Lookup, Pace

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
def test_continuations_are_those_of_transformers_in_fewer_passes(architecture: str) -> None:
    network = built(architecture)
    most = [MOST, MOST - 3, MOST, 5, MOST, 1]
    asked = streams(PROMPTS, most)
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    go_on(network, asked, VOCABULARY, lambda _batch: None)
    num_passes = len(passes)
    for stream, prompt, number in zip(asked, PROMPTS, most, strict=True):
        assert stream.tokens == by_transformers(network, prompt, number)
    assert num_passes < MOST  # a pass for each length of a prompt is among them


def test_a_continuation_ends_where_its_rule_says_within_a_pass_of_guesses() -> None:
    network = built("gpt2")
    whole = by_transformers(network, PROMPTS[0], MOST)
    ends = [Stream(PROMPTS[0], MOST, lambda tokens, end=end: len(tokens) >= end) for end in range(1, MOST)]
    go_on(network, ends, VOCABULARY, lambda _batch: None)
    assert [stream.tokens for stream in ends] == [whole[:end] for end in range(1, MOST)]


def test_what_is_over_may_fill_the_context_while_others_go_on() -> None:
    network = built("gpt2")
    long = tuple(range(1, 48)) * 2
    prompts = [long[: LONGEST - 2], long[: LONGEST - MOST], long[1 : LONGEST - MOST], long[2 : LONGEST - MOST]]
    asked = streams(prompts, [2, MOST, MOST, MOST])
    go_on(network, asked, VOCABULARY, lambda _batch: None)
    for stream in asked:
        assert stream.tokens == by_transformers(network, stream.prompt, stream.most)


def test_guessed_is_what_followed_the_last_two_tokens_before() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 1, 2])
    assert lookup.guesses(3) == [3, 4, 5]
    lookup.add([9])
    assert lookup.guesses(3) == []
    lookup.add([1, 2])
    assert lookup.guesses(2) == [9, 1]
    assert Lookup([7, 7, 7]).guesses(4) == [7, 7, 7, 7]
    assert Lookup([1, 5, 6, 5, 6]).guesses(5) == [5, 6, 5, 6, 5]
    assert Lookup([1]).guesses(4) == []


def test_guesses_that_hold_make_more_and_those_that_fail_make_fewer() -> None:
    pace = Pace("cpu")
    before = pace.number(1)
    pace.learn(before, before)
    assert pace.number(1) == 2 * before
    for _ in range(9):
        pace.learn(8, 0)
    assert pace.number(1) == 1
    assert pace.number(64) == 0
