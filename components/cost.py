"""What a training takes on devices: a family's own figures, divided as a strategy divides them."""

from dataclasses import dataclass, fields
from typing import Any

from components.checkpoints import KEPT, checkpoint_bytes
from components.encoders import tokenizer_of
from components.recipes import Library, Recipe
from models import has_part, part_of
from models.cost import Cost

MEMORY_SHARE = 0.9
"""Of a device's memory that a training may plan with; the rest goes to its libraries and to gaps."""
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Held:
    """Bytes that one device holds at the peak of a step."""

    weights: int
    """In fp32."""
    gradients: int
    """In fp32; of a network in shares, its own and, while micro-batches add up, those of the whole network."""
    moments: int
    """AdamW's two, in fp32."""
    average: int
    """Of the weights, where the recipe keeps one."""
    gathered: int
    """What a network in shares brings together: two layers, what lies outside of them, and one layer's gradients."""
    activations: int
    loss: int
    frozen: int = 0
    """References and reward models, whole, in fp32."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, each.name) for each in fields(self))


def training_of(recipe: Any) -> Any:
    """The section of a recipe's training, whichever it has; None of somebody else's model, or of no recipe."""
    return getattr(recipe, "pretrain", None) or getattr(recipe, "align", None)


def cost_of(library: Library, name: str, on_gpu: bool, is_compiled: bool) -> Cost | None:
    """What the training of a recipe asks for; None if it trains nothing, or its family has no such arithmetic.

    Args:
        library: holds the recipe.
        name: the recipe.
        on_gpu: where it trains.
        is_compiled: whether its layers are compiled there.

    Raises:
        Refused: no such recipe.
    """
    recipe = library.read("recipe", name)
    if not isinstance(recipe, Recipe) or not has_part(recipe.family, "cost"):
        return None
    encoder = tokenizer_of(library, recipe.encoder)
    part = part_of(recipe.family, "cost")
    found: Cost = part.training_cost(recipe.network, training_of(recipe), encoder, on_gpu, is_compiled)
    return found


def held(cost: Cost, training: Any, strategy: str, num_devices: int, recompute: bool) -> Held:
    """What one of several devices holds at the peak of a step.

    Args:
        cost: of its family.
        training: the recipe's section.
        strategy: `single` and `ddp` hold the whole network, `fsdp2` a share of it.
        num_devices: that share a batch.
        recompute: whether activations are computed again.
    """
    total, number = cost.num_parameters, 2 if training.precision == "bf16" else 4
    is_shared = strategy == "fsdp2" and num_devices > 1
    share = -(-total // num_devices) if is_shared else total
    micro_batches = -(-cost.batch_items // (cost.micro_batch_items * num_devices))
    return Held(
        weights=4 * share,
        # torch reduces a network's gradients after the last micro-batch only, and adds them up whole before.
        gradients=4 * share + (4 * total if is_shared and micro_batches > 1 else 0),
        moments=8 * share,
        average=4 * share if training.ema_decay else 0,
        gathered=number * (cost.outer_parameters + 3 * cost.block_parameters) if is_shared else 0,
        activations=cost.recomputing_activation_bytes if recompute else cost.activation_bytes,
        loss=cost.loss_bytes,
        frozen=4 * cost.frozen_parameters,
    )


def devices_needed(cost: Cost, training: Any, memory_bytes: float) -> int | None:
    """The fewest devices of such a memory, a power of two up to 64, on which a recipe trains as it is; None if none.

    Of a network that cannot be shared each holds the whole, so no number of them is enough where one is not.
    """
    for count in (1, 2, 4, 8, 16, 32, 64) if cost.can_be_shared else (1,):
        if held(cost, training, "fsdp2", count, training.activation_checkpointing).total < memory_bytes * MEMORY_SHARE:
            return count
    return None


def host_bytes(cost: Cost, training: Any, strategy: str) -> int:
    """The machine's memory that rank 0 takes, beside its GPU's, while a checkpoint is written.

    What lies in shares is brought together there, whole; a network that each device holds is written tensor by tensor.
    """
    return checkpoint_bytes(cost.num_parameters, training) if strategy == "fsdp2" else 0


def disk_bytes(cost: Cost, training: Any) -> int:
    """Checkpoints, with the one being written, and the weights in a state and in a package."""
    return (KEPT + 1) * checkpoint_bytes(cost.num_parameters, training) + 2 * 4 * cost.num_parameters


def shard_bytes(cost: Cost, training: Any, vocab_size: int) -> int:
    """Shards of all that a training reads, at most, since it may read them twice: 2 bytes an id, 4 from 65,536 on."""
    return training.num_steps * cost.batch_items * (cost.item_bytes or (2 if vocab_size < 1 << 16 else 4))


def total_flops(cost: Cost, training: Any) -> float:
    """Forward and backward passes of a whole training; activations computed again not counted."""
    return training.num_steps * cost.step_flops


def recomputed_flops(cost: Cost, training: Any) -> float:
    """What a whole training computes again, if the recipe says so."""
    return training.num_steps * cost.recomputed_flops if training.activation_checkpointing else 0.0


def seconds(cost: Cost, training: Any, flops_per_second: float, num_devices: int) -> float:
    """How long a training takes.

    Args:
        cost: of its family.
        training: the recipe's section.
        flops_per_second: what one device really computes: its peak, times the share of it that is reached.
        num_devices: that share a batch.
    """
    flops = total_flops(cost, training) + recomputed_flops(cost, training)
    return flops / (flops_per_second * num_devices)
