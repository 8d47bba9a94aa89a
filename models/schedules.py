"""What in a schedule of learning rates does not fit the length of its training; the same in every family."""

from typing import Any


def check_schedule(key: str, training: Any) -> list[str]:
    """Contradictions of a training section that stands under a key, in words; empty if there are none."""
    rate, problems = training.learning_rate, []
    warmup_steps, num_steps = rate.warmup_steps, training.num_steps
    if warmup_steps > num_steps:
        problems.append(
            f"{key}.learning_rate.warmup_steps is {warmup_steps}, but {key}.num_steps is {num_steps}, so the "
            f"peak is never reached. Lower the first to {num_steps} or less, or raise the second."
        )
    decay_steps = rate.decay_steps or 0
    if decay_steps and warmup_steps + decay_steps > num_steps:
        problems.append(
            f"{key}.learning_rate.decay_steps is {decay_steps} after {warmup_steps} warmup_steps, but {key}.num_steps "
            f"is {num_steps}, so the rate would jump. Lower the first to "
            f"{max(1, num_steps - warmup_steps)} or less, or raise the last."
        )
    hold_steps = rate.hold_steps or 0
    if rate.kind == "tri-stage" and warmup_steps <= num_steps <= warmup_steps + hold_steps:
        problems.append(
            f"{key}.learning_rate holds its peak until step {warmup_steps + hold_steps} (warmup_steps and hold_steps), "
            f"but {key}.num_steps is {num_steps}, so it never falls. Lower one of the first two, or raise the last."
        )
    return problems
