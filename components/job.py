"""What is to be trained, as the trainer takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from components.batches import BatchPlan
from components.modalities import Samples
from models.objective import Objective


@dataclass(frozen=True)
class Job:
    """What is to be trained."""

    training: Any
    """The recipe's section, a `components.training_schema.Training`."""
    objective: Objective
    """Around a network on the CPU with its initial weights."""
    build: Callable[[], nn.Module]
    """Makes that network again, with the same weights."""
    blocks: list[nn.Module]
    """The network's layers: what is compiled, computed again, or sharded as one."""
    train_samples: Samples
    valid_samples: Samples
    encoder: Any
    """What made the samples, a `components.modalities.Encoder`."""
    preview: Callable[[int], str]
    """Of a step's number: Markdown for a person who wonders how the network is doing; empty if there is nothing to
    show."""
    can_be_shared: bool = True
    """Whether devices can each hold a share of the network; see `models.cost.Cost`."""
    starts_trained: bool = False
    """Whether the network begins with another model's weights, so that what it says before the first step is shown."""


def batch_plan(job: Job) -> BatchPlan:
    """Which samples stand in which batch."""
    return plan_of(job.train_samples, job.training)


def plan_of(samples: Samples, training: Any) -> BatchPlan:
    """The same, of samples and the section of a recipe that trains on them."""
    section = training.samples
    apart, order = getattr(section, "stand_alone", False), getattr(samples, "order", None)
    return BatchPlan(len(samples), section.batch_samples, training.seed, apart, order)
