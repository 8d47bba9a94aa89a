"""Log-likelihoods of given tokens under a linear head, for objectives that weigh each token by itself."""

from typing import Any

import torch
from torch import Tensor

from models.products import linear

CHUNK_BYTES = 24 << 20
"""Logits that are computed at once, in fp32; glibc gives memory of 32 MiB and more back at once, and taking it again
costs as much as the arithmetic."""
GPU_CHUNK_BYTES = 256 << 20
KEPT_BYTES = 256 << 20
"""Probabilities that are kept for the backward pass, in fp32; those of more rows are computed again."""


class _LogLikelihoods(torch.autograd.Function):
    """Log-softmax of a linear head at one id a row.

    d log p(target) / d logits = (one-hot - softmax) / temperature. Matrix products are in the type of autocast, else of
    the head; what is summed is in fp32 or better.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Hidden states [rows, width], head [vocabulary, width], targets [rows] -> [rows], in fp32 or better."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        ctx.sum_dtype = torch.promote_types(weight.dtype, torch.float32)
        ctx.temperature = temperature
        row_bytes = 4 * weight.shape[0]
        ctx.num_rows = max(1, (GPU_CHUNK_BYTES if kind == "cuda" else CHUNK_BYTES) // row_bytes)
        inputs, matrix = hidden.to(dtype), weight.to(dtype)
        keeps = any(ctx.needs_input_grad) and len(targets) * row_bytes <= KEPT_BYTES
        found, ctx.kept = [], []
        for start in range(0, len(targets), ctx.num_rows):
            rows = slice(start, start + ctx.num_rows)
            log_shares = _log_shares(inputs[rows], matrix, temperature, ctx.sum_dtype)
            found.append(log_shares.gather(1, targets[rows].unsqueeze(1)).squeeze(1))
            if keeps:
                ctx.kept.append(log_shares.exp_())
        ctx.save_for_backward(inputs, matrix, targets)
        ctx.dtypes = hidden.dtype, weight.dtype
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=ctx.sum_dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The gradients of hidden states and head, as far as they are wanted."""
        inputs, matrix, targets = ctx.saved_tensors
        for_hidden = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        for_weight = torch.zeros_like(matrix, dtype=ctx.sum_dtype) if ctx.needs_input_grad[1] else None
        factors = gradients[0].to(ctx.sum_dtype) / ctx.temperature
        for number, start in enumerate(range(0, len(targets), ctx.num_rows)):
            rows = slice(start, start + ctx.num_rows)
            if ctx.kept:
                shares = ctx.kept[number]
            else:
                shares = _log_shares(inputs[rows], matrix, ctx.temperature, ctx.sum_dtype).exp_()
            gradient = shares * -factors[rows].unsqueeze(1)
            # In one dimension, where torch's deterministic way on a GPU waits for nothing.
            places = torch.arange(len(gradient), device=gradient.device) * gradient.shape[1] + targets[rows]
            gradient.view(-1).scatter_add_(0, places, factors[rows])
            gradient = gradient.to(matrix.dtype)
            if for_hidden is not None:
                for_hidden[rows] = linear(gradient, matrix.t())
            if for_weight is not None and for_weight.dtype == gradient.dtype:
                torch.addmm(for_weight, gradient.t(), inputs[rows], out=for_weight)
            elif for_weight is not None:
                for_weight += linear(gradient.t(), inputs[rows].t())
        dtypes = ctx.dtypes
        return (
            None if for_hidden is None else for_hidden.to(dtypes[0]),
            None if for_weight is None else for_weight.to(dtypes[1]),
            None,
            None,
        )


def _log_shares(inputs: Tensor, matrix: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    """Log-probabilities of all ids, [rows, vocabulary]."""
    logits = linear(inputs, matrix)
    return torch.log_softmax(logits if temperature == 1 else logits.to(dtype) / temperature, dim=1, dtype=dtype)


def token_log_likelihoods(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-likelihood of each target under a linear head, in nats; logits of a few rows live at a time.

    Args:
        hidden: [rows, width].
        weight: [vocabulary, width].
        targets: int64 [rows].
        temperature: logits are divided by it.

    Returns:
        [rows], in fp32 or better.
    """
    if not torch.is_grad_enabled():
        weight = weight.detach()  # an autograd function asks only its inputs whether a gradient is needed
    found: Tensor = _LogLikelihoods.apply(hidden, weight, targets, temperature)
    return found
