"""Documents that share a window and do not see each other: what a packed one computes is what it computes alone."""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from models.gpt import network as subject
from models.gpt.objectives import NextTokenLoss
from models.gpt.schema import GPT2, GPTNeoX

VOCAB_SIZE, EOS = 300, 2
FACTS = {"vocab_size": VOCAB_SIZE, "unk": 0, "bos": 1, "eos": EOS, "pad": 3}
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 32}
SECTIONS = {"gpt2": GPT2(architecture="gpt2", **SHAPE), "gpt_neox": GPTNeoX(architecture="gpt_neox", **SHAPE)}

# Tokens of the documents of two windows of 24, each with the end of text that opens it, unless a window cut it off.
LENGTHS = [[7, 1, 9, 1, 6], [12, 4, 8]]
BOUNDS = [0, 7, 8, 17, 18, 24, 36, 40, 48]
NUM_TOKENS = 24


def network_of(architecture: str, **changes: Any) -> Any:
    torch.manual_seed(1)
    network = subject.build(SECTIONS[architecture].model_copy(update=changes), FACTS)
    for parameter in network.parameters():  # differences of some size, as after training
        parameter.data.mul_(3)
    return network


def packed() -> dict[str, Tensor]:
    """A batch of both windows, with one token more as the last target."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(4, VOCAB_SIZE, (2, NUM_TOKENS + 1), generator=generator)
    positions = torch.zeros_like(ids)
    for row, lengths in enumerate(LENGTHS):
        begins = [sum(lengths[:number]) for number in range(len(lengths))]
        for begin in begins[row:]:  # the second window begins in the middle of a document
            ids[row, begin] = EOS
        whole = [place for length in lengths for place in range(length)]
        positions[row] = torch.tensor([*whole, lengths[-1]])
    return {"input_ids": ids, "position_ids": positions}


def documents(ids: Tensor) -> list[Tensor]:
    """Each document [1, tokens + 1] by itself, with its last target."""
    parts = []
    for row, lengths in zip(ids, LENGTHS, strict=True):
        for number, length in enumerate(lengths):
            begin = sum(lengths[:number])
            parts.append(row[begin : begin + length + 1][None])
    assert [part.shape[1] - 1 for part in parts] == [end - begin for begin, end in pairwise(BOUNDS)]
    return parts


def logits(network: Any, ids: Tensor, positions: Tensor | None) -> Tensor:
    """Logits [tokens, vocabulary] of all samples, one after another."""
    with torch.no_grad():
        hidden = subject.hidden_states(network, ids, positions)
        return network.get_output_embeddings()(hidden).flatten(0, 1)


def gradients(network: Any, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def alone(network: Any) -> tuple[Tensor, float, dict[str, Tensor]]:
    """Logits, loss and gradients of documents that never met."""
    parts = documents(packed()["input_ids"])
    expected = torch.cat([logits(network, part[:, :-1], None) for part in parts])
    losses = [NextTokenLoss(network)({"input_ids": part}).total * (part.shape[1] - 1) for part in parts]
    total = torch.stack(losses).sum() / (2 * NUM_TOKENS)
    return expected, total.item(), gradients(network, total)


def leak(network: Any, batch: dict[str, Tensor], expected: tuple[Tensor, float, dict[str, Tensor]]) -> float:
    """The largest difference of logits, loss and gradients to documents alone."""
    found = logits(network, batch["input_ids"][:, :-1], batch["position_ids"][:, :-1] if len(batch) > 1 else None)
    loss = NextTokenLoss(network)(batch).total
    differences = [float((found - expected[0]).abs().max()), abs(loss.item() - expected[1])]
    for name, gradient in gradients(network, loss).items():
        differences.append(float((gradient - expected[2][name]).abs().max()))
    return max(differences)


# ---- how the blocks of a network may be run --------------------------------------------------------------------------


def plainly(_network: Any) -> None:
    """As they are."""


def recomputed(network: Any) -> None:
    for block in subject.blocks(network):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def recomputed_by_transformers(network: Any) -> None:
    network.gradient_checkpointing_enable()


def compiled(network: Any) -> None:
    """Seen by the front end of torch.compile alone, where transformers looks for documents in another way."""
    torch._dynamo.reset()
    network.base_model.forward = torch.compile(network.base_model.forward, backend="eager")


def compiled_by_block(network: Any) -> None:
    torch._dynamo.reset()
    for block in subject.blocks(network):
        block.forward = torch.compile(block.forward, backend="eager")


WAYS = [plainly, recomputed, recomputed_by_transformers]


@pytest.mark.parametrize(
    ("way", "training"),
    [*((way, training) for way in WAYS for training in (True, False)), (compiled, True), (compiled_by_block, True)],
)
@pytest.mark.parametrize("architecture", SECTIONS)
def test_a_document_in_a_window_is_what_it_is_alone(
    architecture: str, way: Callable[[Any], None], training: bool
) -> None:
    network = network_of(architecture).train(training)
    expected = alone(network)
    way(network)
    assert leak(network, packed(), expected) < 1e-5


@pytest.mark.parametrize("architecture", SECTIONS)
def test_without_positions_documents_see_each_other(architecture: str) -> None:
    network = network_of(architecture)
    assert leak(network, {"input_ids": packed()["input_ids"]}, alone(network)) > 1e-2


@pytest.mark.parametrize("architecture", SECTIONS)
def test_no_token_of_one_document_changes_a_bit_of_another(architecture: str) -> None:
    network, batch = network_of(architecture), packed()
    ids, positions = batch["input_ids"][:, :-1], batch["position_ids"][:, :-1]
    changed = ids.clone()
    changed[0, 8:17] = (changed[0, 8:17] + 1) % VOCAB_SIZE
    first, second = (logits(network, each, positions) for each in (ids, changed))
    assert torch.equal(first[:8], second[:8])
    assert torch.equal(first[17:], second[17:])
    assert not torch.equal(first[8:17], second[8:17])


# ---- flash attention over documents of different lengths -------------------------------------------------------------


def one_by_one(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, key_bounds: Tensor, longest: int, key_longest: int,
    *, scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
) -> Tensor:  # fmt: skip
    """What `varlen_attn` documents itself to compute: attention within each part of rows [tokens, heads, size]."""
    assert (bounds.dtype, bounds.tolist()) == (torch.int32, key_bounds.tolist())
    assert window_size == (-1, 0)
    assert all(end - begin <= longest == key_longest for begin, end in pairwise(bounds.tolist()))
    assert query.dtype == key.dtype == value.dtype
    parts = []
    for begin, end in pairwise(bounds.tolist()):
        heads = [each[begin:end].transpose(0, 1) for each in (query, key, value)]  # [heads, tokens, size]
        scores = heads[0] @ heads[1].transpose(1, 2) * scale
        future = torch.ones(end - begin, end - begin, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
        parts.append((weights @ heads[2]).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def varlen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Take the way of a GPU with a kernel in plain torch; the bounds of each call."""
    calls: list[list[int]] = []

    def called(*given: Any, **named: Any) -> Tensor:
        calls.append(given[3].tolist())
        return one_by_one(*given, **named)

    def no_mask(**given: Any) -> None:
        raise AssertionError("a dense mask was built")

    monkeypatch.setattr(subject, "varlen_attn", called)
    monkeypatch.setattr(subject, "takes_varlen", lambda network, device: True)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, subject.VARLEN, no_mask)
    return calls


