"""Networks of the gpt family on disk."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from models.gpt import convert as subject
from models.gpt.network import build
from models.gpt.schema import GPT2, LAYOUTS, GPTNeoX
from models.objective import Mismatch

FACTS = {"vocab_size": 300, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 24}
SECTIONS = {"gpt2": GPT2(architecture="gpt2", **SHAPE), "gpt_neox": GPTNeoX(architecture="gpt_neox", **SHAPE)}


class Letters:
    """An encoder of one character a token."""

    facts = FACTS

    def encode_texts(self, values: list[str]) -> list[np.ndarray]:
        return [np.array([ord(letter) for letter in value], dtype=np.int32) for value in values]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


@pytest.fixture(params=SECTIONS)
def network(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return build(SECTIONS[request.param], FACTS).eval()


def logits_of(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.arange(20).reshape(2, 10) + 4).logits


def require_same(other: Any, network: Any) -> None:
    """Equal weights to the bit; logits but for rounding, as MKL adds in an order that depends on where weights lie."""
    theirs, ours = other.eval().state_dict(), network.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    torch.testing.assert_close(logits_of(other), logits_of(network), rtol=0, atol=1e-6)


def test_what_is_saved_comes_back_with_equal_logits(network: Any, tmp_path: Path) -> None:
    subject.save(network, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors",
    ]  # fmt: skip
    require_same(subject.load(tmp_path), network)
    require_same(AutoModelForCausalLM.from_pretrained(tmp_path), network)


def test_saving_twice_gives_the_same_bytes(network: Any, tmp_path: Path) -> None:
    digests = []
    for place in (tmp_path / "a", tmp_path / "b"):
        subject.save(network, place)
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()})
    assert digests[0] == digests[1]


def test_a_folder_without_safetensors_is_refused(network: Any, tmp_path: Path) -> None:
    subject.save(network, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(Mismatch, match=r"has no model\.safetensors"):
        subject.load(tmp_path)


def test_a_network_of_another_family_is_refused(network: Any, tmp_path: Path) -> None:
    subject.save(network, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(Mismatch, match="type 'bert', expected one of gpt2, gpt_neox"):
        subject.load(tmp_path)


def test_a_preview_is_always_the_same_and_moves_no_generator(network: Any) -> None:
    network.train()
    before = torch.get_rng_state()
    first = subject.continue_texts(network, Letters(), ["ab", "c" * 40], 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training
    torch.rand(1)
    assert subject.continue_texts(network, Letters(), ["ab", "c" * 40], 8) == first
    assert first[0].startswith("ab")
    assert 0 < len(first[0]) - 2 <= 8


def test_a_preview_never_uses_rows_that_only_pad_the_embedding() -> None:
    torch.manual_seed(0)
    network = build(SECTIONS["gpt2"].model_copy(update={"vocab_size": 3000}), FACTS)
    text = subject.continue_texts(network, Letters(), ["ab"] * 3, 20)
    assert max(ord(letter) for each in text for letter in each) < 300


def test_a_released_layout_loads_with_equal_logits_and_its_own_generation_settings(
    network: Any, tmp_path: Path
) -> None:
    weights, encoder, released = tmp_path / "weights", tmp_path / "encoder", tmp_path / "released"
    subject.save(network, weights)
    encoder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "spiece.model"):
        (encoder / name).write_text(name)
    subject.write_layout("transformers", weights, encoder, {"do_sample": True, "top_p": 0.9}, released)
    assert {path.name for path in released.iterdir()} == set(LAYOUTS["transformers"])
    require_same(AutoModelForCausalLM.from_pretrained(released), network)
    settings = GenerationConfig.from_pretrained(released)
    assert (settings.do_sample, settings.top_p) == (True, 0.9)
    assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (1, 2, 3)
    assert (released / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
