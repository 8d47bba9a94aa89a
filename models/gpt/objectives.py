"""Objectives of causal language models."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.gpt.schema import NextToken
from models.objective import Loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_BYTES = 64 << 20
"""Logits that are held at once, in fp32; two or three tensors of this size live at a time."""


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of a linear head, a few rows of logits at a time.

    The gradient is taken in the forward pass: d loss / d logits = (softmax - one-hot) / rows, so logits of a whole
    batch never exist and none are computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Hidden states [rows, width], head [vocabulary, width] and targets [rows] -> a scalar in fp32 or better."""
        needs_gradient = any(ctx.needs_input_grad)
        num_rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        scale = 1.0 / len(targets)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        hidden_gradient, weight_gradient = torch.empty_like(hidden), torch.zeros_like(weight)
        for start in range(0, len(targets), num_rows):
            rows = slice(start, start + num_rows)
            logits = torch.nn.functional.linear(hidden[rows], weight)
            if logits.dtype in (torch.bfloat16, torch.float16):
                logits = logits.float()
            chosen = targets[rows].unsqueeze(1)
            log_normaliser = torch.logsumexp(logits, dim=1, keepdim=True)
            total += (log_normaliser - logits.gather(1, chosen)).sum(dtype=torch.float64)
            if needs_gradient:
                logits.sub_(log_normaliser).exp_()
                logits.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=logits.dtype))
                logits.mul_(scale)
                hidden_gradient[rows] = torch.nn.functional.linear(logits, weight.t())
                weight_gradient += torch.nn.functional.linear(logits.t(), hidden[rows].t())
        if needs_gradient:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        return (total * scale).to(torch.promote_types(hidden.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale what `forward` has computed."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * gradients[0], weight_gradient * gradients[0], None


class NextTokenLoss:
    """Cross-entropy of each token given those before it, in nats; the mean over all positions of a batch.

    Documents that share a window see each other, as in GPT-NeoX's own packing.
    """

    item = "tokens"

    def __init__(self, network: "PreTrainedModel") -> None:
        self.network = network

    def __call__(self, batch: dict[str, Tensor]) -> Loss:
        """`input_ids` [samples, window_tokens + 1] -> loss."""
        ids = batch["input_ids"]
        hidden = self.network.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        weight = self.network.get_output_embeddings().weight
        targets = ids[:, 1:].reshape(-1)
        return Loss(ChunkedCrossEntropy.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets))

    def num_items(self, batch: dict[str, Any]) -> int:
        """Tokens that are predicted."""
        return int(batch["input_ids"][:, 1:].numel())

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:
        """Tokens that are predicted, and the characters and bytes of UTF-8 that they spell.

        Ends of texts are tokens and spell nothing. A character whose bytes are cut by a window's edge counts as one.
        """
        targets = batch["input_ids"][:, 1:]
        eos = encoder.facts["eos"]
        texts = [encoder.decode([token for token in row if token != eos]) for row in targets.tolist()]
        return {
            "tokens": int(targets.numel()),
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


def objective(section: NextToken, network: "PreTrainedModel") -> NextTokenLoss:
    """The objective that a recipe's section names."""
    return {"next-token": NextTokenLoss}[section.kind](network)
