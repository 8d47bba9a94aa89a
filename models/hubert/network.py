"""HuBERT: transformers' own classes with every field of their configuration set, and our own way through them.

What is trained is what is published. Two things transformers does not do are done here, without a parameter more: the
front end's norm over time leaves out padding (`front.py`), and masks are given, not drawn inside.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertForCTC, HubertModel

from models.frames import FRAME_SAMPLES, WINDOW_SAMPLES
from models.hubert.front import front_end
from models.hubert.schema import Network
from models.hubert.schema import num_parameters as counted
from models.objective import Mismatch, Setting

MASK_SHARE = 0.8
"""Of the published configuration: above 0, or transformers makes no mask vector. Training here draws its own masks."""


class UnitsHead(nn.Module):
    """Where frames and units are compared (Hsu et al. 2021, equation 3): a projection and a vector for each unit."""

    def __init__(self, width: int, head_size: int, num_units: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, head_size)
        self.units = nn.Parameter(torch.empty(num_units, head_size).uniform_())  # as fairseq draws them

    def forward(self, hidden: Tensor, temperature: float) -> Tensor:
        """Hidden states [frames, width] -> cosines over the temperature, [frames, units], in fp32 or better.

        One product of normalised vectors. fairseq and torchaudio compare each frame with a copy of all units, a tensor
        [units + 1, frames, head_size].
        """
        with torch.autocast(hidden.device.type, enabled=False):
            frames = self.projection(hidden.to(self.units.dtype))
            frames, units = nn.functional.normalize(frames, dim=1), nn.functional.normalize(self.units, dim=1)
            return nn.functional.linear(frames, units) / temperature


class HubertForUnits(nn.Module):
    """A `HubertModel` with the head it is pre-trained with; of a released model without."""

    def __init__(self, hubert: HubertModel, head: UnitsHead | None) -> None:
        super().__init__()
        self.hubert = hubert
        self.head = head

    @property
    def config(self) -> HubertConfig:
        """Of the released part."""
        return self.hubert.config

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.hubert.device


def configuration(section: Network, num_outputs: int | None) -> HubertConfig:
    """The configuration that is trained and published.

    Args:
        section: sizes and dropouts.
        num_outputs: of a recogniser, its blank (id 0) and symbols; None for a network without such a head.
    """
    here: dict[str, Any] = {"attn_implementation": "sdpa"}  # of this process; transformers does not save it
    return HubertConfig(
        **here,
        architectures=["HubertModel" if num_outputs is None else "HubertForCTC"],
        # Belongs to HubertForCTC alone; else transformers' value.
        vocab_size=32 if num_outputs is None else num_outputs,
        hidden_size=section.hidden_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        intermediate_size=section.intermediate_size,
        hidden_act="gelu",
        hidden_dropout=section.dropout,
        activation_dropout=section.activation_dropout,
        attention_dropout=section.attention_dropout,
        feat_proj_layer_norm=True,
        feat_proj_dropout=section.projection_dropout,
        final_dropout=section.head_dropout,
        layerdrop=section.layerdrop,
        initializer_range=section.initializer_range,
        layer_norm_eps=section.layer_norm_eps,
        feat_extract_norm=section.conv_norm,
        feat_extract_activation="gelu",
        conv_dim=list(section.conv_dims),
        conv_stride=list(section.conv_strides),
        conv_kernel=list(section.conv_kernels),
        conv_bias=section.conv_bias,
        num_conv_pos_embeddings=section.position_kernel,
        num_conv_pos_embedding_groups=section.position_groups,
        conv_pos_batch_norm=False,
        do_stable_layer_norm=section.norm_first,
        # For whoever trains on with transformers, whose masks are these; ours are drawn by `masks.py`.
        apply_spec_augment=True,
        mask_time_prob=MASK_SHARE,
        mask_time_length=10,
        mask_time_min_masks=2,
        mask_feature_prob=0.0,
        mask_feature_length=64,
        mask_feature_min_masks=0,
        ctc_loss_reduction="sum",
        ctc_zero_infinity=True,
        use_weighted_layer_sum=False,  # belongs to HubertForSequenceClassification, as the next one
        classifier_proj_size=256,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


def build(section: Network, facts: dict[str, Any]) -> nn.Module:
    """A network with random weights, drawn from torch's global generator: seed it first.

    Args:
        section: sizes and dropouts.
        facts: the encoder's: `num_units`, or of phonemes `vocab_size`.
    """
    if "num_units" in facts:
        hubert = HubertModel(configuration(section, None))
        draw_positions(hubert)
        return HubertForUnits(hubert, UnitsHead(section.hidden_size, section.head_size, int(facts["num_units"])))
    network = HubertForCTC(configuration(section, int(facts["vocab_size"])))
    draw_positions(network.hubert)
    return network


def draw_positions(hubert: HubertModel) -> None:
    """Draw the convolution that stands for positions as fairseq does; transformers leaves it as torch made it."""
    conv: Any = hubert.encoder.pos_conv_embed.conv
    kernel, width = conv.kernel_size[0], conv.in_channels
    with torch.no_grad():
        conv.weight = nn.init.normal_(torch.empty_like(conv.weight), std=math.sqrt(4 / (kernel * width)))
        nn.init.zeros_(conv.bias)


def begin(section: Network, objective: Any, setting: Setting) -> nn.Module:
    """The network that a training begins with: random, or with the weights of the model that it starts from.

    Args:
        section: the recipe's network.
        objective: the section of the objective, which must predict what the encoder makes.
        setting: says where to start from.

    Raises:
        Mismatch: the encoder makes something else; or the weights are those of another shape.
    """
    fact = "vocab_size" if objective.kind == "ctc" else "num_units"
    if fact not in setting.facts or (fact == "vocab_size") == ("num_units" in setting.facts):
        raise Mismatch(
            f"objective.kind is '{objective.kind}', but the encoder tells {', '.join(setting.facts)}, expected "
            f"{fact}. Change the objective or the key 'encoder'."
        )
    network = build(section, setting.facts)
    if setting.start is not None:
        take_weights(network, setting.start)
    return network


def take_weights(network: Any, folder: Path) -> None:
    """Copy the weights of a folder's `HubertModel` into a network's; heads, and a mask vector it lacks, stay as drawn.

    Raises:
        Mismatch: a network of that folder computes something else.
    """
    from models.hubert.convert import load

    found: Any = load(folder)
    here = section_of(network.config)
    try:
        there = section_of(found.config)
    except ValueError as error:
        raise Mismatch(f"'starts_from' is no network of this family: {folder} has {error}") from error
    wrong = [
        f"network.{key} is {getattr(here, key)} here and {getattr(there, key)} there"
        for key in Network.model_fields
        if getattr(here, key) != getattr(there, key)
    ]
    wrong += [
        f"{key} of its config.json is {getattr(found.config, key)!r}, expected {getattr(network.config, key)!r}"
        for key in ("hidden_act", "feat_extract_activation", "feat_proj_layer_norm", "conv_pos_batch_norm")
        if getattr(found.config, key) != getattr(network.config, key)
    ]
    if wrong:
        raise Mismatch(
            f"'starts_from' is another network, that of {folder}: {'; '.join(wrong)}. Copy the section 'network' of "
            "that recipe, the dropouts excepted, or start from another model."
        )
    given, own = found.hubert.state_dict(), network.hubert.state_dict()
    network.hubert.load_state_dict({name: given.get(name, tensor) for name, tensor in own.items()})


def num_parameters(section: Network) -> int:
    """Parameters of `HubertModel`, without allocating any."""
    with torch.device("meta"):
        network = HubertModel(configuration(section, None))
    return sum(parameter.numel() for parameter in network.parameters())


def check(section: Network, facts: dict[str, Any], samples: Any) -> None:  # noqa: ARG001 - as every family has it
    """Refuse a network that has not as many parameters as the recipe asserts, before anything is allocated.

    Raises:
        Mismatch: as it says.
    """
    found, expected = num_parameters(section), section.expected_num_parameters
    if expected is not None and found != expected:
        raise Mismatch(
            f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). "
            "Change the shape, or the expected number if the shape is meant."
        )
    if found != counted(section):
        raise AssertionError(f"{found} parameters, but the arithmetic of schema.py says {counted(section)}")


def section_of(config: Any) -> Network:
    """What of a configuration of transformers decides what a network computes, as a recipe writes it; no dropouts."""
    return Network(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        conv_dims=list(config.conv_dim),
        conv_kernels=list(config.conv_kernel),
        conv_strides=list(config.conv_stride),
        conv_bias=config.conv_bias,
        conv_norm=config.feat_extract_norm,
        norm_first=config.do_stable_layer_norm,
        position_kernel=config.num_conv_pos_embeddings,
        position_groups=config.num_conv_pos_embedding_groups,
        layer_norm_eps=config.layer_norm_eps,
    )


def blocks(network: Any) -> list[nn.Module]:
    """The layers of the transformer, first to last."""
    return list(network.hubert.encoder.layers)


# ---- forward pass ----------------------------------------------------------------------------------------------------


def frame_lengths(lengths: Tensor) -> Tensor:
    """Frames of recordings by their samples, int64 of any shape."""
    return torch.div(lengths - WINDOW_SAMPLES, FRAME_SAMPLES, rounding_mode="floor").add(1).clamp(min=0)


def encode(hubert: HubertModel, hidden: Tensor, frames: Tensor | None, num_layers: int | None = None) -> Tensor:
    """The transformer; in training some layers are left out, as chance has it (Fan et al. 2020, LayerDrop).

    Args:
        hubert: the network.
        hidden: projected features, shape [recordings, frames, width].
        frames: int64, shape [recordings], how many of them are no padding; None for all.
        num_layers: stop after so many; None takes all.

    Returns:
        Hidden states, shape [recordings, frames, width]: what the last layer gives, or the one that was asked for
        without the closing norm of networks with `norm_first`.
    """
    encoder, mask = hubert.encoder, None
    is_norm_first = bool(hubert.config.do_stable_layer_norm)
    if frames is not None:
        there = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]
        hidden = hidden * there[:, :, None]
        mask = there[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not is_norm_first:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    layers: Any = encoder.layers if num_layers is None else encoder.layers[:num_layers]
    # One number a layer whether it is used or not, so that a step draws as many in any network of a size.
    chances = torch.rand(len(layers)).tolist() if hubert.training else [1.0] * len(layers)
    for layer, chance in zip(layers, chances, strict=True):
        if chance >= hubert.config.layerdrop or not hubert.training:
            hidden = layer(hidden, attention_mask=mask)
    return encoder.layer_norm(hidden) if is_norm_first and num_layers is None else hidden


def hidden_states(hubert: HubertModel, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
    """What a head reads, without any mask; shapes as in `front_end` and `encode`."""
    frames = None if lengths is None else frame_lengths(lengths)
    return encode(hubert, hubert.feature_projection(front_end(hubert, waveforms, lengths)), frames)


def logits(network: HubertForCTC, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
    """What a recogniser gives, shape [recordings, frames, symbols]; a recording gives the same alone and padded."""
    found: Tensor = network.lm_head(network.dropout(hidden_states(network.hubert, waveforms, lengths)))
    return found
