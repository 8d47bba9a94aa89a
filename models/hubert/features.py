"""Hidden states of one layer, which k-means makes units of."""

from typing import Any

import torch
from torch import Tensor

from models.frames import FRAME_SAMPLES, WINDOW_SAMPLES
from models.hubert.front import front_end
from models.hubert.network import encode, frame_lengths

CHUNK_FRAMES = 5000
"""100 s, as fairseq cuts: attention takes memory by the square of it."""


@torch.inference_mode()
def layer(network: Any, waveforms: Tensor, lengths: Tensor, layer: int) -> Tensor:
    """What a layer of the transformer gives, in evaluation mode, however long the recordings are.

    A recording of more than CHUNK_FRAMES frames is heard in pieces that do not know of each other. The network is left
    in the mode in which it was.

    Args:
        network: as `convert.load` gives it.
        waveforms: float, shape [recordings, samples], between -1 and 1, on the network's device.
        lengths: int64, shape [recordings], samples of each; at least 400.
        layer: counted from 1, as in "layer 6"; transformers has it as `hidden_states[layer]`.

    Returns:
        Shape [recordings, frames, width], in fp32; zeros in frames of padding.

    Raises:
        ValueError: there is no such layer.
    """
    hubert = network.hubert
    if not 1 <= layer <= len(hubert.encoder.layers):
        raise ValueError(f"layer is {layer}, expected 1 to {len(hubert.encoder.layers)}")
    frames = frame_lengths(lengths)
    num_frames = int(frames.max())
    found = waveforms.new_zeros(len(waveforms), num_frames, hubert.config.hidden_size, dtype=torch.float32)
    was_training = hubert.training
    hubert.eval()
    for start in range(0, num_frames, CHUNK_FRAMES):
        rows = (frames > start).nonzero().flatten()
        first = start * FRAME_SAMPLES
        piece = (lengths[rows] - first).clamp(max=(CHUNK_FRAMES - 1) * FRAME_SAMPLES + WINDOW_SAMPLES)
        part = waveforms[rows, first : first + int(piece.max())]
        given = None if bool((piece == part.shape[1]).all()) else piece
        features = hubert.feature_projection(front_end(hubert, part, given))
        hidden = encode(hubert, features, None if given is None else frame_lengths(given), layer).float()
        there = torch.arange(hidden.shape[1], device=hidden.device) < frame_lengths(piece)[:, None]
        found[rows, start : start + hidden.shape[1]] = hidden * there[:, :, None]
    hubert.train(was_training)
    return found
