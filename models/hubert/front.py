"""The convolutional front end as products of matrices, place after place instead of channel after channel.

It computes what transformers' `HubertFeatureEncoder` does with the same parameters. Its first layer has one channel to
read, so the norm over time of what a channel gives follows from the covariance of the samples under its kernel: norm
and convolution become one product, and padding is left out by leaving it out of that covariance. So a recording gives
the same numbers in any batch, which transformers' own way does not do.
"""

from typing import Any

import torch
from torch import Tensor, nn


def front_end(hubert: Any, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """The convolutions.

    Args:
        hubert: a `HubertModel`.
        waveforms: shape [recordings, samples], between -1 and 1.
        lengths: int64, shape [recordings], samples of each; None where all are whole.

    Returns:
        Shape [recordings, frames, channels]; what stands in frames of padding means nothing.
    """
    first, *others = hubert.feature_extractor.conv_layers
    found = first.activation(_first(first, waveforms, lengths))
    for layer in others:
        found = convolved(found, layer.conv)
        found = layer.activation(layer.layer_norm(found) if hasattr(layer, "layer_norm") else found)
    return found


def _first(layer: Any, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """The first convolution and its norm: [recordings, samples] -> [recordings, places, channels]."""
    kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
    windows, weight = waveforms.unfold(1, kernel, stride), layer.conv.weight[:, 0]
    if not isinstance(layer.layer_norm, nn.GroupNorm):
        normed: Tensor = layer.layer_norm(nn.functional.linear(windows, weight, layer.conv.bias))
        return normed
    windows = _centred(waveforms, lengths).unfold(1, kernel, stride)
    scaled, shift = _normed_weights(windows, weight, layer.layer_norm, _places(windows, lengths, kernel, stride))
    return torch.baddbmm(shift[:, None], windows, scaled.transpose(1, 2))


def _centred(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Recordings without their means, which the norm takes away anyhow: in bf16 an offset would eat up their digits.

    In fp64 the sum of 16-bit samples is exact, so that padding changes no bit of it.
    """
    if lengths is None:
        return waveforms - waveforms.mean(1, keepdim=True, dtype=torch.float64).to(waveforms.dtype)
    there = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
    total = (waveforms * there).sum(1, dtype=torch.float64)
    return waveforms - (total / lengths.clamp(min=1)).to(waveforms.dtype)[:, None]


def _places(windows: Tensor, lengths: Tensor | None, kernel: int, stride: int) -> Tensor:
    """How many places of each recording are no padding, int64 [recordings]."""
    if lengths is None:
        return torch.full((len(windows),), windows.shape[1], device=windows.device)
    return torch.div(lengths - kernel, stride, rounding_mode="floor") + 1


def _normed_weights(windows: Tensor, weight: Tensor, norm: nn.GroupNorm, places: Tensor) -> tuple[Tensor, Tensor]:
    """The kernels and shifts that give what the norm makes of a convolution; its bias would fall away.

    A channel with the kernel w gives w · u of the samples u under it: its mean is w · mean(u), its variance
    w · cov(u) w. In fp64, since a small variance is the difference of large numbers.

    Args:
        windows: shape [recordings, places, kernel].
        weight: shape [channels, kernel].
        norm: with as many groups as channels.
        places: int64, shape [recordings].

    Returns:
        Shapes [recordings, channels, kernel] and [recordings, channels], in the type of the weight.
    """
    with torch.autocast(windows.device.type, enabled=False):
        there = torch.arange(windows.shape[1], device=windows.device) < places[:, None]
        count = places[:, None, None].clamp(min=1)
        given, kernels = windows.double() * there[:, :, None], weight.double()
        mean = given.sum(1, keepdim=True) / count
        covariance = given.transpose(1, 2) @ given / count - mean.transpose(1, 2) @ mean
        variance = torch.einsum("ck,nkl,cl->nc", kernels, covariance, kernels).clamp(min=0)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        shift = norm.bias - (mean[:, 0] @ kernels.t()) * scale
        return (kernels * scale[:, :, None]).to(weight.dtype), shift.to(weight.dtype)


def convolved(inputs: Tensor, conv: nn.Conv1d) -> Tensor:
    """A convolution without padding: [recordings, places, channels] -> [recordings, fewer places, channels].

    The taps of one stride lie side by side in memory, so they are one product; each tap beyond is another.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if kernel < stride:
        return conv(inputs.transpose(1, 2)).transpose(1, 2)
    rows, places, channels = inputs.shape
    count = (places - kernel) // stride + 1
    weight = conv.weight.transpose(1, 2)
    windows = inputs[:, : count * stride].reshape(rows * count, stride * channels)
    found = nn.functional.linear(windows, weight[:, :stride].flatten(1), conv.bias)
    for tap in range(stride, kernel):
        beyond = inputs[:, tap : tap + (count - 1) * stride + 1 : stride].reshape(rows * count, channels)
        found = torch.addmm(found, beyond, weight[:, tap].t())
    return found.view(rows, count, -1)
