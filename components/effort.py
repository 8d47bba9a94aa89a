"""What a training has cost, told by its journal alone: it outlives kills, and every family writes it alike."""

from dataclasses import dataclass
from typing import Any

SEEN, SPEED, FLOPS = "_seen", "_per_second", "flops_per_second"
"""Ends of the metrics that a trainer logs: items so far, items a second since the last point, and operations."""


@dataclass(frozen=True)
class Effort:
    """The cost of the steps that count: validation, and work lost to a kill or a bad batch, are not in it."""

    item: str
    """What is counted, in the plural: `tokens`."""
    num_items: float
    seconds: float
    flops: float

    def metrics(self, verb: str) -> dict[str, float]:
        """By the names under which runs are compared."""
        found = {"training_seconds": self.seconds, "training_flops": self.flops}
        if self.seconds:
            found[f"mean_{self.item}_per_second"] = self.num_items / self.seconds
        return {f"{verb}/{key}": value for key, value in found.items()}


def effort_of(points: list[dict[str, Any]], verb: str) -> Effort | None:
    """The cost of a training by the points of its journal; None if it counts no items."""
    rows = [{key.removeprefix(f"{verb}/"): value for key, value in point["metrics"].items()} for point in points]
    item = next((key.removesuffix(SEEN) for row in rows for key in row if key.endswith(SEEN)), "")
    seen, seconds, flops = 0.0, 0.0, 0.0
    for row in rows if item else []:
        so_far, speed = row.get(item + SEEN, 0.0), row.get(item + SPEED, 0.0)
        if so_far > seen and speed > 0:
            spent = (so_far - seen) / speed
            seconds, flops, seen = seconds + spent, flops + spent * row.get(FLOPS, 0.0), so_far
    return Effort(item, seen, seconds, flops) if seen else None
