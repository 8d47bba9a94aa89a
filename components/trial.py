"""One optimiser step of a recipe's real network on random numbers: what it takes here, beside the estimate."""

import time
from dataclasses import dataclass
from typing import Any

import psutil

from components.cost import MEMORY_SHARE, held, training_of
from components.devices import bf16_instructions, set_threads, uses_gpu
from components.outcomes import Refused
from components.recipes import Library, Recipe
from models import part_of


@dataclass(frozen=True)
class Trial:
    """What one step took."""

    num_items: int
    precision: str
    """The recipe's, or fp32 on a CPU without instructions for bf16."""
    loss: float
    """In nats; of random weights and tokens, near the logarithm of the vocabulary."""
    num_tensors: int
    num_moved: int
    """Tensors of parameters whose beginning the step has changed."""
    is_finite: bool
    """Whether every weight is a number after the step."""
    step_seconds: float
    estimated_bytes: int
    peak_bytes: int
    """Allocated on a GPU; on a CPU what the process grew by from before the network was made to its peak."""


def one_step(library: Library, name: str, num_items: int) -> Trial:
    """Make a recipe's network with random weights and take one optimiser step.

    Args:
        library: holds the recipe.
        name: the recipe.
        num_items: about how many inputs the one micro-batch has; of a language model, tokens.

    Raises:
        Refused: the recipe trains nothing, or there is less memory than the estimate wants.
    """
    recipe = library.read("recipe", name)
    if not isinstance(recipe, Recipe):
        raise Refused(
            f"Recipe '{name}' is somebody else's model and trains nothing. Name one with 'pretrain' or 'align'."
        )
    on_gpu = uses_gpu()
    training = part_of(recipe.family, "cost").shortened(training_of(recipe), num_items)
    if training.precision == "bf16" and not on_gpu and not bf16_instructions():
        training = training.model_copy(update={"precision": "fp32"})
    encoder = library.read("encoder", recipe.encoder)
    cost = part_of(recipe.family, "cost").training_cost(recipe.network, training, encoder, on_gpu)
    estimate = held(cost, training, "single", 1, training.activation_checkpointing).total
    _require_memory(name, estimate, on_gpu)
    return _step(recipe, training, encoder, on_gpu, estimate)


def _require_memory(name: str, estimate: int, on_gpu: bool) -> None:
    import torch

    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    if estimate > free * MEMORY_SHARE:
        raise Refused(
            f"One step of {name} takes about {estimate / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free, of "
            f"which {MEMORY_SHARE:.0%} may be used. Try fewer tokens, or a larger machine."
        )


def _step(recipe: Recipe, training: Any, encoder: Any, on_gpu: bool, estimate: int) -> Trial:
    import torch

    from components.blocks import recompute
    from components.meters import forget_peak_memory, peak_memory
    from components.optimizers import make_optimizer
    from components.randomness import seed_everything

    set_threads()
    forget_peak_memory()
    before = 0 if on_gpu else psutil.Process().memory_info().rss
    device = torch.device("cuda" if on_gpu else "cpu")
    seed_everything(training.seed)
    facts = {"vocab_size": encoder.vocab_size, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
    network_part = part_of(recipe.family, "network")
    network = network_part.build(recipe.network, facts).to(device).train()
    if training.activation_checkpointing:
        recompute(network_part.blocks(network))
    objective = part_of(recipe.family, "objectives").objective(training.objective, network)
    optimizer = make_optimizer(training, network)
    shapes = part_of(recipe.family, "cost").batch_shapes(recipe.network, training, encoder)
    batch = {key: torch.randint(0, below, shape).to(device) for key, (shape, below) in shapes.items()}
    beginnings = [_beginning(parameter) for parameter in network.parameters()]
    began = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        loss = objective(batch).total
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), training.optimizer.clip_norm)
    optimizer.step()
    value = float(loss.detach())  # waits for a GPU
    seconds = time.perf_counter() - began
    pairs = zip(beginnings, network.parameters(), strict=True)
    return Trial(
        num_items=objective.num_items(batch),
        precision=training.precision,
        loss=value,
        num_tensors=len(beginnings),
        num_moved=sum(not torch.equal(old, _beginning(parameter)) for old, parameter in pairs),
        is_finite=all(bool(parameter.isfinite().all()) for parameter in network.parameters()),
        step_seconds=seconds,
        estimated_bytes=estimate,
        peak_bytes=peak_memory()["peak_gpu_memory_bytes" if on_gpu else "peak_memory_bytes"] - before,
    )


def _beginning(parameter: Any) -> Any:
    return parameter.detach().flatten()[:256].clone()
