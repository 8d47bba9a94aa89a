"""AdamW, its learning rate and the average of its weights, from a recipe's sections."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from components.strategies import local


def learning_rate(training: Any, step: int) -> float:
    """The rate of optimiser step `step`, counted from 1: the peak at the end of warm-up, its share at the last step."""
    section, peak = training.learning_rate, training.optimizer.learning_rate
    if section.kind == "tri-stage":
        return peak * _tri_stage_share(section, training.num_steps, step)
    if step <= section.warmup_steps:
        return peak * step / section.warmup_steps
    if section.kind == "constant":
        return peak
    fall_steps = section.decay_steps or training.num_steps - section.warmup_steps
    way = max(0.0, 1 - (training.num_steps - step) / max(1, fall_steps))
    share = 0.5 * (1 + math.cos(math.pi * way)) if section.kind == "cosine" else 1 - way
    return peak * (share + section.final_share * (1 - share))


def _tri_stage_share(section: Any, num_steps: int, step: int) -> float:
    """Share of the peak: a straight way up, a level one, and an exponential down to the last step."""
    if step <= section.warmup_steps:
        first = 0.01 if section.initial_share is None else section.initial_share
        return float(first + (1 - first) * step / section.warmup_steps)
    fall_begins = section.warmup_steps + (section.hold_steps or 0)
    way = max(0.0, (step - fall_begins) / max(1, num_steps - fall_begins))
    return float(section.final_share**way)


def make_optimizer(training: Any, network: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays what has two dimensions or more, but no bias and no norm of activations.

    So it decays matrices, embeddings and convolutions, and of convolutions with weight norm both of their tensors.
    fairseq's Adam (fairseq/optim/adam.py) has one group and decays biases and norms too, so recipes with its numbers
    differ from it in that.
    """
    section = training.optimizer
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (section.beta1, section.beta2)
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon, fused=True)


def average_decay(decay: float, num_before: int) -> float:
    """The share that an average keeps of itself after a step: it rises, so that the random start is soon forgotten.

    min(decay, (1 + n) / (10 + n)), as LitEma of Stable Diffusion's training (CompVis/latent-diffusion, ldm/modules/
    ema.py) and TensorFlow's ExponentialMovingAverage have it; counted as diffusers' EMAModel does, whose first average
    is the parameters themselves.

    Args:
        decay: the recipe's.
        num_before: steps before this one.
    """
    return min(decay, (1 + num_before) / (10 + num_before)) if num_before else 0.0


class Ema:
    """An exponential moving average of the parameters that learn, in their own precision and sharded as they are.

    average <- decay x average + (1 - decay) x parameter, after each step, with the decay of `average_decay`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.averages = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self, num_before: int) -> None:
        """Follow a step, before which there were so many others."""
        averages, parameters = ([local(each) for each in of.values()] for of in (self.averages, self.parameters))
        torch._foreach_lerp_(averages, parameters, 1 - average_decay(self.decay, num_before))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the network compute with the averages while the block runs."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            kept = local(parameter).clone()
            local(parameter).copy_(local(self.averages[name]))
            local(self.averages[name]).copy_(kept)
