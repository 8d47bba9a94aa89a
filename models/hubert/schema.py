"""The sections of a recipe that the hubert family understands."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from models.schedules import check_schedule
from models.schema import ShardsRef, Strict

MODALITY = "speech"
READS_IDS = False
"""The encoder's ids are what is predicted, so a model may start from one that predicted others."""

_NETWORK_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
LAYOUTS = {
    # HubertModel, and the k-means model whose units it has learnt to predict.
    "transformers": (*_NETWORK_FILES, "units/centroids.npy", "units/units.json"),
    # HubertForCTC with its phonemes, and a synthetic recording to try it on.
    "ctc": (*_NETWORK_FILES, "tokenizer_config.json", "vocab.json", "phonemes.json", "example.wav"),
    # HubertModel alone: somebody else's.
    "model": _NETWORK_FILES,
}
HUB_NAMES = {
    "transformers": ("transformers", "feature-extraction"),
    "ctc": ("transformers", "automatic-speech-recognition"),
    "model": ("transformers", "feature-extraction"),
}

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Network(Strict):
    """Sizes and dropouts; the defaults are those of HuBERT base (fairseq, `hubert_base_librispeech.yaml`)."""

    num_layers: Count = 12
    hidden_size: Count = 768
    num_heads: Count = 12
    intermediate_size: Count = 3072
    conv_dims: list[Count] = [512] * 7
    """Channels of the convolutional front end, layer by layer."""
    conv_kernels: list[Count] = [10, 3, 3, 3, 3, 2, 2]
    conv_strides: list[Count] = [5, 2, 2, 2, 2, 2, 2]
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    """Each channel over time in the first layer alone, or each frame in all layers."""
    norm_first: bool = False
    """Norms before attention and MLP, as in the large models."""
    position_kernel: Count = 128
    """Frames of the convolution that stands for positions."""
    position_groups: Count = 16
    dropout: Share = 0.1
    attention_dropout: Share = 0.1
    activation_dropout: Share = 0.0
    projection_dropout: Share = 0.1
    """Of what the front end gives to the layers."""
    head_dropout: Share = 0.0
    """Before the head of a recogniser."""
    layerdrop: Share = 0.05
    """Share of layers that a step leaves out."""
    head_size: Count = 256
    """Width in which frames and units are compared."""
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    expected_num_parameters: Count | None = None
    """Of the released `HubertModel`, without any head; asserted before any work."""

    @model_validator(mode="after")
    def sizes_fit(self) -> "Network":
        """Heads and groups divide the width, and frames begin every 320 samples and see 400."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.hidden_size % self.position_groups:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of position_groups {self.position_groups}"
            )
        if not len(self.conv_dims) == len(self.conv_kernels) == len(self.conv_strides):
            raise ValueError("conv_dims, conv_kernels and conv_strides must have one number for each layer")
        window, stride = 1, 1
        for kernel, step in zip(self.conv_kernels, self.conv_strides, strict=True):
            window, stride = window + (kernel - 1) * stride, stride * step
        if (window, stride) != (WINDOW_SAMPLES, FRAME_SAMPLES):
            raise ValueError(
                f"conv_kernels and conv_strides make frames of {window} samples every {stride}, expected "
                f"{WINDOW_SAMPLES} every {FRAME_SAMPLES}: units and crops are counted so"
            )
        return self


class MaskedUnits(Strict):
    """Predict the k-means units of masked frames (Hsu et al. 2021, HuBERT, equation 3); fairseq's numbers for base."""

    kind: Literal["masked-units"]
    mask_share: float = Field(default=0.8, gt=0, le=1)
    """Spans are as many as would mask this share of frames if none overlapped; about 0.55 are masked."""
    mask_frames: Count = 10
    min_masks: Count = 2
    """Spans a recording has at least."""
    temperature: float = Field(default=0.1, gt=0)
    """Cosines are divided by it."""
    feature_penalty: float = Field(default=10.0, ge=0)
    """Weight of the mean square of what the front end gives, for each masked frame."""
    front_end_gradient: float = Field(default=0.1, gt=0, le=1)
    """The front end's gradient is multiplied by it."""


