"""Parameters, operations and activations of the networks, by arithmetic on their sections alone.

The layers are those of diffusers' UNet2DConditionModel and AutoencoderKL and of transformers' CLIPTextModel, one after
another, as their constructors make them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.stable_diffusion.schema import LatentDiffusion, Text, UNet, Vae

COLOURS = 3


@dataclass(frozen=True)
class Size:
    """Of a layer or of several, and of one picture or caption."""

    parameters: int = 0
    flops: float = 0.0
    """Of a forward pass: two for each product."""
    values: int = 0
    """Numbers that are kept for the backward pass, at most: what each layer gives."""

    def __add__(self, other: "Size") -> "Size":
        """Of both."""
        return Size(self.parameters + other.parameters, self.flops + other.flops, self.values + other.values)


def total(parts: Iterator[Size]) -> Size:
    """Of all."""
    return sum(parts, start=Size())


def _conv(inputs: int, outputs: int, kernel: int, places: int) -> Size:
    products = inputs * outputs * kernel**2
    return Size(products + outputs, 2.0 * products * places, outputs * places)


def _linear(inputs: int, outputs: int, places: int, has_bias: bool = True) -> Size:
    return Size(inputs * outputs + outputs * has_bias, 2.0 * inputs * outputs * places, outputs * places)


def _norm(width: int, places: int) -> Size:
    # What comes out, and of a group norm what the activation behind it gives.
    return Size(2 * width, 0.0, 2 * width * places)


def _attention(width: int, places: int, others: int) -> Size:
    """The two products of queries, keys and values."""
    return Size(0, 4.0 * places * others * width, width * places)


def _resnet(inputs: int, outputs: int, time_width: int, places: int) -> Iterator[Size]:
    yield _norm(inputs, places)
    yield _conv(inputs, outputs, 3, places)
    if time_width:
        yield _linear(time_width, outputs, 1)
    yield _norm(outputs, places)
    yield _conv(outputs, outputs, 3, places)
    if inputs != outputs:
        yield _conv(inputs, outputs, 1, places)


# ---- the U-Net -------------------------------------------------------------------------------------------------------


def _transformer(width: int, text_width: int, places: int, tokens: int) -> Iterator[Size]:
    yield _norm(width, places)
    yield _conv(width, width, 1, places)
    for other_width, others in ((width, places), (text_width, tokens)):
        yield _norm(width, places)
        yield _linear(width, width, places, has_bias=False)
        for _ in range(2):
            yield _linear(other_width, width, others, has_bias=False)
        yield _attention(width, places, others)
        yield _linear(width, width, places)
    yield _norm(width, places)
    yield _linear(width, 8 * width, places)
    yield _linear(4 * width, width, places)
    yield _conv(width, width, 1, places)


def unet_layers(unet: UNet, latent_channels: int, text_width: int, tokens: int) -> Iterator[Size]:
    """The layers of a U-Net, from the latents to the noise."""
    channels, depth = unet.block_channels, len(unet.block_channels)
    places = [(unet.latent_size >> level) ** 2 for level in range(depth)]
    time_width = 4 * channels[0]
    yield _linear(channels[0], time_width, 1)
    yield _linear(time_width, time_width, 1)
    yield _conv(latent_channels, channels[0], 3, places[0])
    width = channels[0]
    for level, outputs in enumerate(channels):
        for _ in range(unet.layers_per_block):
            yield from _resnet(width, outputs, time_width, places[level])
            if unet.attention[level]:
                yield from _transformer(outputs, text_width, places[level], tokens)
            width = outputs
        if level < depth - 1:
            yield _conv(width, width, 3, places[level + 1])
    yield from _resnet(width, width, time_width, places[-1])
    yield from _transformer(width, text_width, places[-1], tokens)
    yield from _resnet(width, width, time_width, places[-1])
    for level in reversed(range(depth)):
        outputs, finer = channels[level], channels[max(0, level - 1)]
        for layer in range(unet.layers_per_block + 1):
            skipped = finer if layer == unet.layers_per_block else outputs
            yield from _resnet(width + skipped, outputs, time_width, places[level])
            if unet.attention[level]:
                yield from _transformer(outputs, text_width, places[level], tokens)
            width = outputs
        if level:
            yield _conv(width, width, 3, places[level - 1])
    yield _norm(width, places[0])
    yield _conv(width, latent_channels, 3, places[0])


# ---- the autoencoder -------------------------------------------------------------------------------------------------


def _middle(width: int, places: int) -> Iterator[Size]:
    yield from _resnet(width, width, 0, places)
    yield _norm(width, places)
    for _ in range(4):
        yield _linear(width, width, places)
    yield _attention(width, places, places)
    yield from _resnet(width, width, 0, places)


def encoder_layers(vae: Vae) -> Iterator[Size]:
    """From a picture to the mean and the variance of its latents."""
    channels, depth = vae.block_channels, len(vae.block_channels)
    places = [(vae.size_px >> level) ** 2 for level in range(depth)]
    width, latent = channels[0], vae.latent_channels
    yield _conv(COLOURS, width, 3, places[0])
    for level, outputs in enumerate(channels):
        for _ in range(vae.layers_per_block):
            yield from _resnet(width, outputs, 0, places[level])
            width = outputs
        if level < depth - 1:
            yield _conv(width, width, 3, places[level + 1])
    yield from _middle(width, places[-1])
    yield _norm(width, places[-1])
    yield _conv(width, 2 * latent, 3, places[-1])
    yield _conv(2 * latent, 2 * latent, 1, places[-1])


def decoder_layers(vae: Vae) -> Iterator[Size]:
    """From latents to a picture."""
    channels, depth = vae.block_channels, len(vae.block_channels)
    places = [(vae.size_px >> level) ** 2 for level in range(depth)]
    width, latent = channels[-1], vae.latent_channels
    yield _conv(latent, latent, 1, places[-1])
    yield _conv(latent, width, 3, places[-1])
    yield from _middle(width, places[-1])
    for level in reversed(range(depth)):
        for _ in range(vae.layers_per_block + 1):
            yield from _resnet(width, channels[level], 0, places[level])
            width = channels[level]
        if level:
            yield _conv(width, width, 3, places[level - 1])
    yield _norm(width, places[0])
    yield _conv(width, COLOURS, 3, places[0])


# ---- the text encoder ------------------------------------------------------------------------------------------------


def text_layers(text: Text, vocab_size: int) -> Iterator[Size]:
    """From ids to the states that the U-Net attends to, of a caption with all its positions."""
    width, tokens = text.hidden_size, text.num_positions
    yield Size((vocab_size + tokens) * width, 0.0, width * tokens)
    for _ in range(text.num_layers):
        yield _norm(width, tokens)
        for _ in range(4):
            yield _linear(width, width, tokens)
        yield _attention(width, tokens, tokens)
        yield _norm(width, tokens)
        yield _linear(width, text.intermediate_size, tokens)
        yield _linear(text.intermediate_size, width, tokens)
    yield _norm(width, tokens)


# ---- whole networks --------------------------------------------------------------------------------------------------


def vae_size(vae: Vae) -> Size:
    """Of an autoencoder."""
    return total(encoder_layers(vae)) + total(decoder_layers(vae))


def unet_size(network: LatentDiffusion) -> Size:
    """Of the U-Net."""
    text = network.text
    return total(unet_layers(network.unet, network.latent_channels, text.hidden_size, text.num_positions))


def text_size(network: LatentDiffusion, vocab_size: int) -> Size:
    """Of the text encoder."""
    return total(text_layers(network.text, vocab_size))


def num_parameters(network: Vae | LatentDiffusion, vocab_size: int) -> int:
    """Of what `expected_num_parameters` counts."""
    if isinstance(network, Vae):
        return vae_size(network).parameters
    return unet_size(network).parameters + text_size(network, vocab_size).parameters
