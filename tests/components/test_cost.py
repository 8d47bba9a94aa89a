"""What a training takes on devices, against what real tensors and files take."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from components import cost as subject
from components.checkpoints import checkpoint_bytes
from components.modalities.text.shards import write_shards
from components.optimizers import make_optimizer
from components.recipes import Recipe
from models import FAMILIES
from models.cost import Cost
from models.gpt.cost import training_cost
from models.gpt.network import build
from models.gpt.objectives import NextTokenLoss
from models.gpt.schema import GPT2
from models.schema import Strict

SECTION = GPT2(architecture="gpt2", num_layers=2, hidden_size=32, num_heads=4, intermediate_size=64, max_positions=16)
FACTS = {"vocab_size": 300, "unk": 0, "bos": 1, "eos": 2, "pad": 3}


def training_of(**changes: Any) -> Any:
    samples = SimpleNamespace(window_tokens=16, micro_batch_tokens=32, batch_tokens=256, isolate_documents=False)
    optimizer = SimpleNamespace(learning_rate=1e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1)
    fields = {
        "samples": samples, "optimizer": optimizer, "precision": "fp32", "ema_decay": None, "num_steps": 10,
        "activation_checkpointing": False,
    }  # fmt: skip
    return SimpleNamespace(**fields | changes)


def cost_of(**changes: Any) -> Cost:
    encoder = SimpleNamespace(vocab_size=300)
    return training_cost(SECTION, training_of(**changes), encoder, on_gpu=True, is_compiled=True)


def num_bytes(tensors: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def test_weights_gradients_and_moments_are_exactly_those_of_a_network_after_a_step() -> None:
    torch.manual_seed(0)
    network = build(SECTION, FACTS)
    optimizer = make_optimizer(training_of(), network)
    NextTokenLoss(network)({"input_ids": torch.randint(0, 300, (2, 17))}).total.backward()
    optimizer.step()
    found = subject.held(cost_of(), training_of(), "single", 1, recompute=False)
    parameters = list(network.parameters())
    assert found.weights == num_bytes(parameters)
    assert found.gradients == num_bytes(each.grad for each in parameters)
    # Each parameter has a count of steps too, 4 bytes a tensor, that no plan needs.
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert found.moments == num_bytes(moments)
    assert checkpoint_bytes(cost_of().num_parameters, training_of()) == found.weights + found.moments


def test_an_average_of_the_weights_takes_as_much_as_they_do() -> None:
    training = training_of(ema_decay=0.99)
    found = subject.held(cost_of(), training, "single", 1, recompute=False)
    assert found.average == found.weights
    assert checkpoint_bytes(cost_of().num_parameters, training) == 4 * found.weights


def test_a_network_in_shares_holds_a_share_and_what_it_gathers() -> None:
    cost, training = cost_of(), training_of(precision="bf16")
    whole, shared = (subject.held(cost, training, kind, 4, recompute=False) for kind in ("ddp", "fsdp2"))
    assert whole == subject.held(cost, training, "single", 1, recompute=False)
    assert shared.weights * 4 == whole.weights
    assert shared.moments * 4 == whole.moments
    # 256 tokens in micro-batches of 32 on 4 devices are two turns, between which gradients lie whole.
    assert shared.gradients == whole.gradients // 4 + whole.gradients
    assert 0 < shared.gathered < whole.weights
    assert subject.held(cost, training, "fsdp2", 8, recompute=False).gradients == -(-whole.gradients // 8)


def test_the_host_holds_a_whole_checkpoint_only_of_a_network_in_shares() -> None:
    cost, training = cost_of(), training_of(ema_decay=0.99)
    assert subject.host_bytes(cost, training, "fsdp2") == 16 * cost.num_parameters
    assert subject.host_bytes(cost, training, "ddp") == subject.host_bytes(cost, training, "single") == 0


def test_the_fewest_devices_that_hold_a_training_are_found() -> None:
    cost, training = cost_of(), training_of()
    one = subject.held(cost, training, "single", 1, recompute=False).total
    assert subject.devices_needed(cost, training, one / subject.MEMORY_SHARE + 1) == 1
    assert subject.devices_needed(cost, training, 0.95 * one / subject.MEMORY_SHARE) in (2, 4, 8)
    assert subject.devices_needed(cost, training, 1000) is None


def test_time_is_flops_over_speed_and_recomputing_takes_more() -> None:
    cost = cost_of()
    total = subject.total_flops(cost, training_of())
    assert subject.seconds(cost, training_of(), total, 1) == pytest.approx(1)
    assert subject.seconds(cost, training_of(), total, 4) == pytest.approx(0.25)
    recomputing = training_of(activation_checkpointing=True)
    assert 1 < subject.seconds(cost, recomputing, total, 1) < 4 / 3
    assert subject.seconds(cost, recomputing, total, 1) == 1 + subject.recomputed_flops(cost, recomputing) / total
    assert subject.recomputed_flops(cost, training_of()) == 0


@pytest.mark.parametrize("vocab_size", [(1 << 16) - 1, 1 << 16])
def test_shards_take_as_many_bytes_a_token_as_the_files_do(tmp_path: Path, vocab_size: int) -> None:
    encoder = SimpleNamespace(facts={"vocab_size": vocab_size, "eos": 2}, num_chars=0)
    write_shards(iter([("train", np.arange(99))]), encoder, tmp_path)
    (file,) = tmp_path.glob("train-*.bin")
    cost, training = cost_of(), training_of()
    tokens = training.num_steps * cost.batch_items
    assert subject.shard_bytes(cost, training, vocab_size) / tokens == file.stat().st_size / 100


def family_with(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> Any:
    """A library whose one recipe is of a family with just these files."""
    package = folder / folder.name  # another one for each test, since Python remembers what it has imported
    package.mkdir()
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(FAMILIES, "tested", package.name)
    recipe = Recipe.model_construct(family="tested", encoder="none", network=SECTION, pretrain=training_of())
    return SimpleNamespace(read=lambda kind, _name: recipe if kind == "recipe" else Strict())


def test_a_family_without_arithmetic_has_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert subject.cost_of(family_with(monkeypatch, tmp_path, {}), "any", on_gpu=False, is_compiled=False) is None


def test_a_cost_that_cannot_be_imported_is_no_family_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = family_with(monkeypatch, tmp_path, {"cost.py": "import a_module_that_is_not_installed\n"})
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_installed"):
        subject.cost_of(library, "any", on_gpu=False, is_compiled=False)