class Ctc(Strict):
    """Connectionist temporal classification (Graves et al. 2006), with masks of time and channels in training.

    The defaults are those of fairseq's `base_10h.yaml`.
    """

    kind: Literal["ctc"]
    time_mask_share: Share = 0.75
    time_mask_frames: Count = 10
    channel_mask_share: Share = 0.5
    channel_mask_channels: Count = 64
    freeze_steps: int = Field(default=0, ge=0)
    """So many first steps train the head alone."""
    freeze_front_end: bool = True
    """Leave the convolutional front end as it was; of a network with random weights there is nothing to leave."""


PretrainObjective = Annotated[MaskedUnits | Ctc, Field(discriminator="kind")]
AlignObjective = Ctc

FORMS = {"masked-units": "crops", "ctc": "utterances"}
ENCODER_KINDS = {"masked-units": "kmeans", "ctc": "phonemes"}


class Recordings(Strict):
    """Groups of recordings of about equal length; a sample of the trainer is one group, and so is a micro-batch."""

    waveforms: list[ShardsRef] = Field(min_length=1)
    """The same corpora as `shards`, in the same order, under an encoder of waveforms."""
    batch_seconds: float = Field(gt=0)
    """Audio of one group: what passes through the network of one device at a time."""
    batches_per_step: Count
    """Groups of an optimiser step, over all ranks."""
    min_seconds: float = Field(gt=0)
    """Shorter recordings are left out."""
    max_seconds: float = Field(gt=0)

    @property
    def batch_samples(self) -> int:
        """Samples per optimiser step."""
        return self.batches_per_step

    @property
    def micro_batch_samples(self) -> int:
        """Groups differ in shape, so each is a micro-batch."""
        return 1

    @property
    def stand_alone(self) -> bool:
        """Samples of one batch cannot be stacked."""
        return True

    @model_validator(mode="after")
    def seconds_fit(self) -> "Recordings":
        """A group has room for the longest recording."""
        if not self.min_seconds <= self.max_seconds <= self.batch_seconds:
            raise ValueError(
                f"expected min_seconds <= max_seconds <= batch_seconds, found {self.min_seconds:g}, "
                f"{self.max_seconds:g}, {self.batch_seconds:g}"
            )
        return self


class Crops(Recordings):
    """Recordings cut at random to the shortest of their group, at multiples of 320 samples; nothing is padded."""

    form: Literal["crops"]
    min_seconds: float = Field(default=2.0, gt=0)
    max_seconds: float = Field(default=15.625, gt=0)
    """Longest crop: 250,000 samples."""


class Utterances(Recordings):
    """Whole recordings, padded to the longest of their group; longer ones than `max_seconds` are left out."""

    form: Literal["utterances"]
    min_seconds: float = Field(default=0.1, gt=0)
    max_seconds: float = Field(default=30.0, gt=0)


PretrainSamples = Annotated[Crops | Utterances, Field(discriminator="form")]
AlignSamples = Utterances


class Preview(Strict):
    """Nothing: a network of speech has no words that it could go on with."""


def front_end_parameters(network: Network) -> int:
    """Of the convolutions, with their norms."""
    total, inputs = 0, 1
    for number, (channels, kernel) in enumerate(zip(network.conv_dims, network.conv_kernels, strict=True)):
        total += inputs * channels * kernel + (channels if network.conv_bias else 0)
        total += 2 * channels if network.conv_norm == "layer" or number == 0 else 0
        inputs = channels
    return total


def layer_parameters(network: Network) -> int:
    """Of one layer of the transformer."""
    width, inner = network.hidden_size, network.intermediate_size
    return 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width


