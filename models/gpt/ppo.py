"""Proximal policy optimisation of a language model against a reward model, as an objective that makes its own data.

One step of the trainer is one round: answers to a batch of prompts are sampled and scored (`collect`), then several
epochs of updates follow on them (`updates`). Between rounds nothing is left but weights, moments, and what `state`
says, so a training that is killed goes on from the last round with the same bits.
"""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.conversation import CHOSEN, PADDING, PROMPT
from models.gpt import advantages as arithmetic
from models.gpt.generation import sample
from models.gpt.likelihoods import token_log_likelihoods
from models.gpt.network import blocks, hidden_states, num_matrix_parameters, quickened
from models.gpt.preferences import rewards
from models.gpt.schema import Ppo
from models.objective import Collapsed, Loss, Mismatch, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_TOKENS_TO_JUDGE = 64
"""With fewer sampled tokens, that most of them are alike says nothing."""


class Actor(nn.Module):
    """What is trained: the policy, and a critic on its last hidden states or with a trunk of its own."""

    def __init__(self, policy: "PreTrainedModel", critic: "PreTrainedModel | None") -> None:
        super().__init__()
        self.policy = policy
        self.critic = critic.float() if critic is not None else None  # a file may hold half precision
        self.value = None
        if critic is None:
            self.value = nn.Linear(policy.config.hidden_size, 1)
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)

    def train(self, mode: bool = True) -> "Actor":  # noqa: ARG002 - torch's signature
        """Stay without dropout, which would make the first ratio of a round differ from 1."""
        return super().train(False)

    def hidden_and_values(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's hidden states [samples, tokens, width] and values [samples, tokens]; padding is at the right."""
        hidden = hidden_states(self.policy, ids)
        if self.value is not None:
            return hidden, self.value(hidden).squeeze(-1).float()
        assert self.critic is not None  # noqa: S101 - one of the two is there
        head: Any = self.critic.score
        return hidden, head(hidden_states(self.critic, ids)).squeeze(-1).float()


def begin_actor(section: Ppo, policy: "PreTrainedModel", setting: Setting) -> Actor:
    """The policy with its critic; a separate one begins as the reward model (Ouyang et al. 2022, appendix C.4)."""
    from models.gpt.convert import load

    critic = quickened(load(setting.parents[section.reward])) if section.critic == "separate" else None
    if section.num_trained_layers is not None:
        policy.requires_grad_(False)
        for block in blocks(policy)[-section.num_trained_layers :]:
            block.requires_grad_(True)
        last_norm(policy).requires_grad_(True)
    if critic is not None:
        count_in_scores(critic, *spread_of(section, critic))
    return Actor(policy, critic)


def spread_of(section: Ppo, reward: "PreTrainedModel") -> tuple[float, float]:
    """Mean and deviation of held-out rewards, by which rewards become scores.

    Raises:
        Mismatch: the recipe wants that, but the reward model's configuration does not record them.
    """
    if not section.normalise_rewards:
        return 0.0, 1.0
    config = reward.config
    if not hasattr(config, "reward_mean") or not hasattr(config, "reward_deviation"):
        raise Mismatch(
            f"align.objective.normalise_rewards is true, but the configuration of the reward model '{section.reward}' "
            "has no reward_mean and reward_deviation, which a training with the objective 'reward' writes at its end. "
            "Train it with such a recipe, or set the key to false."
        )
    return float(config.reward_mean), max(float(config.reward_deviation), 1e-6)


def count_in_scores(critic: "PreTrainedModel", mean: float, deviation: float) -> None:
    """Let a reward model's head give (reward - mean) / deviation, the unit of the returns that a critic expects."""
    scaled: Any = critic
    head = nn.Linear(scaled.config.hidden_size, 1, dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(scaled.score.weight / deviation)
        head.bias.fill_(-mean / deviation)
    scaled.score = head


def last_norm(network: "PreTrainedModel") -> nn.Module:
    """The norm between the last block and the head."""
    base: Any = network.base_model
    norm: nn.Module = base.ln_f if hasattr(base, "ln_f") else base.final_layer_norm
    return norm


def _reference_of(policy: "PreTrainedModel") -> "PreTrainedModel":
    """The policy before training; modules that are not trained are the policy's own, so they take no memory twice."""
    kept = {
        id(module): module
        for module in policy.modules()
        if not any(parameter.requires_grad for parameter in module.parameters())
        and not isinstance(module, type(policy))
    }
    shared = {id(each): each for each in policy.parameters() if not each.requires_grad}
    return copy.deepcopy(policy, {**kept, **shared}).eval().requires_grad_(False)


class PpoRounds(nn.Module):
    """The objective: `collect` and `updates` make batches, `forward` is the loss of one."""

    item = "tokens"

    def __init__(self, section: Ppo, actor: Actor, reward: "PreTrainedModel", setting: Setting) -> None:
        super().__init__()
        self.section = section
        self.network = actor
        # No submodules: they are neither trained, saved nor wrapped.
        self.frozen = [_reference_of(actor.policy), reward.float().eval().requires_grad_(False)]
        self.mean, self.deviation = spread_of(section, reward)
        self.eos, self.num_ids = int(setting.facts["eos"]), int(setting.facts["vocab_size"])
        self.num_matrix_parameters = num_matrix_parameters(actor.policy)
        self.kl_coefficient = section.kl_coefficient
        self.found: dict[str, float] = {}
        """What the last round measured."""

    # ---- a round -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def collect(self, batch: dict[str, Tensor], part_samples: int) -> dict[str, Tensor]:
        """Answer and score a batch of prompts.

        Args:
            batch: `prompt_ids` and `prompt_parts`, padded at the left.
            part_samples: how many pass through a network at a time.

        Returns:
            Tensors of the same first size: `ids` and `parts` [samples, tokens], padded at the right, and on their
            targets, [samples, tokens - 1], `old` and `advantages`, `old_values`, `returns`.

        Raises:
            Collapsed: policy or reward model give what is no number, or the policy says one token only.
        """
        order = torch.randperm(len(batch["prompt_ids"]), device=batch["prompt_ids"].device)
        prompts = {key: value[order] for key, value in batch.items()}
        ids, parts = self._answers(prompts)
        found = self._judged(ids, parts, part_samples)
        mask = parts[:, 1:] == CHOSEN
        for key, what in (("old", "the policy"), ("reference", "the policy before training"), ("values", "the critic")):
            if not bool(found[key].isfinite().all()):
                raise Collapsed(
                    f"{what} gives {int((~found[key].isfinite()).sum())} of {int(mask.sum())} sampled tokens what is "
                    "no number. Lower align.optimizer.learning_rate; if it is so in the first round, the weights that "
                    "the training starts from are broken."
                )
        log_ratio = (found["old"] - found["reference"]) * mask
        scores, missing = self._scores(found["raw"], ids, parts)
        earned = arithmetic.token_rewards(scores, log_ratio, mask, self.kl_coefficient)
        gains, returns = arithmetic.advantages_and_returns(
            earned, found["values"], mask, self.section.discount, self.section.trace
        )
        self._measure(found, scores, missing, earned, returns, mask, ids)
        return {
            "ids": ids,
            "parts": parts,
            "old": found["old"],
            "old_values": found["values"],
            "advantages": arithmetic.whitened(gains, mask),
            "returns": returns,
        }

    def updates(self, experience: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Mini-batches of a round, epoch after epoch, each in another order but the first, which stays as collected."""
        count, size = len(experience["ids"]), self.section.mini_batch_samples
        for epoch in range(self.section.num_epochs):
            order = torch.randperm(count, device=experience["ids"].device) if epoch else torch.arange(count)
            for start in range(0, count, size):
                rows = order[start : start + size].to(experience["ids"].device)
                yield {key: value[rows] for key, value in experience.items()}

    def is_far(self, sums: dict[str, Tensor]) -> bool:
        """Whether the policy has moved further from the round's beginning than the recipe allows."""
        return self.section.kl_limit is not None and float(sums["policy_kl"]) > self.section.kl_limit

    def end_round(self) -> dict[str, float]:
        """Adapt the KL coefficient; what the round measured."""
        if self.section.kl_target is not None:
            self.kl_coefficient = arithmetic.adapted(
                self.kl_coefficient,
                self.found["kl_per_answer"],
                self.section.kl_target,
                int(self.found["num_answers"]),
                self.section.kl_horizon,
            )
        return {key: value for key, value in self.found.items() if key != "num_answers"}

    def state(self) -> dict[str, float]:
        """What of a round the next one depends on."""
        return {"kl_coefficient": self.kl_coefficient}

    def restore(self, state: dict[str, float]) -> None:
        """Take up `state`; an empty one is the beginning."""
        self.kl_coefficient = state.get("kl_coefficient", self.section.kl_coefficient)

    # ---- answers and their worth -------------------------------------------------------------------------------------

    def _answers(self, prompts: dict[str, Tensor], temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Ids and parts of prompts with sampled answers, padded at the right."""
        asked = prompts["prompt_parts"] == PROMPT
        answer = sample(
            self.network.policy,
            prompts["prompt_ids"],
            asked,
            self.section.max_answer_tokens,
            self.eos,
            self.num_ids,
            self.section.temperature if temperature is None else temperature,
        )
        # Up to and with the first end of text.
        is_answer = (answer == self.eos).cumsum(dim=1) - (answer == self.eos).long() == 0
        both = torch.cat([prompts["prompt_ids"], answer], dim=1)
        is_token = torch.cat([asked, is_answer], dim=1)
        kinds = torch.cat([torch.full_like(prompts["prompt_ids"], PROMPT), torch.full_like(answer, CHOSEN)], dim=1)
        # Padding goes to the right, where a causal network never looks back from: no mask, no wasted column.
        order = (~is_token).long().argsort(dim=1, stable=True)
        width = int(is_token.sum(dim=1).max())
        ids = both.gather(1, order)[:, :width]
        present = is_token.gather(1, order)[:, :width]
        return ids, torch.where(present, kinds.gather(1, order)[:, :width], PADDING)

    def _judged(self, ids: Tensor, parts: Tensor, part_samples: int) -> dict[str, Tensor]:
        """What policy, reference, critic and reward model say, without gradients."""
        device = ids.device
        self.frozen = [each.to(device) for each in self.frozen]
        reference, reward = self.frozen
        rows: dict[str, list[Tensor]] = {key: [] for key in ("old", "reference", "values", "raw")}
        for start in range(0, len(ids), part_samples):
            part = slice(start, start + part_samples)
            hidden, values = self.network.hidden_and_values(ids[part, :-1])
            rows["old"].append(self._log_likelihoods(self.network.policy, hidden, ids[part], parts[part])[0])
            rows["values"].append(values * (parts[part, 1:] == CHOSEN))
            before = hidden_states(reference, ids[part, :-1])
            rows["reference"].append(self._log_likelihoods(reference, before, ids[part], parts[part])[0])
            rows["raw"].append(rewards(reward, ids[part], parts[part]))
        return {key: torch.cat(each) for key, each in rows.items()}

    def _log_likelihoods(
        self, network: "PreTrainedModel", hidden: Tensor, ids: Tensor, parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood of each answer's token, [samples, tokens - 1], 0 elsewhere; and where answers are."""
        mask = parts[:, 1:] == CHOSEN
        rows, places = mask.nonzero(as_tuple=True)
        weight = network.get_output_embeddings().weight
        if len(weight) > self.num_ids:  # a slice of all would copy its whole gradient
            weight = weight[: self.num_ids]
        each = token_log_likelihoods(hidden[rows, places], weight, ids[:, 1:][rows, places], self.section.temperature)
        return each.new_zeros(mask.shape).index_put((rows, places), each), mask

    def _scores(self, raw: Tensor, ids: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards in units of their spread, clipped, less the penalty; and which answers do not end."""
        if not bool(raw.isfinite().all()):
            bad = int((~raw.isfinite()).sum())
            raise Collapsed(
                f"the reward model '{self.section.reward}' gives {bad} of {len(raw)} answers a reward that is no "
                "number. Its training went wrong, or its weights were cut: train it again, with a lower "
                "align.optimizer.learning_rate in its own recipe."
            )
        scores = ((raw - self.mean) / self.deviation).clamp(-self.section.reward_clip, self.section.reward_clip)
        ends = parts.shape[1] - 1 - (parts != PADDING).flip(1).long().argmax(dim=1)
        missing = ids.gather(1, ends.unsqueeze(1)).squeeze(1) != self.eos
        return scores - self.section.missing_end_penalty * missing, missing

    def _measure(
        self, found: dict[str, Tensor], scores: Tensor, missing: Tensor, earned: Tensor, returns: Tensor, mask: Tensor,
        ids: Tensor,
    ) -> None:  # fmt: skip
        """What a person looks at, of one round."""
        log_ratio = (found["old"] - found["reference"]) * mask
        lengths = mask.sum(dim=1)
        tokens = ids[:, 1:][mask]
        share = float(tokens.bincount().max()) / len(tokens)
        values, wanted = found["values"][mask], returns[mask]
        spread = float(wanted.var(correction=0))
        self.found = {
            "reward": float(found["raw"].mean()),
            "score": float(scores.mean()),
            "penalised_score": float(earned.sum(dim=1).mean()),
            "kl_per_answer": float(log_ratio.sum(dim=1).mean()),
            "kl_per_token": float(log_ratio.sum() / lengths.sum()),
            "kl_coefficient": self.kl_coefficient,
            # Of the sampled tokens, which are drawn from it: an estimate without bias.
            "entropy": -float(found["old"].sum() / lengths.sum()),
            "explained_variance": 1 - float((wanted - values).var(correction=0)) / spread if spread else 0.0,
            "answer_tokens": float(lengths.float().mean()),
            "end_rate": 1 - float(missing.float().mean()),
            "repetition": repetition(ids, mask),
            "commonest_token": share,
            "num_answers": float(len(ids)),
        }
        if share > self.section.max_token_share and len(tokens) >= MIN_TOKENS_TO_JUDGE:
            token = int(tokens.bincount().argmax())
            raise Collapsed(
                f"the policy has collapsed: {share:.0%} of {len(tokens)} sampled tokens are the id {token}, at most "
                f"{self.section.max_token_share:.0%} may be (align.objective.max_token_share). Raise "
                "align.objective.kl_coefficient, or lower align.optimizer.learning_rate; the reward model may pay for "
                "what nobody wants: look at previews.md."
            )

    # ---- the loss ----------------------------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a mini-batch of `updates`; of held-out prompts, minus the reward of what is answered now."""
        if "prompt_ids" in batch:
            return self._held_out(batch)
        hidden, values = self.network.hidden_and_values(batch["ids"][:, :-1])
        now, mask = self._log_likelihoods(self.network.policy, hidden, batch["ids"], batch["parts"])
        section, log_ratio = self.section, now - batch["old"]
        policy, clipped = arithmetic.policy_loss(log_ratio, batch["advantages"], mask, section.clip)
        value = arithmetic.value_loss(values, batch["old_values"], batch["returns"], mask, section.value_clip)
        # Schulman's estimator, never negative: http://joschu.net/blog/kl-approx.html
        moved = arithmetic.masked_mean(log_ratio.expm1() - log_ratio, mask)
        parts = {
            "policy_loss": policy,
            "value_loss": value,
            "clip_fraction": clipped,
            "policy_kl": moved,
            "ratio": arithmetic.masked_mean(log_ratio.exp(), mask),
        }
        return Loss(policy + section.value_weight * value, {key: each.detach() for key, each in parts.items()})

    @torch.no_grad()
    def _held_out(self, batch: dict[str, Tensor]) -> Loss:
        ids, parts = self._answers(batch, temperature=0)
        found = self._judged(ids, parts, len(ids))
        mask = parts[:, 1:] == CHOSEN
        log_ratio = ((found["old"] - found["reference"]) * mask).sum(dim=1)
        lengths = mask.sum(dim=1).float()
        parts_told = {
            "reward": found["raw"].mean(),
            # Along the likeliest answers, which are not drawn from the policy: no estimate of the divergence.
            "log_ratio_per_answer": log_ratio.mean(),
            "answer_tokens": lengths.mean(),
            "repetition": lengths.new_tensor(repetition(ids, mask)),
        }
        return Loss(-found["raw"].mean(), parts_told)

    def num_items(self, batch: dict[str, Any]) -> int:
        """Tokens of answers in a mini-batch; prompts of a held-out batch."""
        return len(batch["prompt_ids"]) if "prompt_ids" in batch else int((batch["parts"][:, 1:] == CHOSEN).sum())

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Model FLOPs of a mini-batch's forward and backward pass; sampling and scoring are not counted."""
        trunks = 2 if self.section.critic == "separate" else 1
        return 6 * self.num_matrix_parameters * trunks * int((batch["parts"] != PADDING).sum())

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002
        """Prompts."""
        return {"prompts": len(batch["prompt_ids"])}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002
        """Nothing that the parts do not tell."""
        return {}


def repetition(ids: Tensor, mask: Tensor, size: int = 3) -> float:
    """The share of an answer's runs of `size` tokens that it has said before, the mean over answers."""
    shares = []
    for row, kept in zip(ids[:, 1:].tolist(), mask.tolist(), strict=True):
        answer = [token for token, keep in zip(row, kept, strict=True) if keep]
        runs = list(zip(*(answer[place:] for place in range(size)), strict=False))
        if runs:
            shares.append(1 - len(set(runs)) / len(runs))
    return sum(shares) / len(shares) if shares else 0.0


def ppo_objective(section: Ppo, actor: Actor, setting: Setting) -> PpoRounds:
    """The objective of a recipe's section; the reward model is that of another recipe."""
    from models.gpt.convert import load

    return PpoRounds(section, actor, quickened(load(setting.parents[section.reward])), setting)
