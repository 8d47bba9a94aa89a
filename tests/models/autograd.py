"""What autograd keeps for a backward pass."""

from collections.abc import Callable
from typing import Any

import torch


def kept_bytes(module: torch.nn.Module, forward: Callable[[], Any], precision: str) -> int:
    """Bytes that a forward pass leaves for the backward pass besides the parameters, each storage once."""
    parameters = {each.untyped_storage().data_ptr() for each in module.parameters()}
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
        forward()
    return sum(each.untyped_storage().nbytes() for each in kept.values())
