"""Networks with windows, chunks of state, distances or rotations of their own, against plain passes and `generate`."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import GenerationConfig

from components.modalities.text import branches, continuing
from components.modalities.text.branches import Continuation, likelihoods
from components.modalities.text.continuing import Stream, go_on
from components.modalities.text.plain_passes import sees_all
from components.outcomes import Refused

VOCABULARY, LONGEST, WINDOW, MOST = 50, 64, 8, 12
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": LONGEST,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
GROUPED = SHAPE | {"num_key_value_heads": 2}
ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
GPT_NEO = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "window_size": WINDOW,
    "attention_types": [[["global", "local"], 1]], "max_position_embeddings": LONGEST,
}  # fmt: skip
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2, "max_position_embeddings": LONGEST}

PARTIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Mistral": ("Mistral", GROUPED | {"sliding_window": WINDOW}),
    "Gemma3": (
        "Gemma3",
        GROUPED | {"head_dim": 16, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "Lfm2": ("Lfm2", GROUPED | {"layer_types": ["conv", "full_attention"]}),
    "Jamba": (
        "Jamba",
        GROUPED | {"use_mamba_kernels": False, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    ),
    "GPTNeo": ("GPTNeo", GPT_NEO),
    "Bloom": ("Bloom", BLOOM),
    "Phi3 with a rotation for long texts": (
        "Phi3",
        GROUPED | {"rope_parameters": ROPE | {"original_max_position_embeddings": 16}, "sliding_window": None},
    ),
}
"""What a mask for whole rows would get wrong -> its class of transformers, and its configuration."""
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2": ("GPT2", {"vocab_size": VOCABULARY, "n_positions": LONGEST, "n_embd": 32, "n_layer": 2, "n_head": 2}),
    "GPTNeoX": ("GPTNeoX", SHAPE),
    "Llama": ("Llama", GROUPED),
    "Mistral with a window as long as its context": ("Mistral", GROUPED | {"sliding_window": LONGEST}),
    "Qwen2 with a window that is not used": ("Qwen2", GROUPED | {"sliding_window": WINDOW}),
}


def built(name: str) -> Any:
    """A network that was never trained, but is sure of what it says."""
    kind, keys = (PARTIAL | WHOLE)[name]
    config = getattr(transformers, "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config")(**keys)
    head = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    torch.manual_seed(0)
    network = getattr(transformers, kind + head)(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def questions() -> list[Continuation]:
    """With a common beginning longer than a window, of many lengths, three choices each."""
    rng = random.Random(1)

    def drawn(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(low, high)))

    shared, found = drawn(12, 13), []
    for question in range(8):
        context, start = shared + drawn(1, 25), drawn(0, 3)
        found += [Continuation(question, context, start + drawn(1, 5)) for _ in range(3)]
    return [*found, Continuation(99, (2,), (7,)), Continuation(98, (2,) * 60, (5, 6, 7, 8, 9))]


@pytest.mark.parametrize("name", PARTIAL)
def test_choices_are_as_likely_as_in_a_pass_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = built(name), questions()
    monkeypatch.setattr(branches, "MAX_TOKENS", {"cpu": 200, "cuda": 200})
    passes: list[dict[int, Any]] = []
    likelihoods(network, asked, passes.append)
    assert len(passes) > 1
    found = {place: each for one in passes for place, each in one.items()}
    assert len(found) == sum(map(len, passes)) == len(asked)
    for place, each in enumerate(asked):
        with torch.no_grad():
            logits = network(torch.tensor([each.context + each.tokens[:-1]])).logits[0].double().log_softmax(-1)
        logits = logits[len(each.context) - 1 :]
        expected = sum(float(logits[number, token]) for number, token in enumerate(each.tokens))
        assert found[place].nats == pytest.approx(expected, abs=1e-4)
        assert found[place].is_greedy == (logits.argmax(-1).tolist() == list(each.tokens))


def by_transformers(network: Any, prompt: tuple[int, ...], is_done: Callable[[list[int]], bool]) -> list[int]:
    """Transformers' own continuation, cut where it is done."""
    ids = torch.tensor([prompt])
    plain = GenerationConfig(max_new_tokens=MOST, do_sample=False)
    found = network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain, eos_token_id=None)
    tokens = found[0, len(prompt) :].tolist()
    ends = [end for end in range(1, MOST + 1) if is_done(tokens[:end])]
    return list(tokens[: ends[0]] if ends else tokens)


@pytest.mark.parametrize("name", PARTIAL)
def test_continuations_are_those_of_transformers_from_wherever_they_were(name: str) -> None:
    network = built(name)
    prompts = [each.context for each in questions()[:-1:3]]
    stops = [by_transformers(network, prompt, lambda _: False)[5] for prompt in prompts]
    streams = [
        Stream(prompt, MOST, lambda tokens, stop=stop: tokens[-1] == stop)
        for prompt, stop in zip(prompts, stops, strict=True)
    ]
    expected = [by_transformers(network, stream.prompt, stream.is_done) for stream in streams]
    assert min(map(len, expected)) < MOST
    streams[2].tokens = expected[2][:1]
    batches: list[int] = []
    go_on(network, streams, VOCABULARY, lambda batch: batches.append(len(batch)))
    assert [stream.tokens for stream in streams] == expected
    assert set(batches) == {1}


def test_a_penalty_and_an_end_that_a_folder_brings_change_nothing_and_stay_its_own() -> None:
    network, prompt = built("Mistral"), questions()[0].context
    expected = by_transformers(network, prompt, lambda _: False)
    network.generation_config = GenerationConfig(repetition_penalty=9.0, eos_token_id=expected[1])
    stream = Stream(prompt, MOST, lambda _: False)
    go_on(network, [stream], VOCABULARY, lambda _: None)
    assert stream.tokens == expected
    assert network.generation_config.repetition_penalty == 9.0


def test_tokens_that_stand_for_nothing_are_never_said() -> None:
    network, prompt = built("Mistral"), questions()[0].context
    most = max(by_transformers(network, prompt, lambda _: False))
    stream = Stream(prompt, MOST, lambda _: False)
    go_on(network, [stream], most, lambda _: None)
    assert max(stream.tokens) < most


def test_damaged_weights_are_refused() -> None:
    network = built("Mistral")
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(Refused, match="likelihood that is no finite number"):
        likelihoods(network, questions(), lambda _: None)
    with pytest.raises(Refused, match="logits that are no numbers"):
        go_on(network, [Stream((3, 4), MOST, lambda _: False)], VOCABULARY, lambda _: None)


@pytest.mark.parametrize("name", WHOLE)
def test_networks_whose_layers_see_everything_share_what_texts_begin_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = built(name)
    assert sees_all(network)
    begun: list[int] = []
    before = branches.Before.__init__

    def init(self: Any, network: Any, tokens: tuple[int, ...]) -> None:
        begun.append(len(tokens))
        before(self, network, tokens)

    monkeypatch.setattr(branches.Before, "__init__", init)
    likelihoods(network, questions()[:-2], lambda _: None)
    assert max(begun) >= 12
    begun.clear()
    sizes: list[int] = []
    streams = [Stream(each.context, 3, lambda _: False) for each in questions()[:-2:3]]
    continuing.go_on(network, streams, VOCABULARY, lambda batch: sizes.append(len(batch)))
    assert sizes == [len(streams)]
    assert max(begun) >= 12
