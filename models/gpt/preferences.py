"""Objectives that learn from a better and a worse answer to the same prompt: a reward model, and DPO without one."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.conversation import PADDING, PROMPT
from models.gpt.likelihoods import token_log_likelihoods
from models.gpt.network import hidden_states, num_matrix_parameters, quickened
from models.gpt.schema import Dpo, Reward
from models.objective import Loss, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def last_places(parts: Tensor) -> Tensor:
    """Where each sequence ends: parts [samples, tokens], padded at the right -> int64 [samples]."""
    places = torch.arange(parts.shape[1], device=parts.device)
    return torch.where(parts != PADDING, places, 0).amax(dim=1)


def rewards(network: "PreTrainedModel", ids: Tensor, parts: Tensor, positions: Tensor | None = None) -> Tensor:
    """The scalar of each sequence, read at its last token, as AutoModelForSequenceClassification reads it.

    Args:
        network: with one label; its head `score` is linear and without a bias.
        ids: int64 [samples, tokens], padded at the right.
        parts: the same shape, see `models.conversation`.
        positions: the same shape; None counts from 0.

    Returns:
        [samples], in fp32 or better.
    """
    hidden = hidden_states(network, ids, positions)
    chosen = hidden[torch.arange(len(ids), device=ids.device), last_places(parts)]
    head: Any = network.score
    return head(chosen).squeeze(-1).float()


def answer_log_likelihoods(network: "PreTrainedModel", ids: Tensor, parts: Tensor) -> Tensor:
    """Log-likelihood of each answer given its prompt, summed over its tokens, in nats.

    Args:
        network: a causal language model.
        ids: int64 [samples, tokens], padded at the right.
        parts: the same shape, see `models.conversation`.

    Returns:
        [samples].
    """
    hidden = hidden_states(network, ids[:, :-1])
    wanted = (parts[:, 1:] != PROMPT) & (parts[:, 1:] != PADDING)
    rows, places = wanted.nonzero(as_tuple=True)
    weight = network.get_output_embeddings().weight
    each = token_log_likelihoods(hidden[rows, places], weight, ids[:, 1:][rows, places])
    return each.new_zeros(len(ids)).index_add(0, rows, each)


def both(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Ids and parts of the better answers, then of the worse ones: [2 * samples, tokens] both."""
    width = max(batch["chosen_ids"].shape[1], batch["rejected_ids"].shape[1])

    def stacked(kind: str, fill: int) -> Tensor:
        rows = [batch[f"{name}_{kind}"] for name in ("chosen", "rejected")]
        return torch.cat([nn.functional.pad(row, (0, width - row.shape[1]), value=fill) for row in rows])

    return stacked("ids", 0), stacked("parts", PADDING)


class _Pairs(nn.Module):
    """What both objectives count."""

    item = "pairs"

    def __init__(self, network: "PreTrainedModel") -> None:
        super().__init__()
        self.network = network
        self.num_matrix_parameters = num_matrix_parameters(network)

    def num_items(self, batch: dict[str, Any]) -> int:
        """Pairs."""
        return len(batch["chosen_ids"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Model FLOPs of forward and backward pass, counted as `NextTokenLoss` does, padding left out."""
        parts = [batch["chosen_parts"], batch["rejected_parts"]]
        return 6 * self.num_matrix_parameters * sum(int((each != PADDING).sum()) for each in parts)

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002
        """Pairs."""
        return {"pairs": self.num_items(batch)}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002
        """Nothing that the loss alone tells."""
        return {}


def _told(better: Tensor, worse: Tensor) -> dict[str, Tensor]:
    margin = (better - worse).detach()
    return {"accuracy": (margin > 0).float().mean() + 0.5 * (margin == 0).float().mean(), "margin": margin.mean()}


class RewardLoss(_Pairs):
    """Pairwise logistic loss: the mean of -log sigmoid(reward of the better answer - reward of the worse one), in nats.

    Ouyang et al. 2022, "Training language models to follow instructions with human feedback", equation 1, with one
    pair per prompt. Rewards are free up to a constant; `centre` keeps their sum near 0 (Eisenstein et al. 2023,
    "Helping or Herding?", equation 2).
    """

    def __init__(self, network: "PreTrainedModel", centre: float) -> None:
        super().__init__(network)
        self.centre = centre

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """See `components.modalities.text.packing.Packs.batch` for preferences -> loss, accuracy, margin."""
        better, worse = rewards(self.network, *both(batch)).chunk(2)
        loss = -nn.functional.logsigmoid(better - worse).mean()
        if self.centre:
            loss = loss + self.centre * (better + worse).square().mean()
        return Loss(loss, _told(better, worse))


class DpoLoss(_Pairs):
    """Direct preference optimisation: Rafailov et al. 2023, equation 7, in nats; the reference is the start, frozen."""

    def __init__(self, network: "PreTrainedModel", reference: "PreTrainedModel", beta: float, smoothing: float) -> None:
        super().__init__(network)
        self.beta, self.smoothing = beta, smoothing
        # No submodule: it is neither trained, saved nor wrapped. In single precision as the policy, whatever its file
        # has, or the two would differ before the first step.
        self.frozen = [reference.float().eval().requires_grad_(False)]

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """See `components.modalities.text.packing.Packs.batch` for preferences -> loss, accuracy, margin."""
        ids, parts = both(batch)
        better, worse = answer_log_likelihoods(self.network, ids, parts).chunk(2)
        with torch.no_grad():
            self.frozen[0] = self.frozen[0].to(ids.device)
            before = answer_log_likelihoods(self.frozen[0], ids, parts).chunk(2)
        return self.of_log_likelihoods(better, worse, *before)

    def of_log_likelihoods(self, better: Tensor, worse: Tensor, better_before: Tensor, worse_before: Tensor) -> Loss:
        """The loss of answers' log-likelihoods [samples] under the network and, before training, the reference."""
        gains = self.beta * (better - better_before), self.beta * (worse - worse_before)
        margin = gains[0] - gains[1]
        right, wrong = nn.functional.logsigmoid(margin), nn.functional.logsigmoid(-margin)
        loss = -(1 - self.smoothing) * right.mean() - self.smoothing * wrong.mean()
        return Loss(loss, {**_told(*gains), "chosen_gain": gains[0].detach().mean()})


@torch.no_grad()
def record_spread(network: "PreTrainedModel", batches: Iterable[dict[str, Tensor]]) -> None:
    """Write the mean and deviation of held-out rewards into the network's configuration, by which PPO scales them."""
    found = torch.cat([rewards(network, *both(batch)) for batch in batches]).double()
    config: Any = network.config
    config.reward_mean, config.reward_deviation = float(found.mean()), float(found.std(correction=0))


def reward_objective(section: Reward, network: "PreTrainedModel") -> RewardLoss:
    """The objective of a recipe's section."""
    return RewardLoss(network, section.centre)


def dpo_objective(section: Dpo, network: "PreTrainedModel", setting: Setting) -> DpoLoss:
    """The objective of a recipe's section; the reference is read from where the training starts."""
    from models.gpt.convert import load

    assert setting.start is not None  # noqa: S101 - a recipe with 'align' has 'starts_from'
    return DpoLoss(network, quickened(load(setting.start)), section.beta, section.label_smoothing)
