"""What a trainer asks of an objective; each family keeps its own in `objectives.py`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch


Batches = Callable[[str], Iterable[dict[str, "torch.Tensor"]]]
"""Split -> batches of it, always the same: of `valid` those of each validation, of `train` as many samples."""


class Collapsed(ValueError):
    """A training that makes its own data will not recover; the message says why, and what to change."""


class Mismatch(ValueError):
    """Sections of a recipe that do not fit each other or their encoder; the message says what to change."""


@dataclass(frozen=True)
class Setting:
    """What a training has besides its own section of a recipe."""

    facts: dict[str, Any]
    """The encoder's: for text `vocab_size` and the ids `bos`, `eos`, `pad`, `unk`."""
    start: Path | None = None
    """The folder of the weights to start from; None for random ones."""
    parents: dict[str, Path] = field(default_factory=dict)
    """Every recipe that the training names -> the folder of its weights."""


class Loss(NamedTuple):
    """What an objective makes of a batch. A tuple, since a wrapper such as FSDP2 must find the tensors of an output."""

    total: "torch.Tensor"
    """What is minimised: a scalar, the mean over the batch's items."""
    parts: dict[str, "torch.Tensor"] = {}
    """Detached scalars that a person wants to see beside it, means over the same items."""


class Objective(Protocol):
    """Batch -> loss: a torch.nn.Module whose forward pass holds all that is computed from the network's parameters.

    So a wrapper for several devices goes around the objective and gathers the parameters before they are read.

    An objective may have besides:

        prepared(batch)         the batch with what chance decides of it, such as masks, before its items are counted;
                                on the CPU, from torch's generator, which each step seeds, or in evaluation from the
                                batch alone
        begin_step(step)        what differs between the steps of a training, by their number alone, counted from 0
        leaves_out_parameters   True if a step may give some parameters no gradient; those stay as they are
        state(), restore(state) what else a checkpoint must keep
        collect(batch, size)    data that it makes itself; see `components.rounds`
    """

    item: str
    """What a loss is the mean over, in the plural: `tokens`."""

    @property
    def network(self) -> "torch.nn.Module":
        """What is trained, a submodule of this name."""

    def __call__(self, batch: dict[str, "torch.Tensor"]) -> Loss:
        """The loss of a batch, differentiable."""

    def num_items(self, batch: dict[str, Any]) -> int:
        """How many items the mean is over. A step made of several micro-batches weighs them by it."""

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Floating-point operations that forward and backward pass need for a batch, recomputation not counted."""

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:
        """How many items the batch has, and of what a person would count instead, such as characters."""

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:
        """What else a mean loss says, given the units of the batches it was measured on."""
