"""Contrasts of pairs: CLIP, CLOOB and SigLIP, over all ranks, without a matrix of all pairs.

Every function takes the rows of this rank and the columns of all ranks, where row i is of the same pair as column
`first` + i, and gives the mean over its rows. So the mean over ranks is the loss of the whole batch, and so is its
gradient, if columns were gathered with gradient (`gathered`). Features are of length 1, [pairs, width].
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.clip.rows import contrasts, retrieved, sigmoid_contrasts


class Pairs(NamedTuple):
    """Features of length 1 of one kind, those of this rank and those of all."""

    own: Tensor
    """[own pairs, width]."""
    all: Tensor
    """[pairs, width]."""


class _Gathered(torch.autograd.Function):
    """The tensors of all ranks, one after another; the gradient of each is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.num_rows = own.shape[0]
        found = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(found, own.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        first = ctx.num_rows * torch.distributed.get_rank()
        return total[first : first + ctx.num_rows]


def is_shared() -> bool:
    """Whether several ranks have a share of each batch."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return there and torch.distributed.get_world_size() > 1


def gathered(own: Tensor) -> tuple[Pairs, int]:
    """Features of this rank [own pairs, width], with those of all; and the column of the first own one.

    Every rank must have as many.
    """
    if not is_shared():
        return Pairs(own, own), 0
    everyone: Tensor = _Gathered.apply(own)
    return Pairs(own, everyone), own.shape[0] * torch.distributed.get_rank()


def info_nce(anchors: Tensor, candidates: Tensor, scale: Tensor | float, first: int = 0) -> Tensor:
    """Cross-entropy of the right column of each row (van den Oord et al. 2018, equation 4), the mean over rows."""
    return contrasts(anchors, candidates, scale, first).mean()


def info_loob(anchors: Tensor, candidates: Tensor, scale: Tensor | float, first: int = 0) -> Tensor:
    """InfoLOOB (Fürst et al. 2022, CLOOB, equation 4): no positive in the denominator; the mean over rows.

    As in both public codes the logarithm is of the sum, not of the mean, over the others. Negative values are normal.
    """
    return contrasts(anchors, candidates, scale, first, leaves_out=True).mean()


def clip_loss(images: Pairs, texts: Pairs, scale: Tensor | float, first: int = 0) -> Tensor:
    """The mean of image -> text and text -> image (Radford et al. 2021, CLIP, figure 3)."""
    return (info_nce(images.own, texts.all, scale, first) + info_nce(texts.own, images.all, scale, first)) / 2


def loob_loss(images: Pairs, texts: Pairs, scale: Tensor | float, first: int = 0) -> Tensor:
    """CLOOB without retrieval: InfoLOOB of both directions, their mean."""
    return (info_loob(images.own, texts.all, scale, first) + info_loob(texts.own, images.all, scale, first)) / 2


class CloobTerms(NamedTuple):
    """The two terms of CLOOB; each the mean over rows."""

    image: Tensor
    text: Tensor


def cloob_terms(
    images: Pairs,
    texts: Pairs,
    inverse_temperature: Tensor | float,
    hopfield_scale: float,
    first: int = 0,
    retrieved_share: float = 1.0,
) -> CloobTerms:
    """InfoLOOB of what images and texts retrieve from the stored images, and from the stored texts (CLOOB, equation 8).

    Whatever is retrieved for all pairs is computed by every rank for its own, and gathered. Half of the terms' sum is
    the loss of rinna's code; ml-jku's is their sum over the inverse temperature.

    Args:
        images: of length 1.
        texts: of length 1.
        inverse_temperature: multiplies cosines.
        hopfield_scale: of the retrieval.
        first: see above.
        retrieved_share: below 1, plain features have the rest in what is compared; 0 is InfoLOOB alone.
    """
    found = []
    for states, others in ((images, texts), (texts, images)):
        anchors = _mixed(states.own, states.all, hopfield_scale, retrieved_share)
        columns, _ = gathered(_mixed(others.own, states.all, hopfield_scale, retrieved_share))
        found.append(info_loob(anchors, columns.all, inverse_temperature, first))
    return CloobTerms(*found)


def _mixed(states: Tensor, stored: Tensor, scale: float, share: float) -> Tensor:
    """Retrieved features, with plain ones in them where the share is below 1; of length 1."""
    if share == 0.0:
        return states
    found = retrieved(states, stored, scale)
    return found if share == 1.0 else nn.functional.normalize(torch.lerp(states, found, share), dim=1)


def siglip_loss(images: Pairs, texts: Pairs, scale: Tensor | float, bias: Tensor | float, first: int = 0) -> Tensor:
    """Every pair of the matrix by itself, right or wrong (Zhai et al. 2023, SigLIP, equation 1), the mean over images.

    -ln sigmoid(l) = softplus(l) - l for a right pair, and softplus(l) for a wrong one.
    """
    return sigmoid_contrasts(images.own, texts.all, scale, bias, first).mean()
