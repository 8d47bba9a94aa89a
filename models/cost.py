"""What a planner asks of a family before a training starts; each family keeps its own arithmetic in `cost.py`.

A family gives these functions there, which need neither torch nor data:

    training_cost   network, training, encoder, on a GPU or not, layers compiled or not -> Cost
    can_be_shared   training -> whether devices can each hold a share of the network
    facts           encoder -> what such an encoder tells a network, before it is fitted
    shortened       training, number of items -> a training with one micro-batch of about so many
    batch_shapes    network, training, encoder -> the integer tensors of a micro-batch, for a trial with random numbers
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a training asks for, before it is divided among devices: bytes of one device, FLOPs of all."""

    num_parameters: int
    """Tied ones counted once."""
    block_parameters: int
    """Of one layer: what a network in shares gathers at a time."""
    outer_parameters: int
    """Outside of the layers: what a network in shares holds whole for the length of a step."""
    item: str
    """What a loss is the mean over, in the plural."""
    batch_items: int
    """Per optimiser step, over all devices."""
    micro_batch_items: int
    """Per forward pass of one device."""
    step_flops: float
    """Of an optimiser step, forward and backward; activations computed again not counted."""
    recomputed_flops: float
    """What computing activations again adds to a step."""
    activation_bytes: int
    """Kept from the forward to the backward pass of a micro-batch."""
    recomputing_activation_bytes: int
    """The same if each layer keeps its inputs only, and one layer at a time is computed again."""
    loss_bytes: int
    """What the loss takes beside, until its backward pass has ended."""
    utilisation_share: float | None
    """Share of a GPU's peak that such a network is assumed to reach; None for one so small that no share says much."""
    frozen_parameters: int = 0
    """Held whole in fp32 on each device beside what is trained: references and reward models."""
    item_bytes: int | None = None
    """Of an item in a shard, at most; None where it is an id, as long as the vocabulary asks for."""
    can_be_shared: bool = True
    """Whether devices can each hold a share of the network, `strategy: fsdp2`; else each holds it whole."""
