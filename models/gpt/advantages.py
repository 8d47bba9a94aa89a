"""The arithmetic of PPO on tokens: rewards with a KL penalty, advantages, clipped losses.

All tensors are [samples, tokens]; `mask` says which tokens are answers. Schulman et al. 2017, "Proximal policy
optimization algorithms"; Ziegler et al. 2019, "Fine-tuning language models from human preferences", for the penalty and
its coefficient; Schulman et al. 2016 for the advantages.
"""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over answers' tokens."""
    return (values * mask).sum() / mask.sum()


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over the answers' tokens (Bessel's correction); 0 elsewhere."""
    mean = masked_mean(values, mask)
    count = mask.sum()
    variance = masked_mean((values - mean).square(), mask) * count / (count - 1).clamp(min=1)
    return (values - mean) * (variance + 1e-8).rsqrt() * mask


def last_of(mask: Tensor) -> Tensor:
    """Where each answer's last token stands, int64 [samples]."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, places, 0).amax(dim=1)


def token_rewards(scores: Tensor, log_ratio: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """What each token earns: minus its share of the KL penalty, and at an answer's last token the score of the whole.

    Args:
        scores: [samples], of the reward model.
        log_ratio: log-likelihoods of the policy less those of the reference.
        mask: which tokens are answers.
        kl_coefficient: the penalty in units of the score per nat.
    """
    earned = -kl_coefficient * log_ratio * mask
    ends = last_of(mask).unsqueeze(1)
    return earned.scatter_add(1, ends, scores.unsqueeze(1).to(earned.dtype))


def advantages_and_returns(
    earned: Tensor, values: Tensor, mask: Tensor, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16), over answers' tokens only.

    Args:
        earned: of `token_rewards`.
        values: what the critic expects before each token is chosen.
        mask: which tokens are answers; those of a sample stand together.
        discount: gamma.
        trace: lambda.

    Returns:
        Advantages, and returns: advantages plus values; both 0 outside of answers.
    """
    values = values * mask
    running = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(running)
    found = torch.zeros_like(values)
    for place in reversed(range(values.shape[1])):
        is_answer = mask[:, place]
        delta = earned[:, place] + discount * following - values[:, place]
        running = torch.where(is_answer, delta + discount * trace * running, torch.zeros_like(running))
        following = torch.where(is_answer, values[:, place], torch.zeros_like(following))
        found[:, place] = running
    return found, (found + values) * mask


def policy_loss(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """The clipped surrogate (Schulman et al. 2017, equation 7), as a loss, and the share of tokens that it clips."""
    ratio = log_ratio.exp()
    free, bound = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.maximum(free, bound), mask), masked_mean((bound > free).float(), mask)


def value_loss(values: Tensor, before: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the critic, or of the critic held within `clip` of what it said before, if larger."""
    held = torch.minimum(torch.maximum(values, before - clip), before + clip)
    return 0.5 * masked_mean(torch.maximum((values - returns).square(), (held - returns).square()), mask)


def adapted(coefficient: float, kl: float, target: float, num_samples: int, horizon: int) -> float:
    """The next KL coefficient: Ziegler et al. 2019, section 2.2.

    Args:
        coefficient: the present one.
        kl: nats per answer, measured.
        target: nats per answer, wanted.
        num_samples: answers that it was measured on.
        horizon: answers over which a lasting error of 20 % multiplies the coefficient by 1.2.
    """
    error = max(-0.2, min(0.2, kl / target - 1))
    return coefficient * (1 + error * num_samples / horizon)
