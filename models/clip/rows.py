"""Sums over the rows of a matrix of logits that is never there as a whole.

A row is a sample, its columns all samples of a batch. Blocks of rows are computed, summed up and forgotten, and
computed again in the backward pass; so memory grows with the batch, not with its square. Inputs are in fp32 or better,
and no autocast is on.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from models.products import linear

BLOCK_BYTES = 24 << 20
"""Logits that are computed at once; glibc gives memory of 32 MiB and more back at once, and taking it again costs as
much as the arithmetic."""
GPU_BLOCK_BYTES = 256 << 20


def row_blocks(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    """Blocks of rows, each as large as the bytes allow, at least one row."""
    allowed = GPU_BLOCK_BYTES if rows.device.type == "cuda" else BLOCK_BYTES
    size = max(1, allowed // (columns.shape[0] * rows.element_size()))
    for start in range(0, rows.shape[0], size):
        yield slice(start, min(start + size, rows.shape[0]))


def _places(block: slice, first: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of the positive of each row in a block."""
    rows = torch.arange(block.stop - block.start, device=device)
    return rows, rows + block.start + first


class _LogSumExp(torch.autograd.Function):
    """ln sum_j exp(scale <a_i, b_j>), over all j or over all but the positive."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, first: int, leaves_out: bool) -> Tensor:
        found = anchors.new_empty(anchors.shape[0])
        for block in row_blocks(anchors, candidates):
            logits = linear(anchors[block], candidates).mul_(scale)
            if leaves_out:
                logits[_places(block, first, logits.device)] = -torch.inf
            found[block] = logits.logsumexp(1)
        ctx.save_for_backward(anchors, candidates, scale, found)
        ctx.first, ctx.leaves_out = first, leaves_out
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, scale, sums = ctx.saved_tensors
        for_anchors, for_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        for block in row_blocks(anchors, candidates):
            shares = linear(anchors[block], candidates).mul_(scale).sub_(sums[block, None]).exp_()
            if ctx.leaves_out:
                shares[_places(block, ctx.first, shares.device)] = 0.0
            shares.mul_(gradients[0][block, None])
            torch.mm(shares, candidates, out=for_anchors[block])
            for_candidates.addmm_(shares.t(), anchors[block])
        # d logits / d scale is the product without the scale.
        for_scale = (for_anchors * anchors).sum() if ctx.needs_input_grad[2] else None
        return for_anchors.mul_(scale), for_candidates.mul_(scale), for_scale, None, None


class _SoftplusSum(torch.autograd.Function):
    """sum_j ln(1 + exp(scale <a_i, b_j> + bias))."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        found = anchors.new_empty(anchors.shape[0])
        for block in row_blocks(anchors, candidates):
            found[block] = torch.nn.functional.softplus(linear(anchors[block], candidates).mul_(scale).add_(bias)).sum(
                1
            )
        ctx.save_for_backward(anchors, candidates, scale, bias)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, scale, bias = ctx.saved_tensors
        for_anchors, for_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        for_bias = torch.zeros_like(bias)
        for block in row_blocks(anchors, candidates):
            shares = (
                linear(anchors[block], candidates).mul_(scale).add_(bias).sigmoid_().mul_(gradients[0][block, None])
            )
            torch.mm(shares, candidates, out=for_anchors[block])
            for_candidates.addmm_(shares.t(), anchors[block])
            for_bias += shares.sum()
        for_scale = (for_anchors * anchors).sum() if ctx.needs_input_grad[2] else None
        return for_anchors.mul_(scale), for_candidates.mul_(scale), for_scale, for_bias


class _Retrieved(torch.autograd.Function):
    """sum_k softmax_k(scale <r_k, s_i>) r_k: attention whose keys are its values."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, stored: Tensor, scale: float) -> Tensor:
        found, sums = torch.empty_like(states), states.new_empty(states.shape[0])
        for block in row_blocks(states, stored):
            logits = linear(states[block], stored).mul_(scale)
            sums[block] = logits.logsumexp(1)
            torch.mm(logits.sub_(sums[block, None]).exp_(), stored, out=found[block])
        ctx.save_for_backward(states, stored, found, sums)
        ctx.scale = scale
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, stored, found, sums = ctx.saved_tensors
        wanted = gradients[0]
        for_states, for_stored = torch.zeros_like(states), torch.zeros_like(stored)
        # The softmax's own term: what each row weighs on average (Dao et al. 2022, FlashAttention, appendix B.2).
        means = (wanted * found).sum(1)
        for block in row_blocks(states, stored):
            shares = linear(states[block], stored).mul_(ctx.scale).sub_(sums[block, None]).exp_()
            for_stored.addmm_(shares.t(), wanted[block])
            shares.mul_(linear(wanted[block], stored).sub_(means[block, None])).mul_(ctx.scale)
            torch.mm(shares, stored, out=for_states[block])
            for_stored.addmm_(shares.t(), states[block])
        return for_states, for_stored, None


def _as_tensor(value: Tensor | float, like: Tensor) -> Tensor:
    return value.to(like.dtype) if isinstance(value, Tensor) else like.new_tensor(value)


def log_sums(
    anchors: Tensor, candidates: Tensor, scale: Tensor | float, first: int = 0, leaves_out: bool = False
) -> Tensor:
    """The logarithm of the sum of each row's exponentials.

    Args:
        anchors: [rows, width].
        candidates: [columns, width].
        scale: of the products.
        first: the column of the first row's positive; the next row's is the next one.
        leaves_out: leave each row's positive out of its sum; then there must be two columns or more.

    Returns:
        [rows].
    """
    found: Tensor = _LogSumExp.apply(anchors, candidates, _as_tensor(scale, anchors), first, leaves_out)
    return found


def softplus_sums(anchors: Tensor, candidates: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """The sum of each row's ln(1 + exp(scale x product + bias)); shapes as in `log_sums`."""
    values = _as_tensor(scale, anchors), _as_tensor(bias, anchors)
    found: Tensor = _SoftplusSum.apply(anchors, candidates, *values)
    return found


def retrieved(states: Tensor, stored: Tensor, scale: float) -> Tensor:
    """What each state [rows, width] retrieves from stored patterns [columns, width]: their mean, weighed by softmax."""
    found: Tensor = _Retrieved.apply(states, stored, scale)
    return found
