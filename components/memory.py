"""What to do when a training needs more memory than there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from components.outcomes import Refused

ADVICE = (
    "Lower samples.micro_batch_tokens (the batch stays what it is), set activation_checkpointing: true, or share the "
    "network between devices with strategy: fsdp2"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate; on a CPU it says so by a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


@contextmanager
def explained(is_first_step: Callable[[], bool]) -> Iterator[None]:
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
        reason = str(error).splitlines()[0]
        if is_first_step():
            raise Refused(f"There is not enough memory for one step: {reason}. {ADVICE}.") from error
        raise MemoryError(f"Memory ran out: {reason}. If it does so again: {ADVICE}.") from error
