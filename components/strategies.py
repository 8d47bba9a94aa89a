"""How the devices of a training share a network: Lightning's strategies, and tensors that lie in shares."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from components import ranks


def make_strategy(kind: str, leaves_out: bool = False) -> Strategy | str:
    """The strategy of a recipe's key, as far as there are several ranks to share anything.

    Args:
        kind: the key.
        leaves_out: whether a step may give some parameters no gradient, which the ranks must then find out.
    """
    if ranks.num_ranks() == 1:
        return "auto"
    if kind == "ddp":
        return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=leaves_out)
    return ModelParallelStrategy(data_parallel_size=ranks.num_ranks(), tensor_parallel_size=1)


def shard(objective: Any, blocks: list[nn.Module], mesh: DeviceMesh | None, precision: str) -> None:
    """Split parameters, gradients and moments over the ranks: each block by itself, then what is left.

    The objective is the root, so that whatever of the network it reads (the weight of the head) is whole within it.
    """
    if mesh is None:
        raise RuntimeError("the strategy has no mesh of devices yet")
    mesh = mesh["data_parallel"]
    half = torch.bfloat16 if precision == "bf16" else None
    # What passes from layer to layer stays in fp32, as under autocast on one device.
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)


def is_sharded(objective: Any) -> bool:
    """Whether `shard` was called."""
    return isinstance(objective, FSDPModule)


def accumulating(strategy: Strategy, objective: Any, is_last: bool) -> AbstractContextManager[Any]:
    """For the backward pass of a micro-batch: gradients are exchanged after the last one of a step only."""
    if isinstance(objective, FSDPModule):
        objective.set_requires_gradient_sync(is_last)
    elif isinstance(strategy, DDPStrategy) and not is_last:
        return strategy.block_backward_sync()
    return nullcontext()


def local(tensor: Tensor) -> Tensor:
    """The share of a tensor that this rank has, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def whole(value: Any) -> Any:
    """Nested containers with every tensor whole; of several ranks, all must call it.

    Tensors in shares are brought together on the CPU of rank 0, which writes checkpoints; the others get nothing of
    them, since the memory of a machine holds such a state once.
    """
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [whole(each) for each in value]
    if not isinstance(value, DTensor):
        return value
    gathered = value.full_tensor()
    return gathered.cpu() if ranks.is_main() else None


def clip_gradients(network: nn.Module, max_norm: float) -> Tensor:
    """Scale gradients down to a norm over all parameters and ranks; the norm before that, shape []."""
    norm = nn.utils.clip_grad_norm_(network.parameters(), max_norm).detach()
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _like(tensor: Tensor, found: Tensor) -> Tensor:
    """A copy of a whole tensor, which every rank has, laid out as another one is; the first may lie in a file."""
    if not isinstance(tensor, DTensor):
        return found.clone()
    there = found.to(tensor.device, copy=True)
    return distribute_tensor(there, tensor.device_mesh, tensor.placements, src_data_rank=None)


def load_weights(tensors: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Copy whole tensors into these, of the same names and shapes.

    Raises:
        KeyError: a name is missing.
    """
    with torch.no_grad():
        for name, tensor in tensors.items():
            local(tensor).copy_(local(_like(tensor, found[name])))


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a copy of a state of whole tensors, as `whole` gives it."""
    optimizer.state.clear()  # else the moments before stand beside those that come
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    moments = {
        number: {key: _like(parameters[number], value) if value.ndim else value.clone() for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