def test_bounds_are_those_worked_out_by_hand() -> None:
    given = subject.varlen_arguments(packed()["position_ids"][:, :-1])
    assert given["cu_seq_lens_q"].tolist() == BOUNDS
    assert given["cu_seq_lens_q"].dtype == torch.int32
    assert given["max_length_q"] == NUM_TOKENS


def test_a_window_begins_a_document_whatever_its_first_position_says() -> None:
    positions = torch.tensor([[3, 4, 0, 1], [7, 8, 9, 10]])
    assert subject.varlen_arguments(positions)["cu_seq_lens_q"].tolist() == [0, 2, 4, 8]
    assert positions[0, 0] == 3  # the batch is left as it was


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", SECTIONS)
def test_flash_attention_gets_each_document_for_itself(
    architecture: str, way: Callable[[Any], None], training: bool, varlen: list[list[int]]
) -> None:
    network = network_of(architecture).train(training)
    expected = alone(network)
    assert not varlen  # without positions there is nothing to keep apart
    way(network)
    assert leak(network, packed(), expected) < 1e-5
    again = way is recomputed or (way is recomputed_by_transformers and training)
    # Two layers, once for the logits, once for the loss, and once more where the backward pass computes them again.
    assert varlen == [BOUNDS] * (2 + 2 + 2 * again)


@pytest.mark.parametrize("architecture", SECTIONS)
def test_flash_attention_computes_in_the_type_of_autocast(architecture: str, varlen: list[list[int]]) -> None:
    network, batch = network_of(architecture), packed()
    plain = NextTokenLoss(network_of(architecture))
    with torch.autocast("cpu", torch.bfloat16):
        found = NextTokenLoss(network)(batch).total  # queries, keys and values of one type: see one_by_one
    assert len(varlen) == 2
    assert found.item() == pytest.approx(plain({"input_ids": batch["input_ids"]}).total.item(), rel=0.2)
    assert found.dtype == torch.float32


