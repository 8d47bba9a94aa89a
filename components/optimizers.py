"""AdamW and its learning rate, from a recipe's sections."""

import math
from typing import Any

import torch
from torch import nn


def learning_rate(training: Any, step: int) -> float:
    """The rate of optimiser step `step`, counted from 1: the peak at the end of warm-up, its share at the last step."""
    section, peak = training.learning_rate, training.optimizer.learning_rate
    if step <= section.warmup_steps:
        return peak * step / section.warmup_steps
    way = (step - section.warmup_steps) / max(1, training.num_steps - section.warmup_steps)
    share = {
        "cosine": 0.5 * (1 + math.cos(math.pi * way)),
        "linear": 1 - way,
        "constant": 1.0,
    }[section.kind]
    return peak * (share + section.final_share * (1 - share))


def make_optimizer(training: Any, network: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays matrices and embeddings, but no bias and no norm."""
    section = training.optimizer
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (section.beta1, section.beta2)
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon, fused=True)
