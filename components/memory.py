"""What to do when a training needs more memory than there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from components.outcomes import Refused

STEP_KEYS = {
    "samples": ("micro_batch_tokens", "micro_batch_samples", "batch_seconds"),
    "objective": ("chunk_samples",),
}
"""What decides how much of a batch a device has at one time, by the section of a training that has such a key."""


def step_key(training: Any) -> str:
    """The key of a training's section that makes one pass of a device smaller."""
    for section, keys in STEP_KEYS.items():
        for key in keys:
            if key in type(getattr(training, section)).model_fields:
                return f"{section}.{key}"
    raise ValueError(f"samples of the form '{training.samples.form}' have none of the keys {STEP_KEYS}")


def advice(training: Any, can_be_shared: bool) -> str:
    """What to change in a training's section that needs too much memory.

    Args:
        training: the section.
        can_be_shared: whether its family trains networks in shares; see `models.cost.Cost`.
    """
    key = step_key(training)
    beside = "and raise samples.batches_per_step" if key == "samples.batch_seconds" else "(the batch stays what it is)"
    if not can_be_shared:
        return f"Lower {key} {beside}, set activation_checkpointing: true, or take a device with more memory"
    return (
        f"Lower {key} {beside}, set activation_checkpointing: true, or share the network between devices with "
        "strategy: fsdp2"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate; on a CPU it says so by a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


@contextmanager
def explained(training: Any, can_be_shared: bool, is_first_step: Callable[[], bool]) -> Iterator[None]:
    """Say what to change when memory runs out while the block runs.

    Raises:
        Refused: in the first step of a run, since the next run would end the same way.
        MemoryError: later, when something else may have taken the memory; the checkpoint is kept, and a retry goes on.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason, ways = str(error).splitlines()[0], advice(training, can_be_shared)
        if is_first_step():
            raise Refused(f"There is not enough memory for one step: {reason}. {ways}.") from error
        raise MemoryError(f"Memory ran out: {reason}. If it does so again: {ways}.") from error