def test_the_operator_of_torch_takes_what_it_is_given_and_has_gradients() -> None:
    """Shapes and types alone, which is as far as it goes without a GPU; queries and keys as autocast leaves them."""
    shape, bounds = (2, 4, NUM_TOKENS, 8), torch.tensor(BOUNDS, dtype=torch.int32)
    given = [torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)
             for dtype in (torch.float32, torch.float32, torch.bfloat16)]  # fmt: skip
    attended, _ = subject.varlen_attention(
        torch.nn.Module(), *given, None, scaling=0.1, cu_seq_lens_q=bounds, max_length_q=NUM_TOKENS, dropout=0.0
    )
    assert (attended.shape, attended.dtype) == ((2, NUM_TOKENS, 4, 8), torch.bfloat16)
    attended.sum().backward()
    assert [each.grad.shape for each in given] == [shape] * 3


@pytest.mark.parametrize("architecture", SECTIONS)
def test_a_network_that_has_used_it_generates_and_scores_as_before(
    architecture: str, varlen: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, used, batch = network_of(architecture).eval(), network_of(architecture).eval(), packed()
    NextTokenLoss(used)(batch)
    varlen.clear()
    monkeypatch.undo()
    prompts = batch["input_ids"][:, 5:12]
    attended = torch.ones_like(prompts)
    attended[0, :3] = 0  # padding on the left, which only a mask hides
    positions = batch["position_ids"][:, 5:12]
    for given in ({"attention_mask": attended}, {}, {"position_ids": positions, "use_cache": False}):
        given = {"input_ids": prompts, **given}
        with torch.no_grad():
            torch.testing.assert_close(used(**given).logits, fresh(**given).logits, rtol=0, atol=1e-6)
    settings = {"do_sample": False, "max_new_tokens": 9, "attention_mask": attended}
    assert torch.equal(used.generate(prompts, **settings), fresh.generate(prompts, **settings))
    assert not varlen
    assert used.config.to_json_string() == fresh.config.to_json_string()


AMPERE = {"kind": "cuda", "capability": (8, 0), "dtype": torch.bfloat16, "hidden_size": 32, "dropout": 0.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"dtype": torch.float16, "capability": (9, 0), "hidden_size": 1024}, True),
        ({"kind": "cpu"}, False),
        ({"capability": (7, 5)}, False),
        ({"dtype": torch.float32}, False),
        ({"hidden_size": 16}, False),  # heads of 4
        ({"hidden_size": 1056}, False),  # heads of 264
        ({"dropout": 0.1}, False),
    ],
)
@pytest.mark.parametrize("architecture", SECTIONS)
def test_flash_attention_is_taken_where_it_computes_the_same(
    architecture: str, changes: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = AMPERE | changes
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: case["capability"])
    with torch.device("meta"):
        network = network_of(architecture, hidden_size=case["hidden_size"], dropout=case["dropout"])
    device = torch.device(case["kind"])
    assert subject.takes_varlen(network.to(case["dtype"]), device) is expected
    if case["dropout"]:
        assert subject.takes_varlen(network.eval(), device)


def test_flash_attention_follows_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    network, device = network_of("gpt2"), torch.device("cuda")
    assert not subject.takes_varlen(network, device)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    assert subject.takes_varlen(network, device)


HAS_KERNEL = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


@pytest.mark.skipif(not HAS_KERNEL, reason="torch's varlen_attn has a kernel for GPUs from Ampere on only")
@pytest.mark.parametrize("way", [plainly, recomputed, compiled_by_block])
@pytest.mark.parametrize("architecture", SECTIONS)
def test_on_a_gpu_the_kernel_keeps_documents_apart(
    architecture: str, way: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, batch = network_of(architecture).cuda(), {key: value.cuda() for key, value in packed().items()}
    way(network)
    ids, positions = batch["input_ids"][:, :-1], batch["position_ids"][:, :-1]
    changed = ids.clone()
    changed[0, 8:17] = (changed[0, 8:17] + 1) % VOCAB_SIZE
    with torch.autocast("cuda", torch.bfloat16):
        first, second = (logits(network, each, positions) for each in (ids, changed))
        flash = gradients(network, NextTokenLoss(network)(batch).total)
    assert network.config._attn_implementation == subject.VARLEN
    assert torch.equal(first[:8], second[:8])
    assert torch.equal(first[17:], second[17:])
    assert not torch.equal(first[8:17], second[8:17])
    exact = network_of(architecture).cuda()
    for name, gradient in gradients(exact, NextTokenLoss(exact)(batch).total).items():
        # bf16 has 8 bits: half a percent a product, a few percent after two layers.
        assert float((flash[name] - gradient).norm()) < 0.05 * float(gradient.norm()) + 1e-4, name
    monkeypatch.setattr(subject, "takes_varlen", lambda network, device: False)
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(logits(network, ids, positions), first, rtol=0.05, atol=0.1)
