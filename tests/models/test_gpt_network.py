"""Networks of the gpt family: shapes of the released models, and nothing left to a library's default."""

import inspect
from typing import Any

import pytest
from transformers import GPT2Config, GPTNeoXConfig, PreTrainedConfig

from models.gpt import network as subject
from models.gpt import schema
from models.gpt.schema import GPT2, GPTNeoX, Samples
from models.objective import Mismatch

FACTS = {"vocab_size": 32000, "unk": 0, "bos": 1, "eos": 2, "pad": 3}


def gpt2(**changes: Any) -> GPT2:
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 16}
    return GPT2(architecture="gpt2", **(shape | changes))


def gpt_neox(**changes: Any) -> GPTNeoX:
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 16}
    return GPTNeoX(architecture="gpt_neox", **(shape | changes))


@pytest.mark.parametrize("section", [gpt2(vocab_size=32128), gpt_neox(vocab_size=32128), gpt_neox(tied=True), gpt2()])
def test_arithmetic_counts_the_parameters_that_the_network_has(section: GPT2 | GPTNeoX) -> None:
    assert schema.num_parameters(section, 32000) == subject.num_parameters(section, FACTS)


@pytest.mark.parametrize(("make", "kind"), [(gpt2, GPT2Config), (gpt_neox, GPTNeoXConfig)])
def test_every_field_of_a_configuration_is_set(make: Any, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(subject, kind.__name__, lambda **fields: given.update(fields) or kind(**fields))
    monkeypatch.setattr(subject, "GPT2Config" if kind is GPTNeoXConfig else "GPTNeoXConfig", None)
    subject.configuration(make(), FACTS)
    own = set(inspect.get_annotations(kind)) - set(inspect.get_annotations(PreTrainedConfig))
    declared = {field for field in own if not field.startswith("_")} - {
        "model_type", "keys_to_ignore_at_inference", "attribute_map", "base_model_tp_plan", "base_model_pp_plan",
    }  # fmt: skip
    assert declared
    assert declared <= set(given)


def test_neox_is_the_released_kind_and_not_the_librarys_default() -> None:
    network = subject.build(gpt_neox(), FACTS)
    config = network.config
    assert config.use_parallel_residual is False
    assert config.tie_word_embeddings is False
    assert config.rope_parameters["partial_rotary_factor"] == 1.0
    assert config.rope_parameters["rope_theta"] == 10_000
    assert len(network.base_model.rotary_emb.inv_freq) == 32 // 4 // 2  # half of the whole head
    assert network.get_input_embeddings().weight is not network.get_output_embeddings().weight


def test_special_ids_are_the_encoders() -> None:
    for section in (gpt2(), gpt_neox()):
        config = subject.build(section, FACTS).config
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 3)
        assert config.vocab_size == 32000
        assert config._attn_implementation == "sdpa"


def test_dropout_reaches_every_place_that_a_configuration_has_for_it() -> None:
    first = subject.configuration(gpt2(dropout=0.3), FACTS)
    assert (first.resid_pdrop, first.embd_pdrop, first.attn_pdrop) == (0.3, 0.3, 0.3)
    second = subject.configuration(gpt_neox(dropout=0.3), FACTS)
    assert (second.hidden_dropout, second.attention_dropout) == (0.3, 0.3)


def test_a_larger_vocabulary_pads_and_a_smaller_one_is_refused() -> None:
    assert subject.vocab_size(gpt2(vocab_size=32128), FACTS) == 32128
    with pytest.raises(Mismatch, match=r"vocab_size is 31999, but the encoder has 32000 ids"):
        subject.vocab_size(gpt2(vocab_size=31999), FACTS)


def test_a_sample_longer_than_the_context_is_refused() -> None:
    samples = Samples(window_tokens=17, batch_tokens=34, micro_batch_tokens=17)
    with pytest.raises(Mismatch, match=r"window_tokens is 17, but network.max_positions is 16"):
        subject.check(gpt2(), FACTS, samples)


def test_another_number_of_parameters_is_refused_with_both_numbers() -> None:
    samples = Samples(window_tokens=16, batch_tokens=16, micro_batch_tokens=16)
    found = subject.num_parameters(gpt2(), FACTS)
    subject.check(gpt2(expected_num_parameters=found), FACTS, samples)
    with pytest.raises(Mismatch, match=rf"{found:,} parameters, expected {found + 1:,}"):
        subject.check(gpt2(expected_num_parameters=found + 1), FACTS, samples)
