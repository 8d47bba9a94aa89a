"""The beginning of a step; and one whose objective makes its own data: a round of answers, several updates on them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from components import randomness, ranks
from components.checkpoints import Checkpoints, kept_in_words
from components.outcomes import Refused
from models.objective import Collapsed

Update = Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], Tensor]]
"""One optimiser update on a mini-batch -> its loss and parts, and the gradient's norm."""


def begin_step(objective: Any, seed: int, step: int) -> None:
    """Seed all generators for a step, counted from 0, and let the objective know of it, if it wants to."""
    randomness.seed_step(seed, step, ranks.rank())
    if hasattr(objective, "begin_step"):
        objective.begin_step(step)


def play_round(
    objective: Any, batch: dict[str, Tensor], part_samples: int, update: Update, checkpoints: Checkpoints
) -> tuple[Any, Any]:
    """Collect, and update until the epochs are over or the policy has gone far enough.

    Args:
        objective: has `collect`, `updates`, `is_far` and `end_round`; see `models.gpt.ppo.PpoRounds`.
        batch: on the device.
        part_samples: how many samples pass through a network at a time.
        update: makes one.
        checkpoints: of this training, to tell what is kept.

    Returns:
        The means over the updates, with what the round measured beside them; and the last gradient's norm.

    Raises:
        Refused: the policy or its reward is past help, in the objective's words, which say what to change.
    """
    try:
        experience = objective.collect(batch, part_samples)
    except Collapsed as error:
        raise Refused(f"{error} {kept_in_words(checkpoints.load())}") from error
    totals: dict[str, Tensor] = {}
    num_updates = 0
    for mini_batch in objective.updates(experience):
        sums, norm = update(mini_batch)
        if not num_updates and "ratio" in sums:
            totals["first_ratio"] = sums["ratio"]
        for key, value in sums.items():
            totals[key] = totals.get(key, 0.0) + value
        num_updates += 1
        if objective.is_far(sums):
            break
    means = {key: value if key == "first_ratio" else value / num_updates for key, value in totals.items()}
    like = means["loss"]
    measured = {key: like.new_tensor(value) for key, value in objective.end_round().items()}
    return {**means, **measured, "updates": like.new_tensor(float(num_updates))}, norm
