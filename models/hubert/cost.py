"""What training a network of the hubert family takes, by arithmetic on its recipe alone.

Memory is the tensors that forward passes keep for their backward passes, listed one by one. Most of it is the
convolutional front end's, whose first layer gives 3,200 frames a second; attention takes the square of a crop.
"""

import math
from typing import Any

from models.cost import Cost
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ, num_frames
from models.hubert.schema import Network, head_parameters, layer_parameters, num_parameters

MASKED_SHARE = 0.5
"""About; of frames, once each recording of a group has as many masked as the one with the fewest."""
UTILISATION_SHARES = {768: 0.3, 512: 0.2}
"""Widths, widest first, and the share of a GPU's peak assumed from each on; our estimate. Convolutions over waveforms
reach less of it than the matrices of a language model."""


def num_outputs(encoder: Any) -> int:
    """Units or symbols that an encoder's section makes."""
    return int(encoder.num_clusters if encoder.kind == "kmeans" else encoder.vocab_size)


def facts(encoder: Any) -> dict[str, Any]:
    """What such an encoder will tell a network, as far as that decides its shape."""
    return {"num_units" if encoder.kind == "kmeans" else "vocab_size": num_outputs(encoder)}


def conv_lengths(network: Network, num_samples: int) -> list[int]:
    """What each layer of the front end gives of a recording, in places."""
    found, length = [], num_samples
    for kernel, stride in zip(network.conv_kernels, network.conv_strides, strict=True):
        length = max(0, (length - kernel) // stride + 1)
        found.append(length)
    return found


def forward_flops(network: Network, num_samples: int) -> tuple[float, float]:
    """Floating-point operations of one recording's forward pass: the front end's, and those from its projection on.

    Two for every parameter of a matrix or convolution and place; attention's full square (Chowdhery et al. 2022,
    "PaLM", appendix B). Heads are not counted.
    """
    front, inputs = 0.0, 1
    for channels, kernel, length in zip(
        network.conv_dims, network.conv_kernels, conv_lengths(network, num_samples), strict=True
    ):
        front += 2.0 * inputs * channels * kernel * length
        inputs = channels
    frames, width = num_frames(num_samples), network.hidden_size
    layer = 4 * width * width + 2 * width * network.intermediate_size + 2 * width * frames
    positions = width * (width // network.position_groups) * network.position_kernel
    return front, 2.0 * frames * (inputs * width + positions + network.num_layers * layer)


def can_be_shared(training: Any) -> bool:  # noqa: ARG001 - as every family has it
    """Whether devices can each hold a share of the network: never, since each may leave out other layers."""
    return False


def training_cost(network: Network, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:  # noqa: ARG001
    """What a recipe's training section asks for, with groups of recordings as long as they may be.

    Args:
        network: the recipe's section of the network.
        training: its section of the training.
        encoder: the section of its encoder.
        on_gpu: whether attention keeps no scores under dropout, and masks are truth values, as on a GPU.
        is_compiled: makes no difference that this counts.
    """
    objective, samples = training.objective, training.samples
    rows, num_samples = group_shape(samples)
    frames, outputs = rows * num_frames(num_samples), num_outputs(encoder)
    front, transformer = (rows * each for each in forward_flops(network, num_samples))
    is_ctc = objective.kind == "ctc"
    is_frozen = is_ctc and objective.freeze_front_end
    heard = frames if is_ctc else int(MASKED_SHARE * frames)
    head = 6.0 * heard * (head_parameters(network, objective, outputs) - outputs * is_ctc)
    number = 2 if training.precision == "bf16" else 4
    outside = 0 if is_frozen else rows * _front_end_bytes(network, num_samples, number)
    outside += frames * 4 * 6 * network.hidden_size  # projection, mask, positions, first norm
    layer = frames * _layer_frame_bytes(network, num_frames(num_samples), number, on_gpu)
    copies = 2 * layer_parameters(network) if number == 2 else 0  # autocast's, in bf16
    layers, total = network.num_layers, num_parameters(network) + head_parameters(network, objective, outputs)
    width = outputs if is_ctc else outputs + 3 * network.head_size
    return Cost(
        num_parameters=total,
        block_parameters=layer_parameters(network),
        outer_parameters=total - layers * layer_parameters(network),
        item="frames",
        # Its 16-bit samples, and a unit, or at most one phoneme.
        item_bytes=2 * FRAME_SAMPLES + (1 if outputs <= 1 << 8 else 2),
        batch_items=frames * samples.batches_per_step,
        micro_batch_items=frames,
        step_flops=samples.batches_per_step * (front * (1 if is_frozen else 3) + 3 * transformer + head),
        recomputed_flops=samples.batches_per_step * transformer,
        activation_bytes=outside + layers * (layer + copies),
        recomputing_activation_bytes=outside + layers * frames * 4 * network.hidden_size + layer + layers * copies,
        loss_bytes=heard * 4 * 3 * width,
        utilisation_share=next(
            (share for least, share in UTILISATION_SHARES.items() if network.hidden_size >= least), None
        ),
        can_be_shared=can_be_shared(training),
    )


def group_shape(samples: Any) -> tuple[int, int]:
    """Recordings of a group, and samples of each, where all are as long as they may be."""
    rows = max(1, math.floor(samples.batch_seconds / samples.max_seconds))
    return rows, round(samples.max_seconds * SAMPLE_RATE_HZ)


def _front_end_bytes(network: Network, num_samples: int, number: int) -> int:
    """Of one recording: what each layer's norm and activation read, and the next layer's products, which copy."""
    total = 4 * num_samples
    for place, (channels, length) in enumerate(zip(network.conv_dims, conv_lengths(network, num_samples), strict=True)):
        has_norm = network.conv_norm == "layer" or place == 0
        total += channels * length * number * (3 if has_norm else 2)
    return total


def _layer_frame_bytes(network: Network, frames: int, number: int, on_gpu: bool) -> int:
    """Of one layer and frame: inputs of norms in fp32, what matrices and attention read, masks of dropout."""
    width, masks = network.hidden_size, 2 if network.dropout else 0
    norms = 2 * 4 * width
    wide = 6 * number * width  # inputs of attention and MLP, query, key, value, and what attention gives
    kept = norms + wide + 2 * number * network.intermediate_size
    kept += masks * (1 if on_gpu else 4) * width
    if network.activation_dropout:
        kept += (number + (1 if on_gpu else 4)) * network.intermediate_size
    if network.attention_dropout and not on_gpu:
        kept += 3 * 4 * network.num_heads * frames  # flash attention on a CPU has no dropout: scores, mask, product
    return kept


def shortened(training: Any, num_items: int) -> Any:
    """A training section whose one group has about so many frames, for a trial with random numbers."""
    samples = training.samples
    seconds = max(num_items * FRAME_SAMPLES / SAMPLE_RATE_HZ, samples.min_seconds)
    longest = min(samples.max_seconds, seconds)
    sizes = {"batch_seconds": max(longest, seconds), "max_seconds": longest, "batches_per_step": 1}
    return training.model_copy(update={"samples": samples.model_copy(update=sizes)})


def batch_shapes(network: Network, training: Any, encoder: Any) -> dict[str, tuple[tuple[int, ...], int]]:  # noqa: ARG001
    """The tensors of one micro-batch: name -> shape, and the integer that every element lies below."""
    rows, num_samples = group_shape(training.samples)
    frames = num_frames(num_samples)
    targets = frames if training.objective.kind == "masked-units" else max(1, frames // 6)  # a phoneme lasts 0.1 s
    return {"waveforms": ((rows, num_samples), 1 << 12), "targets": ((rows, targets), num_outputs(encoder))}
