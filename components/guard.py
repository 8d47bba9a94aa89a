"""What a trainer does about a step that goes wrong: it goes back, and leaves out the batch that did it."""

import math
from collections.abc import Iterable
from typing import Any


class Guard:
    """The losses of good steps, and the batches that were bad.

    Whether a step is bad depends on the good steps before it alone. So a run that was stopped, or that goes back
    further than another, ends with the same bits.
    """

    def __init__(self, section: Any) -> None:
        """Take a `components.training_schema.Guard`."""
        self.section = section
        self.losses: list[float] = []
        self.skipped: list[int] = []
        """Numbers of the batches that are left out, in the order they were found."""

    def state(self) -> dict[str, list[Any]]:
        """What a checkpoint keeps."""
        return {"losses": list(self.losses), "skipped": list(self.skipped)}

    def restore(self, state: dict[str, list[Any]]) -> None:
        """Take up a checkpoint's state; batches found bad since then stay out."""
        self.losses = list(state["losses"])
        self.skipped = list(dict.fromkeys([*state["skipped"], *self.skipped]))

    def fault(self, loss: float, gradient_norm: float) -> str:
        """What is wrong with a step, in words; empty if nothing is, and then it counts as good."""
        for name, value in (("loss", loss), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                return f"{name} {value}"
        ratio, window = self.section.spike_ratio, self.losses
        if ratio is not None and len(window) == self.section.window_steps:
            mean = sum(window) / len(window)
            if loss > ratio * mean > 0:
                return f"loss {loss:.4f}, {loss / mean:.1f} times the mean of the {len(window)} steps before"
        self.losses = [*window, loss][-self.section.window_steps :]
        return ""

    def skip(self, number: int) -> bool:
        """Leave out a batch from now on; False if there are more such batches than the recipe allows."""
        self.skipped.append(number)
        return len(self.skipped) <= self.section.max_skipped_batches


def listed(numbers: Iterable[int]) -> str:
    """Batch numbers for a person, as `hiraku batch` takes them: `12, 1040, 1041`."""
    return ", ".join(map(str, numbers))
