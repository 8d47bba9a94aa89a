"""What training a network of the clip family takes, by arithmetic on its recipe alone.

A locked tower costs nothing where the recipe trains on features, as is counted here.
"""

from typing import Any

from models.clip.schema import Dual, ImageTower, Layers, image_parameters, layer_parameters, num_parameters
from models.cost import Cost

MAX_TOKENS = 77
"""Of a caption, where its encoder is not asked."""
LABELS = 1000
"""Of an image tower, before its encoder is fitted."""
UTILISATION_SHARES = {768: 0.35, 512: 0.25}
"""Widths, widest first, and the share of a GPU's peak assumed from each on; our estimate."""
CHANNELS = 3


def layers_flops(num_layers: int, width: int, inner: int, tokens: int) -> float:
    """Floating-point operations of a forward pass through layers: two for every parameter of a matrix and token.

    With attention's full square (Chowdhery et al. 2022, "PaLM", appendix B).
    """
    return 2.0 * tokens * num_layers * (4 * width * width + 2 * width * inner + 2 * width * tokens)


def tower_flops(config: Any) -> float:
    """Of a picture's forward pass through a ViT, by its configuration of transformers."""
    width, tokens = config.hidden_size, (config.image_size // config.patch_size) ** 2 + 1
    patches = 2.0 * (tokens - 1) * CHANNELS * config.patch_size**2 * width
    return patches + layers_flops(config.num_hidden_layers, width, config.intermediate_size, tokens)


def text_flops(config: Any, tokens: int) -> float:
    """Of a caption's forward pass in training through a BERT, by its configuration of transformers."""
    return caption_flops(config.num_hidden_layers, config.hidden_size, config.intermediate_size, tokens)


def caption_flops(num_layers: int, width: int, inner: int, tokens: int) -> float:
    """Of a forward pass to the first token's state: in the last layer, keys and values alone are needed everywhere."""
    last = 2.0 * (2 * tokens * width * width + 2 * width * width + 2 * width * inner + 2 * width * tokens)
    return layers_flops(num_layers - 1, width, inner, tokens) + last


def contrast_flops(kind: str, pairs: int, width: int) -> float:
    """Of forward and backward pass of a loss: three products of the size of all pairs for each matrix of logits.

    CLIP has one matrix, read in two directions; CLOOB two, and four of retrieval, each of which takes six products.
    What is computed again is not counted.
    """
    product = 2.0 * pairs * pairs * width
    return product * {"clip": 3, "siglip": 3, "cloob": 2 * 3 + 4 * 6}[kind]


def facts(encoder: Any) -> dict[str, Any]:
    """What such an encoder will tell a network, as far as that decides its shape."""
    if hasattr(encoder, "vocab_size"):
        return {"vocab_size": encoder.vocab_size, "pad": 0}
    return {"num_labels": LABELS}


def can_be_shared(training: Any) -> bool:  # noqa: ARG001 - as every family has it
    """Whether devices can each hold a share of the network: never, since a contrast is gathered from whole towers."""
    return False


def training_cost(network: ImageTower | Dual, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:  # noqa: ARG001
    """What a recipe's training section asks for, with captions as long as they may be.

    Args:
        network: the recipe's section of the network.
        training: its section of the training.
        encoder: the section of its encoder.
        on_gpu: makes no difference that this counts.
        is_compiled: makes none either.
    """
    number = 2 if training.precision == "bf16" else 4
    if isinstance(network, ImageTower):
        return _tower_cost(network, training, number)
    samples, objective, text = training.samples, training.objective, network.text
    pairs = samples.batch_samples
    rows = objective.chunk_samples or pairs
    tokens = min(MAX_TOKENS, text.num_positions)
    forward = pairs * caption_flops(text.num_layers, text.hidden_size, text.intermediate_size, tokens)
    total = num_parameters(network, encoder.vocab_size) + (objective.kind != "cloob")
    layer = rows * tokens * _layer_token_bytes(text, number)
    features = 4 * pairs * network.projection_size
    return Cost(
        num_parameters=total,
        block_parameters=layer_parameters(text),
        outer_parameters=total - text.num_layers * layer_parameters(text),
        item="pairs",
        # Ids of its caption, and a feature of each picture in fp16.
        item_bytes=2 * tokens + 2 * network.tower_width,
        batch_items=pairs,
        micro_batch_items=pairs,
        step_flops=3 * forward + contrast_flops(objective.kind, pairs, network.projection_size),
        recomputed_flops=forward,
        activation_bytes=text.num_layers * layer + 4 * pairs * network.tower_width,
        recomputing_activation_bytes=text.num_layers * rows * tokens * 4 * text.hidden_size + layer,
        loss_bytes=features * (12 if objective.kind == "cloob" else 6),
        utilisation_share=_utilisation(text),
        can_be_shared=can_be_shared(training),
    )


def _tower_cost(network: ImageTower, training: Any, number: int) -> Cost:
    samples, tokens = training.samples, network.num_tokens
    pictures = samples.batch_samples
    patches = 2.0 * (tokens - 1) * CHANNELS * network.patch_px**2 * network.hidden_size
    forward = pictures * (
        patches + layers_flops(network.num_layers, network.hidden_size, network.intermediate_size, tokens)
    )
    total = image_parameters(network)
    micro = samples.micro_batch_samples
    layer = micro * tokens * _layer_token_bytes(network, number)
    inputs = 4 * micro * CHANNELS * network.size_px**2
    return Cost(
        num_parameters=total,
        block_parameters=layer_parameters(network),
        outer_parameters=total - network.num_layers * layer_parameters(network),
        item="pictures",
        item_bytes=CHANNELS * network.size_px**2,
        batch_items=pictures,
        micro_batch_items=micro,
        step_flops=3 * forward,
        recomputed_flops=forward,
        activation_bytes=network.num_layers * layer + inputs,
        recomputing_activation_bytes=network.num_layers * micro * tokens * 4 * network.hidden_size + layer + inputs,
        loss_bytes=micro * 4 * 3 * LABELS,
        utilisation_share=_utilisation(network),
        can_be_shared=can_be_shared(training),
    )


def _utilisation(layers: Layers) -> float | None:
    return next((share for least, share in UTILISATION_SHARES.items() if layers.hidden_size >= least), None)


def _layer_token_bytes(layers: Layers, number: int) -> int:
    """Of one layer and token: inputs of norms in fp32, and what matrices, attention and activation read."""
    width = layers.hidden_size
    masks = 2 * 4 * width if layers.dropout else 0
    return 2 * 4 * width + 6 * number * width + 2 * number * layers.intermediate_size + masks


def shortened(training: Any, num_items: int) -> Any:
    """A training section whose one micro-batch has so many pairs or pictures, for a trial with random numbers."""
    samples = training.samples
    count = max(2, num_items)
    sizes = {"batch_samples": count}
    if samples.form == "labelled":
        sizes["micro_batch_samples"] = count
    return training.model_copy(update={"samples": samples.model_copy(update=sizes)})


def batch_shapes(network: ImageTower | Dual, training: Any, encoder: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """The tensors of one micro-batch: name -> shape, and the integer that every element lies below.

    Pairs have features, also where the recipe trains on pixels: a trial does without the locked tower.
    """
    rows = training.samples.batch_samples
    if isinstance(network, ImageTower):
        pixels = (rows, CHANNELS, network.size_px, network.size_px)
        return {"pixels": (pixels, 2), "labels": ((rows,), LABELS)}
    tokens = min(MAX_TOKENS, network.text.num_positions)
    return {
        "features": ((rows, network.tower_width), 3),
        "ids": ((rows, tokens), encoder.vocab_size),
        "mask": ((rows, tokens), 2),
    }
