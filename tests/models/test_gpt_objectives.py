"""Objectives of the gpt family, against transformers' own loss."""

import math
from typing import Any

import pytest
import torch

from models.gpt import objectives as subject
from models.gpt.network import build
from models.gpt.schema import GPT2, GPTNeoX, NextToken

FACTS = {"vocab_size": 500, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 24}
SECTIONS = {"gpt2": GPT2(architecture="gpt2", **SHAPE), "gpt_neox": GPTNeoX(architecture="gpt_neox", **SHAPE)}


def network_of(architecture: str, **changes: Any) -> Any:
    torch.manual_seed(1)
    return build(SECTIONS[architecture].model_copy(update=changes), FACTS | {"vocab_size": changes.get("size", 500)})


def batch_of(vocab_size: int, seed: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(0, vocab_size, (5, 24), generator=generator)}


def theirs(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Transformers shift labels themselves, and leave the last input without one."""
    return network(input_ids=batch["input_ids"], labels=batch["input_ids"], use_cache=False).loss


@pytest.mark.parametrize("architecture", SECTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6)])
def test_loss_and_gradients_are_those_of_transformers(
    architecture: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CHUNK_BYTES", 4 * 500 * 7)  # 115 rows in chunks of 7, the last one of 3
    network = network_of(architecture).to(dtype)
    for parameter in network.parameters():  # logits of some size, as after training
        parameter.data.mul_(3)
    batch = batch_of(500)
    expected = theirs(network, batch)
    expected.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad()
    loss = subject.objective(NextToken(kind="next-token"), network)(batch).total
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance, abs=0)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("architecture", SECTIONS)
def test_the_first_loss_is_within_a_fifth_of_a_nat_of_guessing(architecture: str) -> None:
    network = network_of(architecture, size=8000)
    with torch.no_grad():
        loss = subject.NextTokenLoss(network)(batch_of(8000)).total
    assert loss.item() == pytest.approx(math.log(8000), abs=0.2)


def test_without_gradients_the_loss_is_the_same() -> None:
    network = network_of("gpt2")
    objective = subject.NextTokenLoss(network)
    with torch.no_grad():
        quick = objective(batch_of(500)).total
    assert quick.item() == objective(batch_of(500)).total.item()


def test_a_later_token_changes_no_earlier_loss() -> None:
    network = network_of("gpt2").eval()
    ids = batch_of(500)["input_ids"]
    changed = ids.clone()
    changed[:, 13:] = (changed[:, 13:] + 1) % 500
    objective = subject.NextTokenLoss(network)
    with torch.no_grad():
        first, second = (objective({"input_ids": each[:, :13]}).total.item() for each in (ids, changed))
    assert first == second


def test_items_are_the_tokens_that_are_predicted() -> None:
    assert subject.NextTokenLoss(network_of("gpt2")).num_items(batch_of(500)) == 5 * 23


class Letters:
    """An encoder whose token n spells n times 'あ'."""

    facts = FACTS

    def decode(self, ids: list[int]) -> str:
        return "".join("あ" * token for token in ids)


def test_bits_per_character_and_byte_are_those_worked_out_by_hand() -> None:
    objective = subject.NextTokenLoss(network_of("gpt2"))
    units = objective.units({"input_ids": torch.tensor([[9, 3, 2, 5], [9, 1, 1, 2]])}, Letters())
    # Targets 3, </s>, 5 and 1, 1, </s>: ten characters of three bytes each.
    assert units == {"tokens": 6, "characters": 10, "bytes": 30}
    measures = objective.measures(math.log(2), units)  # one bit a token
    assert measures["perplexity"] == pytest.approx(2)
    assert measures["bits_per_character"] == pytest.approx(0.6)
    assert measures["bits_per_byte"] == pytest.approx(0.2)
