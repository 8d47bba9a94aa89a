"""Objectives of causal language models."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.conversation import CHOSEN, PADDING
from models.gpt.network import hidden_states, num_matrix_parameters
from models.gpt.ppo import ppo_objective
from models.gpt.preferences import dpo_objective, record_spread, reward_objective
from models.gpt.schema import Dpo, Ppo, Reward, Sft
from models.objective import Batches, Loss, Objective, Setting
from models.products import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_BYTES = 24 << 20
"""Logits that are held at once, in fp32; two or three tensors of this size live at a time. glibc gives memory of 32 MiB
and more back at once, and taking it again costs as much as the arithmetic."""
GPU_CHUNK_BYTES = 512 << 20
"""The same on a GPU. Each chunk adds to the gradient of the whole head, 12 bytes of memory traffic a parameter; with
65,536 ids and 64 MiB, an H100 (3.35 TB/s, 990 TFLOP/s in bf16) would take longer for it than for the products."""


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of a linear head, a few rows of logits at a time.

    The gradient is taken in the forward pass: d loss / d logits = (softmax - one-hot) / rows, so logits of a whole
    batch never exist and none are computed twice; the division is left to what has no column per id. Matrix products
    are in the type of autocast, else of the head; what is summed over chunks is in fp32 or better.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Hidden states [rows, width], head [vocabulary, width] and targets [rows] -> a scalar in fp32 or better."""
        needs_gradient = any(ctx.needs_input_grad)
        kind = hidden.device.type
        num_rows = max(1, (GPU_CHUNK_BYTES if kind == "cuda" else CHUNK_BYTES) // (4 * weight.shape[0]))
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        sum_dtype = torch.promote_types(weight.dtype, torch.float32)
        # Autocast would convert the whole head anew for every chunk.
        inputs, matrix = hidden.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        if needs_gradient:
            hidden_gradient, weight_gradient = torch.empty_like(hidden), torch.zeros_like(weight, dtype=sum_dtype)
        for start in range(0, len(targets), num_rows):
            rows = slice(start, start + num_rows)
            logits = linear(inputs[rows], matrix)
            chosen = targets[rows].unsqueeze(1)
            log_shares = torch.log_softmax(logits, dim=1, dtype=sum_dtype)
            del logits
            total -= log_shares.gather(1, chosen).sum(dtype=torch.float64)
            if needs_gradient:
                shares = log_shares.exp_()
                # In one dimension, where torch's deterministic way on a GPU waits for nothing.
                places = torch.arange(len(shares), device=shares.device) * shares.shape[1] + targets[rows]
                shares.view(-1).scatter_add_(0, places, shares.new_full((), -1.0).expand(len(places)))
                gradient = shares.to(dtype)
                hidden_gradient[rows] = linear(gradient, matrix.t())
                if dtype == sum_dtype:
                    torch.addmm(weight_gradient, gradient.t(), inputs[rows], out=weight_gradient)
                else:
                    weight_gradient += linear(gradient.t(), inputs[rows].t())
        if needs_gradient:
            ctx.num_targets = len(targets)
            ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        return (total / len(targets)).to(torch.promote_types(hidden.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale what `forward` has computed."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        factor = gradients[0] / ctx.num_targets
        return hidden_gradient * factor, weight_gradient * factor, None


class NextTokenLoss(nn.Module):
    """Cross-entropy of each token given those before it, in nats; the mean over all positions of a batch.

    Documents that share a window see each other, as in GPT-NeoX's own packing, unless a batch has `position_ids`. Then
    a token is predicted from its own document alone: the end-of-text token stands at position 0 of the document that
    it opens, so the prediction of a first token, from it, sees nothing of the document before and is trained too.
    """

    item = "tokens"

    def __init__(self, network: "PreTrainedModel") -> None:
        super().__init__()
        self.network = network
        self.num_matrix_parameters = num_matrix_parameters(network)

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """`input_ids`, and `position_ids` or not, both int64 [samples, window_tokens + 1] -> loss."""
        ids, positions = batch["input_ids"], batch.get("position_ids")
        hidden = hidden_states(self.network, ids[:, :-1], None if positions is None else positions[:, :-1])
        weight = self.network.get_output_embeddings().weight
        if not torch.is_grad_enabled():
            weight = weight.detach()  # an autograd function asks only its inputs whether a gradient is needed
        targets, wanted = ids[:, 1:].reshape(-1), self.wanted(batch)
        hidden = hidden.reshape(-1, hidden.shape[-1])
        if wanted is not None:
            places = wanted.flatten().nonzero().flatten()
            hidden, targets = hidden[places], targets[places]
        return Loss(ChunkedCrossEntropy.apply(hidden, weight, targets))

    def wanted(self, batch: dict[str, Tensor]) -> Tensor | None:  # noqa: ARG002
        """Which targets count: truth values [samples, window_tokens]; None for all."""
        return None

    def num_items(self, batch: dict[str, Any]) -> int:
        """Tokens that are predicted."""
        wanted = self.wanted(batch)
        return int(batch["input_ids"][:, 1:].numel() if wanted is None else wanted.sum())

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Model FLOPs of forward and backward pass (Chowdhery et al. 2022, "PaLM", appendix B).

        For each token, 6 for every parameter of a matrix, the head's among them, and 12 * layers * hidden_size * window
        for the scores and sums of attention. That is attention's full square, as PaLM counts it, although half of it
        is masked, and although isolated documents attend to less.
        """
        config, window_tokens = self.network.config, batch["input_ids"].shape[1] - 1
        attention = 12 * config.num_hidden_layers * config.hidden_size * window_tokens
        head = self.network.get_output_embeddings().weight.numel()
        num_tokens = batch["input_ids"][:, 1:].numel()
        blocks = num_tokens * (6 * (self.num_matrix_parameters - head) + attention)
        return int(blocks + self.num_items(batch) * 6 * head)

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:
        """Tokens that are predicted, and the characters and bytes of UTF-8 that they spell.

        Ends of texts are tokens and spell nothing. A character whose bytes are cut by a window's edge counts as one.
        """
        targets, wanted = batch["input_ids"][:, 1:], self.wanted(batch)
        eos = encoder.facts["eos"]
        rows = (
            targets.tolist()
            if wanted is None
            else [row[keep].tolist() for row, keep in zip(targets, wanted, strict=True)]
        )
        texts = [encoder.decode([token for token in row if token != eos]) for row in rows]
        return {
            "tokens": self.num_items(batch),
            "characters": sum(len(text) for text in texts),
            "bytes": sum(len(text.encode()) for text in texts),
        }

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:
        """Perplexity per token, and bits per character and byte, which do not depend on the tokenizer."""
        bits = loss / math.log(2) * units["tokens"]
        return {
            "perplexity": math.exp(min(loss, 100.0)),
            "bits_per_character": bits / max(1, units["characters"]),
            "bits_per_byte": bits / max(1, units["bytes"]),
        }


class AnswerLoss(NextTokenLoss):
    """Cross-entropy of the answers' tokens, each given its prompt and what came before, in nats.

    A batch has `parts` (`models.conversation`) beside `input_ids` and `position_ids`, of the same shape. Only the rows
    of the head that are wanted are computed.
    """

    def __init__(self, network: "PreTrainedModel", train_on_prompt: bool) -> None:
        super().__init__(network)
        self.train_on_prompt = train_on_prompt

    def wanted(self, batch: dict[str, Tensor]) -> Tensor:
        """Targets that are answers; of prompts too, if asked for, all but the first token, which nothing predicts."""
        parts = batch["parts"][:, 1:]
        if not self.train_on_prompt:
            return parts == CHOSEN
        return (parts != PADDING) & (batch["position_ids"][:, 1:] > 0)


def finish(section: Any, network: Any, batches: Batches) -> None:
    """What a finished training still finds out about its network, on held-out batches."""
    if isinstance(section, Reward):
        record_spread(network.eval(), batches("valid"))


def objective(section: Any, network: Any, setting: Setting) -> Objective:
    """The objective that a recipe's section names."""
    if isinstance(section, Reward):
        return reward_objective(section, network)
    if isinstance(section, Ppo):
        return ppo_objective(section, network, setting)
    if isinstance(section, Dpo):
        return dpo_objective(section, network, setting)
    if isinstance(section, Sft):
        return AnswerLoss(network, section.train_on_prompt)
    return NextTokenLoss(network)
