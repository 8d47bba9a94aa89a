"""What a training of the gpt family takes, against what torch counts on small networks."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from components.blocks import recompute
from models.gpt import cost as subject
from models.gpt import objectives
from models.gpt.network import blocks, build
from models.gpt.schema import GPT2, GPTNeoX

ROWS = 1000
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


def kept_bytes(section: Any, precision: str, isolates: bool) -> int:
    """What autograd keeps of one micro-batch besides the parameters, each storage once."""
    torch.manual_seed(0)
    network = build(section, FACTS).train()
    batch = {"input_ids": torch.randint(0, ROWS, (4, 129))}
    if isolates:
        batch["position_ids"] = (torch.arange(129) % 40).expand(4, 129).contiguous()
    parameters = {each.untyped_storage().data_ptr() for each in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters:
            kept[address] = tensor  # held, so that no later tensor gets its address
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        objectives.NextTokenLoss(network)(batch)
    return sum(each.untyped_storage().nbytes() for each in kept.values())


@pytest.mark.parametrize("isolates", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SECTIONS)
def test_activations_are_within_a_tenth_of_what_autograd_keeps(name: str, precision: str, isolates: bool) -> None:
    """If a network keeps less, as with an activation in one kernel, EAGER_ACTIVATION_TENSORS is to follow."""
    cost = subject.training_cost(SECTIONS[name], training_of(precision, isolates), ENCODER, on_gpu=False)
    head_gradient = 4 * ROWS * 64  # part of the loss's bytes
    assert cost.activation_bytes + head_gradient == pytest.approx(
        kept_bytes(SECTIONS[name], precision, isolates), rel=0.1
    )


def test_recomputed_activations_are_the_inputs_of_the_layers_and_one_layer() -> None:
    torch.manual_seed(0)
    network = build(SECTIONS["gpt2"], FACTS).train()
    inputs: list[torch.Tensor] = []
    for block in blocks(network):
        block.register_forward_pre_hook(lambda _block, given: inputs.append(given[0]))
    recompute(blocks(network))
    objectives.NextTokenLoss(network)({"input_ids": torch.randint(0, ROWS, (4, 129))})
    cost = subject.training_cost(SECTIONS["gpt2"], training_of(), ENCODER, on_gpu=False)
    one_layer = (cost.activation_bytes - 512 * 2 * 4 * 64) // 3
    held = sum(each.untyped_storage().nbytes() for each in inputs)
    assert cost.recomputing_activation_bytes == held + one_layer + 512 * 2 * 4 * 64
    assert cost.recomputing_activation_bytes < cost.activation_bytes / 2


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gpt_neox-tied"])
def test_flops_are_those_that_torch_counts(name: str) -> None:
    torch.manual_seed(0)
    network = build(SECTIONS[name], FACTS).train()
    objective = objectives.NextTokenLoss(network)
    batch = {"input_ids": torch.randint(0, ROWS, (4, 129))}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        objective(batch).total.backward()
    cost = subject.training_cost(SECTIONS[name], training_of(), ENCODER, on_gpu=False)
    # A step has two such micro-batches; rotary angles come from a product too.
    assert cost.step_flops == pytest.approx(2 * counter.get_total_flops(), rel=1e-3)
    assert cost.step_flops == 2 * objective.num_flops(batch)
    # Of the whole step, a layer's forward pass is a third, and the head is not computed again.
    assert cost.recomputed_flops == pytest.approx((cost.step_flops - 1024 * 6 * ROWS * 64) / 3)


@pytest.mark.parametrize("name", SECTIONS)
def test_layers_and_what_is_outside_of_them_have_the_parameters_that_they_have(name: str) -> None:
    network = build(SECTIONS[name], FACTS)
    cost = subject.training_cost(SECTIONS[name], training_of(), ENCODER, on_gpu=True)
    first, *_ = blocks(network)
    assert cost.block_parameters == sum(each.numel() for each in first.parameters())
    assert cost.num_parameters == sum(each.numel() for each in network.parameters())
    assert cost.outer_parameters == cost.num_parameters - 3 * cost.block_parameters


def test_the_loss_holds_as_many_logits_as_the_objective_does() -> None:
    assert subject.CHUNK_BYTES == {False: objectives.CHUNK_BYTES, True: objectives.GPU_CHUNK_BYTES}


def test_a_gpu_keeps_less_since_layers_are_compiled_and_attention_keeps_no_scores() -> None:
    for name in ("gpt2", "gpt2-dropout"):
        on_gpu, on_cpu = (
            subject.training_cost(SECTIONS[name], training_of("bf16"), ENCODER, on_gpu=each) for each in (True, False)
        )
        assert on_gpu.activation_bytes < on_cpu.activation_bytes
