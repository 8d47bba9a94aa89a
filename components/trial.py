"""Optimiser steps of a recipe's real network on random numbers: what one takes here, beside the estimate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from components.cost import MEMORY_SHARE, held, training_of
from components.devices import bf16_instructions, compiles_layers, gpu_held, set_threads, uses_gpu
from components.encoders import tokenizer_of
from components.outcomes import Busy, Refused
from components.recipes import Library, Recipe
from models import has_part, part_of
from models.objective import Setting

STEPS = 2
"""The first has no moments beside its gradients, and pays for what is made once: compiled code, buffers, threads."""


@dataclass(frozen=True)
class Trial:
    """What the steps took."""

    item: str
    """What the loss is the mean over, in the plural."""
    num_items: int
    precision: str
    """The recipe's, or fp32 on a CPU without instructions for bf16."""
    is_compiled: bool
    """Whether torch compiled the layers, as it does in a training here."""
    loss: float
    """Of the first step, in nats; of random weights and tokens, near the logarithm of the vocabulary."""
    num_tensors: int
    num_with_gradient: int
    """Tensors of parameters whose last gradient is not zero everywhere."""
    is_finite: bool
    """Whether every weight is a number after the steps."""
    step_seconds: float
    """Of the last step."""
    estimated_bytes: int
    peak_bytes: int
    """Allocated on a GPU; on a CPU what the process grew by from before the network was made to its peak."""


def one_step(library: Library, name: str, num_items: int) -> Trial:
    """Make a recipe's network with random weights and take optimiser steps, of which the last is measured.

    Args:
        library: holds the recipe.
        name: the recipe.
        num_items: about how many inputs the one micro-batch has, at least 1; of a language model, tokens.

    Raises:
        Refused: the recipe trains nothing, its family has no arithmetic, there is less memory than the estimate wants,
            or another process computes on the GPU.
    """
    recipe = library.read("recipe", name)
    if not isinstance(recipe, Recipe):
        raise Refused(
            f"Recipe '{name}' is somebody else's model and trains nothing. Name one with 'pretrain' or 'align'."
        )
    if not has_part(recipe.family, "cost"):
        raise Refused(
            f"Family '{recipe.family}' has no cost.py, so what a step of {name} takes is not known beforehand. Name a "
            "recipe of another family."
        )
    form = training_of(recipe).samples.form
    if form in ("preferences", "prompts"):
        raise Refused(
            f"Recipe '{name}' trains on {form}, of which no random ones can be made for a trial. Name the recipe it "
            f"starts from: hiraku doctor {recipe.starts_from} --step {num_items}"
        )
    try:
        with gpu_held():
            return _trial(library, name, recipe, num_items)
    except Busy as error:
        raise Refused(f"{error} A trial takes the GPU alone: wait until that process has ended, or stop it.") from error


def _trial(library: Library, name: str, recipe: Recipe, num_items: int) -> Trial:
    """Estimate, and take the steps if there is memory for them."""
    on_gpu, cost_part = uses_gpu(), part_of(recipe.family, "cost")
    training = cost_part.shortened(training_of(recipe), num_items)
    if training.precision == "bf16" and not on_gpu and not bf16_instructions():
        training = training.model_copy(update={"precision": "fp32"})
    encoder = tokenizer_of(library, recipe.encoder)
    cost = cost_part.training_cost(recipe.network, training, encoder, on_gpu, compiles_layers(on_gpu))
    estimate = held(cost, training, "single", 1, training.activation_checkpointing).total
    _require_memory(name, estimate, on_gpu)
    return _steps(recipe, training, encoder, on_gpu, estimate)


def _require_memory(name: str, estimate: int, on_gpu: bool) -> None:
    import torch

    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    if estimate > free * MEMORY_SHARE:
        raise Refused(
            f"One step of {name} takes about {estimate / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free, of "
            f"which {MEMORY_SHARE:.0%} may be used. Try fewer tokens, or a larger machine."
        )


def _steps(recipe: Recipe, training: Any, encoder: Any, on_gpu: bool, estimate: int) -> Trial:
    """Take them, as `components.training` does on one device."""
    import torch

    from components.batches import prepared
    from components.meters import forget_peak_memory, peak_memory
    from components.optimizers import make_optimizer

    facts = part_of(recipe.family, "cost").facts(encoder)
    with torch.device("meta"):
        _made(recipe, training, facts, torch.device("meta"))  # what it imports is no memory of the steps
    set_threads()
    forget_peak_memory()
    before = 0 if on_gpu else psutil.Process().memory_info().rss
    device = torch.device("cuda" if on_gpu else "cpu")
    objective, compiled = _made(recipe, training, facts, device)
    network = objective.network
    optimizer = make_optimizer(training, network)
    shapes = part_of(recipe.family, "cost").batch_shapes(recipe.network, training, encoder)
    batch = {key: torch.randint(0, below, shape) for key, (shape, below) in shapes.items()}
    (batch,) = prepared(objective, [batch])
    batch = {key: value.to(device) for key, value in batch.items()}
    losses = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            loss = _without_code_that_fails(lambda: objective(batch).total, compiled)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.optimizer.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    peak = peak_memory()["peak_gpu_memory_bytes" if on_gpu else "peak_memory_bytes"]
    parameters = list(network.parameters())
    return Trial(
        item=objective.item,
        num_items=objective.num_items(batch),
        precision=training.precision,
        is_compiled=compiled.is_on,
        loss=losses[0],
        num_tensors=len(parameters),
        num_with_gradient=sum(each.grad is not None and bool(each.grad.any()) for each in parameters),
        is_finite=all(bool(each.isfinite().all()) for each in parameters),
        step_seconds=seconds,
        estimated_bytes=estimate,
        peak_bytes=peak - before,
    )


def _made(recipe: Recipe, training: Any, facts: dict[str, int], device: Any) -> tuple[Any, Any]:
    """The objective around a network with random weights, and what compiles its layers when they are first used."""
    from components.blocks import Compiled, recompute
    from components.randomness import seed_everything

    seed_everything(training.seed)
    network_part = part_of(recipe.family, "network")
    network = network_part.build(recipe.network, facts).to(device).train()
    layers = network_part.blocks(network)
    if training.activation_checkpointing:
        recompute(layers)
    compiled = Compiled(layers, device)
    return part_of(recipe.family, "objectives").objective(training.objective, network, Setting(facts)), compiled


def _without_code_that_fails(forward: Callable[[], Any], compiled: Any) -> Any:
    """A forward pass; compiled code that cannot be made is done without, as in a training."""
    from components.blocks import CompileError

    try:
        return forward()
    except CompileError:
        if not compiled.is_on:
            raise
        compiled.undo()
        return forward()
