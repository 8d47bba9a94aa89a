"""Objectives of the gpt family, against transformers' own loss."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from models.conversation import CHOSEN, PADDING, PROMPT
from models.gpt import objectives as subject
from models.gpt.network import build
from models.gpt.schema import GPT2, GPTNeoX, NextToken, Sft
from models.objective import Loss, Setting

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
    loss = subject.objective(NextToken(kind="next-token"), network, Setting({}))(batch).total
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


def random_head(vocab_size: int, num_rows: int, width: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states as after a norm, a head whose logits have a deviation of 0.8, and targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_rows, width, generator=generator).requires_grad_()
    head = (0.1 * torch.randn(vocab_size, width, generator=generator)).requires_grad_()
    return hidden, head, torch.randint(0, vocab_size, (num_rows,), generator=generator)


def loss_and_gradients(loss: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize(("vocab_size", "num_rows"), [(500, 700), (65_536, 300)])
def test_in_fp32_chunks_give_the_plain_loss_and_gradients_to_a_millionth(vocab_size: int, num_rows: int) -> None:
    hidden, head, targets = random_head(vocab_size, num_rows)
    assert vocab_size * num_rows * 4 > subject.CHUNK_BYTES or vocab_size < 65_536  # else there is one chunk only
    plain = torch.nn.functional.cross_entropy(hidden @ head.T, targets)
    expected = loss_and_gradients(plain, (hidden, head))
    found = loss_and_gradients(subject.ChunkedCrossEntropy.apply(hidden, head, targets), (hidden, head))
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-6
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 2e-6  # either is that far from the truth


def test_under_autocast_chunks_are_as_near_the_truth_as_the_plain_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "CHUNK_BYTES", 4 * 8000 * 20)
    hidden, head, targets = random_head(8000, 300)
    truth = torch.nn.functional.cross_entropy(hidden.double() @ head.double().T, targets)
    exact = loss_and_gradients(truth, (hidden, head))
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.nn.functional.cross_entropy(torch.nn.functional.linear(hidden, head), targets)
        ours = subject.ChunkedCrossEntropy.apply(hidden, head, targets)
    assert ours.dtype == torch.float32
    for true, theirs, found in zip(
        exact, loss_and_gradients(plain, (hidden, head)), loss_and_gradients(ours, (hidden, head)), strict=True
    ):
        assert found.dtype == torch.float32
        assert float((found - true).norm()) < 1.1 * float((theirs - true).norm()) + 1e-6


def test_a_head_in_bf16_sums_its_gradient_over_chunks_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same token 4096 times: each chunk adds the same, and a sum in bf16 stands still after 256 of them.
    monkeypatch.setattr(subject, "CHUNK_BYTES", 4 * 100 * 4)
    hidden = torch.ones(4096, 8, dtype=torch.bfloat16)
    head = torch.zeros(100, 8, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.zeros(4096, dtype=torch.int64)
    loss, gradient = loss_and_gradients(subject.ChunkedCrossEntropy.apply(hidden, head, targets), (head,))
    assert loss.item() == pytest.approx(math.log(100), rel=1e-6)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient[0].float(), torch.full((8,), -0.99), rtol=1e-2, atol=0)


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


@pytest.mark.parametrize("architecture", SECTIONS)
def test_operations_are_those_that_torch_counts(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "CHUNK_BYTES", 4 * 500 * 7)
    monkeypatch.setattr("models.products.prefers_onednn", lambda: False)  # torch counts none of its operations
    network = network_of(architecture)
    network.set_attn_implementation("eager")  # computes the whole square
    objective, batch = subject.NextTokenLoss(network), batch_of(500)
    with FlopCounterMode(display=False) as counted:
        objective(batch).total.backward()
    assert objective.num_flops(batch) == counted.get_total_flops()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        objective(batch)
    assert objective.num_flops(batch) == 3 * counted.get_total_flops()  # without gradients, none is computed


# Layers, width, heads, inner width, vocabulary, window -> GFLOP of a token.
MEASURED = [
    (6, 256, 4, 1024, 8_000, 256, 185.6 / 4096),  # worked out by hand for a batch of 4,096 tokens
    (6, 512, 8, 2304, 32_000, 1024, 0.2587),  # this and the next: lightning.fabric's measure_flops on the meta device
    (36, 2816, 22, 11264, 32_000, 1024, 22.34),
]


@pytest.mark.parametrize(("layers", "width", "heads", "inner", "vocabulary", "window", "expected"), MEASURED)
def test_operations_of_known_shapes(
    layers: int, width: int, heads: int, inner: int, vocabulary: int, window: int, expected: float
) -> None:
    shape = {"num_layers": layers, "hidden_size": width, "num_heads": heads, "intermediate_size": inner}
    kind, name = (GPT2, "gpt2") if layers == 6 else (GPTNeoX, "gpt_neox")
    with torch.device("meta"):
        network = build(kind(architecture=name, max_positions=window, **shape), FACTS | {"vocab_size": vocabulary})
        batch = {"input_ids": torch.zeros((16, window + 1), dtype=torch.int64)}
    found = subject.NextTokenLoss(network).num_flops(batch)
    assert found / (16 * window) / 1e9 == pytest.approx(expected, rel=5e-4)


def test_a_wrapper_finds_the_network_and_the_tensors_of_a_loss() -> None:
    network = network_of("gpt2")
    objective = subject.objective(NextToken(kind="next-token"), network, Setting({}))
    assert dict(objective.named_children()) == {"network": network}
    loss = Loss(*(torch.tensor(value) for value in (1.0,)), parts={"one": torch.tensor(2.0)})
    leaves, shape = tree_flatten(loss)
    assert [leaf.item() for leaf in leaves] == [1.0, 2.0]
    assert shape.unflatten(leaves) == loss
    assert Loss(torch.tensor(1.0)).parts == {}


@pytest.mark.parametrize(
    ("train_on_prompt", "wanted"),
    [
        (False, [[0, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0]]),
        # All but the first token of each sequence, which nothing predicts, and what fills the sample.
        (True, [[1, 1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 0, 0]]),
    ],
)
def test_fine_tuning_learns_the_answers_alone_or_the_prompts_too(train_on_prompt: bool, wanted: list[Any]) -> None:
    network, ids = network_of("gpt2").eval(), batch_of(500)["input_ids"][:2, :8]
    q, a, fill = PROMPT, CHOSEN, PADDING
    batch = {
        "input_ids": ids,
        "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 4, 5, 0, 1]]),
        "parts": torch.tensor([[q, q, q, a, a, q, a, a], [q, q, q, q, a, a, fill, fill]]),
    }
    objective: Any = subject.objective(Sft(kind="sft", train_on_prompt=train_on_prompt), network, Setting(FACTS))
    assert objective.wanted(batch).int().tolist() == wanted
    assert objective.num_items(batch) == sum(map(sum, wanted))
    # Each sequence by itself, as transformers computes it.
    told = []
    for row, begin, end in ((0, 0, 5), (0, 5, 8), (1, 0, 6)):
        logits = network(input_ids=ids[row : row + 1, begin:end]).logits[0, :-1]
        each = nn.functional.cross_entropy(logits, ids[row, begin + 1 : end], reduction="none")
        told.append(each[torch.tensor(wanted[row][begin : end - 1]).bool()])
    assert objective(batch).total.item() == pytest.approx(torch.cat(told).mean().item(), abs=1e-5)


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