def num_parameters(network: Network) -> int:
    """Parameters of `HubertModel`, by arithmetic alone."""
    width, channels = network.hidden_size, network.conv_dims[-1]
    projection = 2 * channels + channels * width + width
    # Weights of the position convolution, their norms (one for each place of the kernel), a bias.
    positions = width * (width // network.position_groups) * network.position_kernel + network.position_kernel + width
    mask, norm = width, 2 * width
    layers = network.num_layers * layer_parameters(network)
    return front_end_parameters(network) + projection + mask + positions + norm + layers


def head_parameters(network: Network, objective: Any, num_outputs: int) -> int:
    """Of what a training puts on top."""
    if objective.kind == "ctc":
        return (network.hidden_size + 1) * num_outputs
    return (network.hidden_size + 1) * network.head_size + num_outputs * network.head_size


def check(recipe: Any, encoder: Any, tasks: dict[str, Any]) -> list[str]:  # noqa: ARG001 - tasks ask nothing of it
    """What in a recipe contradicts itself or its encoder, in words; empty if nothing does."""
    from models.hubert.release import check_package

    problems = []
    for key in ("pretrain", "align"):
        training = getattr(recipe, key)
        if training is not None:
            problems += _check_training(key, training, recipe, encoder)
    found, expected = num_parameters(recipe.network), recipe.network.expected_num_parameters
    if expected is not None and found != expected:
        problems.append(
            f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). Change "
            "the shape, or the expected number if the shape is meant."
        )
    kind = (recipe.align or recipe.pretrain).objective.kind
    right = "ctc" if kind == "ctc" else "transformers"
    problems += [
        f"package.layouts has '{layout}', but the objective is '{kind}'. Change the key to [{right}]."
        for layout in recipe.package.layouts
        if layout in LAYOUTS and layout not in (right, "model" if right == "transformers" else right)
    ]
    return problems + check_package(recipe.package)


def _check_training(key: str, training: Any, recipe: Any, encoder: Any) -> list[str]:
    objective, samples, problems = training.objective, training.samples, check_schedule(key, training)
    wanted = ENCODER_KINDS[objective.kind]
    if encoder.kind != wanted:
        problems.append(
            f"{key}.objective.kind '{objective.kind}' predicts what an encoder of kind '{wanted}' makes, but the "
            f"encoder '{recipe.encoder}' is of kind '{encoder.kind}'. Change one of them."
        )
    if samples.form != FORMS[objective.kind]:
        problems.append(
            f"{key}.objective.kind '{objective.kind}' reads {FORMS[objective.kind]}, but {key}.samples.form is "
            f"'{samples.form}'. Change one of them."
        )
    problems += [
        f"'encoder' is {recipe.encoder}, but the shards {each.shards} are made with another one. Change "
        f"'encoder' or '{key}.shards'."
        for each in training.shards
        if each.shards.partition("+")[2] != recipe.encoder
    ]
    corpora = [each.shards.partition("+")[0] for each in training.shards]
    heard = [each.partition("+")[0] for each in samples.waveforms]
    if corpora != heard:
        problems.append(
            f"{key}.samples.waveforms are of {', '.join(heard)}, but {key}.shards of {', '.join(corpora)}: each "
            "recording needs its targets. Name the same corpora in the same order."
        )
    if training.strategy == "fsdp2":
        problems.append(
            f"{key}.strategy is 'fsdp2', but devices that share layers cannot each leave out others "
            "(network.layerdrop). Set it to ddp."
        )
    if objective.kind == "ctc":
        problems += _check_ctc(key, training, recipe.network)
    elif math.ceil(samples.min_seconds * SAMPLE_RATE_HZ) < (objective.mask_frames + 2) * FRAME_SAMPLES:
        problems.append(
            f"{key}.samples.min_seconds is {samples.min_seconds:g}, which has no room for a span of "
            f"{objective.mask_frames} frames (20 ms each). Raise it, or lower {key}.objective.mask_frames."
        )
    return problems


def _check_ctc(key: str, training: Any, network: Network) -> list[str]:
    objective, problems = training.objective, []
    if training.guard.spike_ratio is not None:
        problems.append(
            f"{key}.guard.spike_ratio is {training.guard.spike_ratio}, but a loss of CTC is added up over frames, so "
            "it follows the lengths of a group's recordings, and long ones are no spike. Set "
            f"{key}.guard: {{spike_ratio: null}}"
        )
    if key == "pretrain" and (objective.freeze_front_end or objective.freeze_steps):
        problems.append(
            "pretrain.objective freezes weights that are random. Set freeze_front_end: false and freeze_steps: 0."
        )
    if objective.freeze_steps >= training.num_steps:
        problems.append(
            f"{key}.objective.freeze_steps is {objective.freeze_steps}, but {key}.num_steps is {training.num_steps}, "
            "so the head alone is ever trained. Lower the first or raise the second."
        )
    if objective.channel_mask_share and objective.channel_mask_channels >= network.hidden_size:
        problems.append(
            f"{key}.objective.channel_mask_channels is {objective.channel_mask_channels}, but network.hidden_size is "
            f"{network.hidden_size}, so a span would hide nearly all. Lower the first."
        )
    return problems
