"""What a training of the gpt family takes, against what torch counts on small networks."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from components import cost as planning
from components.blocks import recompute
from models.gpt import cost as subject
from models.gpt import objectives
from models.gpt.network import blocks, build
from models.gpt.schema import GPT2, Dpo, GPTNeoX, Ppo, Prompts
from tests.models import autograd

ROWS = 1000
HELD = {"precision": "fp32", "ema_decay": None, "activation_checkpointing": False}
FACTS = {"vocab_size": ROWS, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
ENCODER = SimpleNamespace(vocab_size=ROWS)
SHAPE = {"num_layers": 3, "hidden_size": 64, "num_heads": 4, "intermediate_size": 256, "max_positions": 128}
SECTIONS = {
    "gpt2": GPT2(architecture="gpt2", **SHAPE),
    "gpt2-fast": GPT2(architecture="gpt2", activation="gelu_fast", **SHAPE),
    "gpt2-erf": GPT2(architecture="gpt2", activation="gelu", **SHAPE),
    "gpt2-dropout": GPT2(architecture="gpt2", dropout=0.1, **SHAPE),
    "gpt_neox": GPTNeoX(architecture="gpt_neox", **SHAPE),
    "gpt_neox-tied": GPTNeoX(architecture="gpt_neox", tied=True, **SHAPE),
}


def training_of(precision: str = "fp32", isolates: bool = False) -> Any:
    """4 windows of 128 tokens at a time, two such micro-batches a step."""
    samples = SimpleNamespace(window_tokens=128, micro_batch_tokens=512, batch_tokens=1024, isolate_documents=isolates)
    return SimpleNamespace(samples=samples, precision=precision)


def cost_of(name: str, training: Any, on_gpu: bool = False, is_compiled: bool = False) -> Any:
    return subject.training_cost(SECTIONS[name], training, ENCODER, on_gpu, is_compiled)


class Storages(TorchDispatchMode):
    """Every storage that an operation gives, to see which are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = operation(*args, **(kwargs or {}))
        for each in tree_leaves(given):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                self.found[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        return given

    def live_bytes(self, apart_from: set[int]) -> int:
        return sum(
            size for place, (storage, size) in self.found.items() if place not in apart_from and not storage.expired()
        )


def kept_bytes(section: Any, precision: str, isolates: bool) -> int:
    """What autograd keeps of one micro-batch besides the parameters, each storage once."""
    torch.manual_seed(0)
    network = build(section, FACTS).train()
    batch = {"input_ids": torch.randint(0, ROWS, (4, 129))}
    if isolates:
        batch["position_ids"] = (torch.arange(129) % 40).expand(4, 129).contiguous()
    return autograd.kept_bytes(network, lambda: objectives.NextTokenLoss(network)(batch), precision)


@pytest.mark.parametrize("isolates", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SECTIONS)
def test_activations_are_within_a_tenth_of_what_autograd_keeps(name: str, precision: str, isolates: bool) -> None:
    cost = cost_of(name, training_of(precision, isolates))
    head_gradient = 4 * ROWS * 64  # part of the loss's bytes
    assert cost.activation_bytes + head_gradient == pytest.approx(
        kept_bytes(SECTIONS[name], precision, isolates), rel=0.1
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_recomputed_activations_are_what_lives_at_the_end_of_the_forward_pass_and_one_layer(
    name: str, precision: str
) -> None:
    torch.manual_seed(0)
    network = build(SECTIONS[name], FACTS).train()
    recompute(blocks(network))
    batch = {"input_ids": torch.randint(0, ROWS, (4, 129))}
    parameters = {each.untyped_storage().data_ptr() for each in network.parameters()}
    with Storages() as storages, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = objectives.NextTokenLoss(network)(batch)
        live = storages.live_bytes(apart_from=parameters)
    assert loss.total.requires_grad  # so what it keeps was alive
    cost = cost_of(name, training_of(precision))
    outer, head_gradient, copy = 512 * 2 * 4 * 64, 4 * ROWS * 64, 2 * 12 * 64 * 64 * (precision == "bf16")
    one_layer = (cost.activation_bytes - outer) // 3
    at_the_end = cost.recomputing_activation_bytes - one_layer + copy
    assert at_the_end + head_gradient == pytest.approx(live, rel=0.1)
    assert cost.recomputing_activation_bytes < cost.activation_bytes


def test_compiled_layers_make_their_copies_in_bf16_inside() -> None:
    eager, compiled = (cost_of("gpt2", training_of("bf16"), is_compiled=each) for each in (False, True))
    saved = eager.recomputing_activation_bytes - compiled.recomputing_activation_bytes
    assert saved == 2 * (2 * 12 * 64 * 64)  # of all layers but one
    eager, compiled = (cost_of("gpt2", training_of("fp32"), is_compiled=each) for each in (False, True))
    assert eager == compiled


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gpt_neox-tied"])
def test_flops_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.products.prefers_onednn", lambda: False)  # torch counts none of its operations
    torch.manual_seed(0)
    network = build(SECTIONS[name], FACTS).train()
    objective = objectives.NextTokenLoss(network)
    batch = {"input_ids": torch.randint(0, ROWS, (4, 129))}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        objective(batch).total.backward()
    cost = cost_of(name, training_of())
    # A step has two such micro-batches; rotary angles come from a product too.
    assert cost.step_flops == pytest.approx(2 * counter.get_total_flops(), rel=1e-3)
    assert cost.step_flops == 2 * objective.num_flops(batch)
    # Of the whole step, a layer's forward pass is a third, and the head is not computed again.
    assert cost.recomputed_flops == pytest.approx((cost.step_flops - 1024 * 6 * ROWS * 64) / 3)


@pytest.mark.parametrize("name", SECTIONS)
def test_layers_and_what_is_outside_of_them_have_the_parameters_that_they_have(name: str) -> None:
    network = build(SECTIONS[name], FACTS)
    cost = cost_of(name, training_of())
    first, *_ = blocks(network)
    assert cost.block_parameters == sum(each.numel() for each in first.parameters())
    assert cost.num_parameters == sum(each.numel() for each in network.parameters())
    assert cost.outer_parameters == cost.num_parameters - 3 * cost.block_parameters


def test_the_loss_holds_as_many_logits_as_the_objective_does() -> None:
    assert subject.CHUNK_BYTES == {False: objectives.CHUNK_BYTES, True: objectives.GPU_CHUNK_BYTES}


def test_a_gpu_keeps_less_since_its_attention_keeps_no_scores_under_dropout() -> None:
    on_gpu, on_cpu = (cost_of("gpt2-dropout", training_of("bf16"), on_gpu=each) for each in (True, False))
    assert on_gpu.activation_bytes < on_cpu.activation_bytes


def test_a_share_of_a_gpus_peak_is_assumed_of_no_very_small_network() -> None:
    shares = []
    for width in (768, 512, 64):
        section = GPT2(architecture="gpt2", **SHAPE | {"hidden_size": width})
        shares.append(subject.training_cost(section, training_of(), ENCODER, True, True).utilisation_share)
    assert shares == [0.4, 0.25, None]


def test_dpo_holds_a_reference_whose_forward_pass_is_counted() -> None:
    plain, training = cost_of("gpt2", training_of()), training_of()
    training.objective = Dpo(kind="dpo")
    found = cost_of("gpt2", training)
    assert found.frozen_parameters == found.num_parameters == plain.num_parameters
    assert found.step_flops == pytest.approx(plain.step_flops * 4 / 3)


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_a_round_of_ppo_is_worked_out_by_hand(critic: str) -> None:
    samples = Prompts(form="prompts", batch_samples=8, micro_batch_samples=4, max_tokens=30)
    keys = {"reward": "judge", "critic": critic, "num_epochs": 2, "mini_batch_samples": 2, "max_answer_tokens": 10}
    training = SimpleNamespace(samples=samples, precision="fp32", objective=Ppo(kind="ppo", **keys))
    found, tokens = cost_of("gpt2-dropout", training), 8 * 40
    one, trunks = cost_of("gpt2", training_of()).num_parameters, 2 if critic == "separate" else 1
    assert (found.batch_items, found.micro_batch_items) == (tokens, 2 * 40)
    assert (found.num_parameters, found.frozen_parameters) == (trunks * one, 2 * one)
    # 3 layers of 4 + 8 matrices of 64 x 64, and the head; attention's square. Forward passes: sampling, policy (and
    # critic), reference and reward model.
    forward = tokens * (2 * (3 * 12 * 64 * 64 + ROWS * 64) + 4 * 3 * 64 * 40)
    assert found.step_flops == pytest.approx(forward * (2 * 3 * trunks + 3 + trunks))
    # Keys and values in fp32 of all answers at once are the least that is there.
    assert found.activation_bytes >= 2 * 3 * 64 * 4 * tokens
    assert planning.devices_needed(found, SimpleNamespace(**HELD), 1e12) == 1
    assert planning.devices_needed(found, SimpleNamespace(**HELD), 1e3) is None
    held = planning.held(found, SimpleNamespace(**HELD), "single", 1, recompute=False)
    assert (held.weights, held.moments, held.frozen) == (4 * trunks * one, 8 * trunks * one, 4 * 2 * one)
