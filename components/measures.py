"""By what models are compared: each kind of task declares it beside its keys, so no verb knows a metric by its name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from components.outcomes import Refused

CLEAN = "_clean"
"""Ends the name of a total over the items that were looked for in training data and do not stand there."""
CONTAMINATED = "contaminated"
"""The metric of an item that was looked for: 1 if it stands in the training data."""


@dataclass(frozen=True)
class Measure:
    """A metric of a task's items in which one model can be better than another."""

    metric: str
    better: Literal["lower", "higher"]
    per: str = ""
    """A metric of the same items by which it is divided, sums over sums: bits per character, errors per word. Empty
    for a mean over items."""
    total: str = ""
    """The total of the task that it is, such as `bits_per_character`; empty if that has the metric's own name."""
    may_miss: bool = False
    """Whether a model may have been scored without it, as where the data of a part of a task could not be had."""
    mean_of: tuple[str, ...] = ()
    """A total that is the mean of the means of these metrics, as far as they are there; no item tells of it."""
    told_only: bool = False
    """Whether it has a standard error, and models are not compared by it."""
    less: float = 0.0
    """Taken off each item's value first: of tokens 1, the one that ends a document and stands for no character."""
    base: float | None = None
    """The total is this to the power of the mean or ratio: 2 for the perplexity of bits per token."""
    is_of_others: bool = False
    """Whether an item's value is the total of all other items, as where different stretches are counted in all items
    together; such a total has no share that one item adds, and its standard error is the jackknife's."""
    is_each: bool = False
    """Whether `metric` only begins a name, and each metric of the items that begins so is told of by itself."""

    @property
    def name(self) -> str:
        """`bits/num_characters`, or the metric alone."""
        return f"{self.metric}/{self.per}" if self.per else self.metric


def told_of(task: Any) -> tuple[Measure, ...]:
    """What has a standard error in a task, which its section says: some kinds know it only with their keys."""
    found: tuple[Measure, ...] = getattr(task, "MEASURES", ())
    return found


def expanded(measures: Iterable[Measure], metrics: Iterable[str]) -> list[Measure]:
    """Measures, in place of those that are `is_each` one for each metric that they begin and no other names."""
    own, known = list(measures), sorted(metrics)
    named = {each.metric for each in own}
    found: list[Measure] = []
    for each in own:
        begun = [metric for metric in known if metric.startswith(each.metric) and metric not in named]
        found += [replace(each, metric=metric, is_each=False) for metric in begun] if each.is_each else [each]
    return found


def measures_of(tasks: Mapping[str, Any]) -> dict[str, tuple[Measure, ...]]:
    """What each task is compared by: task -> its `MEASURES` that models are compared by.

    Args:
        tasks: task -> its section, an instance of a class in a modality's `TASKS`.

    Raises:
        Refused: a kind of task declares none.
    """
    found: dict[str, tuple[Measure, ...]] = {}
    for name, task in tasks.items():
        found[name] = tuple(each for each in told_of(task) if not each.told_only)
        if not found[name]:
            raise Refused(
                f"Tasks of kind '{task.kind}', such as '{name}', do not say which of their metrics is better lower or "
                f"higher, so models cannot be compared on them. Add MEASURES to {type(task).__module__}."
                f"{type(task).__qualname__}, for example (Measure('is_right', 'higher'),)."
            )
    return found
