"""What training a network of this family takes, by arithmetic on its sections alone."""

from functools import cache
from typing import Any

from models.cost import Cost
from models.stable_diffusion.schema import LatentDiffusion, Text, UNet, Vae
from models.stable_diffusion.sizes import Size, text_layers, text_size, total, unet_layers, unet_size
from models.stable_diffusion.sizes import vae_size as _vae_size

MAX_TOKENS = 77
"""Of a caption, where its encoder is not asked."""
CHANNELS = 3
UTILISATION_SHARE = 0.3
"""Of a GPU's peak, from `WIDE` channels on; our estimate."""
WIDE = 128


def facts(encoder: Any) -> dict[str, Any]:
    """What such an encoder will tell a network, as far as that decides its shape."""
    if hasattr(encoder, "vocab_size"):
        return {"vocab_size": encoder.vocab_size, "bos": 1, "eos": 2, "pad": 3, "max_tokens": MAX_TOKENS}
    return {"size_px": getattr(encoder, "size_px", None)}


# ---- by the configurations of diffusers and transformers -------------------------------------------------------------


def vae_part(config: Any) -> Size:
    """Of an AutoencoderKL and one picture."""
    return _vae_by(
        tuple(config.block_out_channels), config.layers_per_block, config.sample_size, config.latent_channels
    )


@cache
def _vae_by(channels: tuple[int, ...], layers: int, size_px: int, latent_channels: int) -> Size:
    section: dict[str, Any] = {"block_channels": list(channels), "layers_per_block": layers, "norm_groups": 1}
    return _vae_size(Vae(kind="vae", size_px=size_px, latent_channels=latent_channels, **section))


def unet_part(config: Any) -> Size:
    """Of a UNet2DConditionModel and one picture."""
    heads = config.attention_head_dim
    section = UNet(
        block_channels=list(config.block_out_channels),
        attention=["CrossAttn" in each for each in config.down_block_types],
        layers_per_block=config.layers_per_block,
        num_heads=heads if isinstance(heads, int) else 1,
        norm_groups=config.norm_num_groups,
        latent_size=config.sample_size,
    )
    return total(unet_layers(section, config.in_channels, config.cross_attention_dim, MAX_TOKENS))


def text_part(config: Any) -> Size:
    """Of a CLIPTextModel and one caption."""
    section = Text(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        num_positions=config.max_position_embeddings,
    )
    return total(text_layers(section, config.vocab_size))


# ---- of a training ---------------------------------------------------------------------------------------------------


def can_be_shared(training: Any) -> bool:  # noqa: ARG001 - as every family has it
    """Whether devices can each hold a share of the network: never, since this family trains whole networks."""
    return False


def training_cost(network: Vae | LatentDiffusion, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:  # noqa: ARG001
    """What a recipe's training section asks for.

    Args:
        network: the recipe's section of the network.
        training: its section of the training.
        encoder: the section of its encoder.
        on_gpu: makes no difference that this counts.
        is_compiled: makes none either.
    """
    number, samples = 2 if training.precision == "bf16" else 4, training.samples
    batch, micro = samples.batch_samples, samples.micro_batch_samples
    wide = max(network.block_channels if isinstance(network, Vae) else network.unet.block_channels)
    if isinstance(network, Vae):
        whole = _vae_size(network)
        learnt, frozen, passes, forward = whole.parameters, 0, 3.0 * whole.flops, whole.flops
        values, item_bytes = whole.values, CHANNELS * network.size_px**2
    else:
        unet, text = unet_size(network), text_size(network, encoder.vocab_size)
        trains = getattr(training.objective, "trains", ["text_encoder", "unet"])
        learnt = sum(each.parameters for part, each in (("unet", unet), ("text_encoder", text)) if part in trains)
        frozen = unet.parameters + text.parameters - learnt + (network.expected_vae_parameters or 0)
        passes = unet.flops * (3 if "unet" in trains else 2) + text.flops * (3 if "text_encoder" in trains else 1)
        forward, values = unet.flops + text.flops, unet.values + text.values
        latents = network.latent_channels * network.unet.latent_size**2
        item_bytes = 2 * latents + 2 * network.text.num_positions
    return Cost(
        num_parameters=learnt,
        block_parameters=learnt // 4,
        outer_parameters=learnt // 50,
        item="pictures",
        item_bytes=item_bytes,
        batch_items=batch,
        micro_batch_items=micro,
        step_flops=batch * passes,
        recomputed_flops=batch * forward,
        activation_bytes=micro * values * number,
        recomputing_activation_bytes=micro * values * number // 3,
        loss_bytes=micro * 4 * item_bytes,
        utilisation_share=UTILISATION_SHARE if wide >= WIDE else None,
        frozen_parameters=frozen,
        can_be_shared=can_be_shared(training),
    )


def shortened(training: Any, num_items: int) -> Any:
    """A training section whose one micro-batch has so many pictures, for a trial with random numbers."""
    sizes = {"batch_samples": max(1, num_items), "micro_batch_samples": max(1, num_items)}
    return training.model_copy(update={"samples": training.samples.model_copy(update=sizes)})


def batch_shapes(network: Vae | LatentDiffusion, training: Any, encoder: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """The tensors of one micro-batch: name -> shape, and the integer that every element lies below."""
    rows = training.samples.batch_samples
    if isinstance(network, Vae):
        return {"pixels": ((rows, CHANNELS, network.size_px, network.size_px), 2)}
    side = network.unet.latent_size
    return {
        "latents": ((rows, network.latent_channels, side, side), 3),
        "ids": ((rows, network.text.num_positions), encoder.vocab_size),
    }
