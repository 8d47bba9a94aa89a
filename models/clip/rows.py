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
SHORTEST = 1e-12
"""As torch's `normalize` has it."""


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


class _Contrast(torch.autograd.Function):
    """ln sum_j exp(l_ij) less the logit of the positive, where l_ij = scale <a_i, b_j>; j over all, or all others."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, first: int, leaves_out: bool) -> Tensor:
        found, sums = anchors.new_empty(anchors.shape[0]), anchors.new_empty(anchors.shape[0])
        for block in row_blocks(anchors, candidates):
            logits = linear(anchors[block], candidates).mul_(scale)
            places = _places(block, first, logits.device)
            right = logits[places]
            if leaves_out:
                logits[places] = -torch.inf
            sums[block] = logits.logsumexp(1)
            found[block] = sums[block] - right
        ctx.save_for_backward(anchors, candidates, scale, sums)
        ctx.first, ctx.leaves_out = first, leaves_out
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, scale, sums = ctx.saved_tensors
        for_anchors, for_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        for block in row_blocks(anchors, candidates):
            shares = linear(anchors[block], candidates).mul_(scale).sub_(sums[block, None]).exp_()
            places = _places(block, ctx.first, shares.device)
            shares[places] = -1.0 if ctx.leaves_out else shares[places] - 1.0
            shares.mul_(gradients[0][block, None])
            torch.mm(shares, candidates, out=for_anchors[block])
            for_candidates.addmm_(shares.t(), anchors[block])
        return *_scaled(for_anchors, for_candidates, anchors, scale, ctx.needs_input_grad[2]), None, None


class _Sigmoids(torch.autograd.Function):
    """sum_j softplus(l_ij) less the logit of the positive, for logits l_ij = scale <a_i, b_j> + bias."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, bias: Tensor, first: int) -> Tensor:
        found = anchors.new_empty(anchors.shape[0])
        for block in row_blocks(anchors, candidates):
            logits = linear(anchors[block], candidates).mul_(scale).add_(bias)
            right = logits[_places(block, first, logits.device)]
            found[block] = torch.nn.functional.softplus(logits).sum(1) - right
        ctx.save_for_backward(anchors, candidates, scale, bias)
        ctx.first = first
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, scale, bias = ctx.saved_tensors
        for_anchors, for_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        for_bias = torch.zeros_like(bias)
        for block in row_blocks(anchors, candidates):
            shares = linear(anchors[block], candidates).mul_(scale).add_(bias).sigmoid_()
            places = _places(block, ctx.first, shares.device)
            shares[places] = shares[places] - 1.0
            shares.mul_(gradients[0][block, None])
            torch.mm(shares, candidates, out=for_anchors[block])
            for_candidates.addmm_(shares.t(), anchors[block])
            for_bias += shares.sum()
        return *_scaled(for_anchors, for_candidates, anchors, scale, ctx.needs_input_grad[2]), for_bias, None


def _scaled(
    for_anchors: Tensor, for_candidates: Tensor, anchors: Tensor, scale: Tensor, wants_scale: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of anchors, candidates and scale, from sums over logits that have no scale yet."""
    for_scale = torch.dot(for_anchors.flatten(), anchors.flatten()) if wants_scale else None
    return for_anchors.mul_(scale), for_candidates.mul_(scale), for_scale


class _Retrieved(torch.autograd.Function):
    """h_i, the direction of sum_k softmax_k(scale <r_k, s_i>) r_k: attention whose keys are its values, normalised."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, stored: Tensor, scale: float) -> Tensor:
        found, sums = torch.empty_like(states), states.new_empty(states.shape[0])
        for block in row_blocks(states, stored):
            logits = linear(states[block], stored).mul_(scale)
            sums[block] = logits.logsumexp(1)
            torch.mm(logits.sub_(sums[block, None]).exp_(), stored, out=found[block])
        lengths = torch.linalg.vector_norm(found, dim=1).clamp_(min=SHORTEST)
        found.div_(lengths[:, None])
        ctx.save_for_backward(states, stored, found, sums, lengths)
        ctx.scale = scale
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, stored, found, sums, lengths = ctx.saved_tensors
        for_states, for_stored = torch.zeros_like(states), torch.zeros_like(stored)
        for block in row_blocks(states, stored):
            wanted, direction = gradients[0][block], found[block]
            wanted = (wanted - direction * (wanted * direction).sum(1, keepdim=True)) / lengths[block, None]
            # The softmax's own term (Dao et al. 2022, FlashAttention, appendix B.2); it is the rounding of what is
            # zero, as `wanted` is at right angles to the direction, and makes that of the next lines smaller.
            means = (wanted * direction).sum(1).mul_(lengths[block])
            shares = linear(states[block], stored).mul_(ctx.scale).sub_(sums[block, None]).exp_()
            for_stored.addmm_(shares.t(), wanted)
            shares.mul_(linear(wanted, stored).sub_(means[:, None])).mul_(ctx.scale)
            torch.mm(shares, stored, out=for_states[block])
            for_stored.addmm_(shares.t(), states[block])
        return for_states, for_stored, None


def _as_tensor(value: Tensor | float, like: Tensor) -> Tensor:
    return value.to(like.dtype) if isinstance(value, Tensor) else like.new_tensor(value)


def contrasts(
    anchors: Tensor, candidates: Tensor, scale: Tensor | float, first: int = 0, leaves_out: bool = False
) -> Tensor:
    """The logarithm of the sum of each row's exponentials, less the logit of its positive.

    Args:
        anchors: [rows, width].
        candidates: [columns, width].
        scale: of the products.
        first: the column of the first row's positive; the next row's is the next one.
        leaves_out: leave each row's positive out of its sum; then there must be two columns or more.

    Returns:
        [rows].
    """
    found: Tensor = _Contrast.apply(anchors, candidates, _as_tensor(scale, anchors), first, leaves_out)
    return found


def sigmoid_contrasts(
    anchors: Tensor, candidates: Tensor, scale: Tensor | float, bias: Tensor | float, first: int = 0
) -> Tensor:
    """The sum of each row's softplus(scale x product + bias), less the logit of its positive; see `contrasts`."""
    values = _as_tensor(scale, anchors), _as_tensor(bias, anchors)
    found: Tensor = _Sigmoids.apply(anchors, candidates, *values, first)
    return found


def retrieved(states: Tensor, stored: Tensor, scale: float) -> Tensor:
    """The mean of stored patterns [columns, width] as each state [rows, width] weighs them by softmax, of length 1."""
    found: Tensor = _Retrieved.apply(states, stored, scale)
    return found
