"""What can be done to each layer of a network without changing what it computes."""

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from components.settings import settings

CompileError = torch._dynamo.exc.TorchDynamoException  # noqa: SLF001 - documented, but exported nowhere else


def recompute(blocks: list[nn.Module]) -> None:
    """Let each block keep its inputs only, and compute its activations again in the backward pass."""
    for block in blocks:
        block.forward = functools.partial(_recomputed, block.forward)


def _recomputed(forward: Any, *args: Any, **given: Any) -> Any:
    """A forward pass that keeps its inputs only; without gradients, as when answers are sampled, as it is."""
    return (
        checkpoint(forward, *args, use_reentrant=False, **given) if torch.is_grad_enabled() else forward(*args, **given)
    )


def _while_training(block: nn.Module, forward: Any) -> Any:
    """A compiled forward for training; generation with its growing cache would be compiled anew for every layer."""
    compiled = torch.compile(forward)
    return lambda *args, **kwargs: (compiled if block.training else forward)(*args, **kwargs)


class Compiled:
    """Blocks that torch compiles when they are first trained, where the settings want it."""

    def __init__(self, blocks: list[nn.Module], device: torch.device) -> None:
        wanted = settings().compile
        self.is_on = wanted == "on" or (wanted == "auto" and device.type != "cpu")
        self.before: list[tuple[Any, Any]] = [(block, block.forward) for block in blocks if self.is_on]
        for block, forward in self.before:
            block.forward = _while_training(block, forward)

    def undo(self) -> None:
        """Compute as before."""
        self.is_on = False
        for block, forward in self.before:
            block.forward = forward
