"""The sections of a recipe that the stable_diffusion family understands."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from models.schedules import check_schedule
from models.schema import RecipeRef, ShardsRef, Strict

MODALITY = "image"
READS_IDS = False
"""An autoencoder sees pictures, and stage 1 takes a new tokenizer; `network.begin` compares those of stage 2."""

_UNET = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
_VAE = ("config.json", "diffusion_pytorch_model.safetensors")
_NETWORKS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    *_UNET,
    *(f"vae/{name}" for name in _VAE),
)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "captions.json")
# As transformers 4 writes it; what version 5 has written is taken in as these.
_CLIP_TOKENIZER = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
LAYOUTS = {
    # A plain StableDiffusionPipeline without a safety checker.
    "diffusers": (*_NETWORKS, *(f"tokenizer/{name}" for name in _TOKENIZER)),
    # An AutoencoderKL.
    "vae": _VAE,
    # Somebody else's StableDiffusionPipeline, with the tokenizer of OpenAI's CLIP.
    "stable-diffusion": (*_NETWORKS, *(f"tokenizer/{name}" for name in _CLIP_TOKENIZER)),
}
FOREIGN = ("stable-diffusion",)
FOREIGN_LAYOUT = "stable-diffusion"
HUB_NAMES = {
    "diffusers": ("diffusers", "text-to-image"),
    "vae": ("diffusers", "image-to-image"),
    "stable-diffusion": ("diffusers", "text-to-image"),
}

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Channels(Strict):
    """Sizes of convolutions, halved in height and width from each level to the next."""

    block_channels: list[Count] = Field(min_length=1)
    """Of each level, the finest first."""
    layers_per_block: Count = 2
    norm_groups: Count = 32

    @model_validator(mode="after")
    def groups_divide_the_channels(self) -> "Channels":
        """Each group has as many channels."""
        for channels in self.block_channels:
            if channels % self.norm_groups:
                raise ValueError(f"block_channels {channels} is not a multiple of norm_groups {self.norm_groups}")
        return self

    @property
    def factor(self) -> int:
        """Pixels of the input for one of the coarsest level, in height and in width."""
        return int(2 ** (len(self.block_channels) - 1))


class Vae(Channels):
    """The autoencoder of pictures (Rombach et al. 2022, section 3.1), as diffusers' AutoencoderKL."""

    kind: Literal["vae"]
    size_px: int = Field(ge=8)
    latent_channels: Count = 4
    expected_num_parameters: Count | None = None
    """Asserted before any work."""

    @model_validator(mode="after")
    def levels_divide_the_picture(self) -> "Vae":
        """Nothing is left at the edge."""
        if self.size_px % self.factor:
            raise ValueError(f"size_px {self.size_px} is not a multiple of {self.factor}, by which latents are smaller")
        return self


class UNet(Channels):
    """The network that says the noise; the defaults are those of Stable Diffusion v1."""

    block_channels: list[Count] = Field(default=[320, 640, 1280, 1280], min_length=1)
    attention: list[bool] = [True, True, True, False]
    """Which levels attend to the caption, the finest first."""
    num_heads: Count = 8
    latent_size: Count = 64
    """Height and width of latents."""

    @model_validator(mode="after")
    def levels_agree(self) -> "UNet":
        """As many of both, heads of equal parts, and no half rows."""
        if len(self.attention) != len(self.block_channels):
            raise ValueError(f"attention has {len(self.attention)} levels, block_channels {len(self.block_channels)}")
        if others := [each for each in self.block_channels if each % self.num_heads]:
            raise ValueError(f"block_channels {others[0]} is not a multiple of num_heads {self.num_heads}")
        if self.latent_size % self.factor:
            raise ValueError(f"latent_size {self.latent_size} is not a multiple of {self.factor}")
        return self


class Text(Strict):
    """The text encoder of CLIP (Radford et al. 2021); the defaults are those of Stable Diffusion v1."""

    num_layers: Count = 12
    hidden_size: Count = 768
    num_heads: Count = 12
    intermediate_size: Count = 3072
    num_positions: Count = 77
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"

    @model_validator(mode="after")
    def heads_divide_the_width(self) -> "Text":
        """Each head has an equal part."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self


class Scheduler(Strict):
    """How noise grows (Ho et al. 2020); the defaults are those of Stable Diffusion v1.

    Where training starts from other weights, theirs is kept, and must be the same.
    """

    num_timesteps: Count = 1000
    beta_start: float = Field(default=0.00085, gt=0, lt=1)
    beta_end: float = Field(default=0.012, gt=0, lt=1)
    beta_schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    """What the U-Net says: the noise, or the velocity (Salimans and Ho 2022)."""


class LatentDiffusion(Strict):
    """Pictures from captions in the latent space of an autoencoder (Rombach et al. 2022)."""

    kind: Literal["latent-diffusion"]
    vae: RecipeRef
    """The autoencoder, ours or a whole Stable Diffusion's; its weights do not move."""
    latent_channels: Count = 4
    unet: UNet = UNet()
    text: Text = Text()
    scheduler: Scheduler = Scheduler()
    expected_num_parameters: Count | None = None
    """Of text encoder and U-Net; asserted before any work."""
    expected_vae_parameters: Count | None = None
    """Asserted before training."""


Network = Annotated[Vae | LatentDiffusion, Field(discriminator="kind")]


# ---- objectives ------------------------------------------------------------------------------------------------------


class Reconstruction(Strict):
    """The difference of a picture and what becomes of it, and how far its latents are from a normal distribution.

    Of Rombach et al. 2022, appendix G, without the two networks that judge there, of which neither is ours.
    """

    LOSS: ClassVar = "Loss, the mean error of pixels between -1 and 1 with the weighted KL divergence"
    kind: Literal["vae"]
    distance: Literal["l1", "l2"] = "l1"
    kl_weight: float = Field(default=1e-6, ge=0)


class Noise(Strict):
    """The squared error of what the U-Net says of the noise (Ho et al. 2020, equation 14)."""

    LOSS: ClassVar = "Loss, the mean squared error of noise of variance 1"
    kind: Literal["noise"]
    min_snr_gamma: float | None = Field(default=None, gt=0)
    """Weigh each timestep by min(SNR, gamma) / SNR (Hang et al. 2023, section 3.4); None weighs all alike."""
    caption_dropout: Share = 0.1
    """Of captions that are empty in a step, for guidance without a classifier (Ho and Salimans 2022)."""


class AlignedNoise(Noise):
    """The same for a network that begins with other weights."""

    trains: list[Literal["text_encoder", "unet"]] = Field(default=["text_encoder", "unet"], min_length=1)
    """What learns; the rest stays as it is, to the byte."""
    text_encoder_start: Literal["inherited", "random"] = "inherited"
    """`random`: the captions of this recipe have another tokenizer than those of the weights it starts from."""

    @model_validator(mode="after")
    def random_parts_are_trained(self) -> "AlignedNoise":
        """A random text encoder that never learns says nothing."""
        if len(set(self.trains)) < len(self.trains):
            raise ValueError(f"'trains' names a part twice: {', '.join(self.trains)}")
        if self.text_encoder_start == "random" and "text_encoder" not in self.trains:
            raise ValueError("text_encoder_start is 'random', but 'trains' lacks text_encoder: add it")
        return self


PretrainObjective = Annotated[Reconstruction | Noise, Field(discriminator="kind")]
AlignObjective = AlignedNoise


# ---- samples ---------------------------------------------------------------------------------------------------------


class Batches(Strict):
    """How many pictures of a step, and at once."""

    batch_samples: Count
    micro_batch_samples: Count

    @model_validator(mode="after")
    def parts_fit(self) -> "Batches":
        """A part is no larger than its batch."""
        if self.micro_batch_samples > self.batch_samples:
            raise ValueError(
                f"micro_batch_samples {self.micro_batch_samples} is more than batch_samples {self.batch_samples}"
            )
        return self


class Pictures(Batches):
    """Pictures alone."""

    form: Literal["pictures"]


class Latents(Batches):
    """What an autoencoder makes of pictures, each with a caption."""

    form: Literal["latents"]
    latents: list[ShardsRef] = Field(min_length=1)
    """The same corpora as `shards`, in the same order, under an encoder of latents."""
    caption_shares: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Kind of caption -> how often it is chosen beside the other kinds of a picture; equal where nothing is said."""


PretrainSamples = Annotated[Pictures | Latents, Field(discriminator="form")]
AlignSamples = Latents


class Preview(Strict):
    """What is drawn at each validation, for a person to see."""

    prompts: list[str] = []
    seed: int = 0
    num_steps: Count = 25
    guidance_scale: float = Field(default=7.5, ge=0)


# ---- contradictions --------------------------------------------------------------------------------------------------


def check(recipe: Any, encoder: Any, tasks: dict[str, Any]) -> list[str]:  # noqa: ARG001 - tasks ask nothing of it
    """What in a recipe contradicts itself or its encoder, in words; empty if nothing does."""
    from models.stable_diffusion.release import check_package

    key = "pretrain" if recipe.pretrain is not None else "align"
    training, is_vae = getattr(recipe, key), isinstance(recipe.network, Vae)
    kind, wanted = training.objective.kind, "vae" if is_vae else "noise"
    if kind != wanted:
        told = f"network.kind is '{recipe.network.kind}', but {key}.objective.kind is '{kind}', expected {wanted}."
        return [f"{told} Change one of them."]
    problems = check_schedule(key, training) + _check_samples(recipe, key, is_vae)
    if is_vae == hasattr(encoder, "vocab_size"):
        other = "pixels" if is_vae else "captions"
        problems.append(f"'encoder' is {recipe.encoder}, expected one of kind '{other}'. Change the key.")
    elif not problems:
        problems += _check_sizes(recipe.network, getattr(encoder, "vocab_size", 0))
    if training.strategy == "fsdp2":
        problems.append(f"{key}.strategy is 'fsdp2', but this family trains whole networks. Set it to ddp.")
    if is_vae and training.preview.prompts:
        problems.append(f"{key}.preview.prompts is set, but an autoencoder draws nothing. Remove it.")
    right = "vae" if is_vae else "diffusers"
    problems += [
        f"package.layouts has '{layout}', but network.kind is '{recipe.network.kind}'. Change the key to [{right}]."
        for layout in recipe.package.layouts
        if layout in LAYOUTS and layout != right
    ]
    return problems + check_package(recipe.package)


def check_encoders(recipe: Any, read: Callable[[str], Any]) -> list[str]:
    """What in a recipe contradicts the encoders of its samples, in words.

    Args:
        recipe: one in which `check` finds nothing wrong.
        read: the section of an encoder, by its name.
    """
    network, key = recipe.network, "pretrain" if recipe.pretrain is not None else "align"
    if isinstance(network, Vae):
        return []
    captions, problems = read(recipe.encoder), []
    if getattr(captions, "layout", None) != "clip":
        problems.append(
            f"'encoder' is {recipe.encoder}, whose captions have no start and end, but network.kind is "
            f"'{network.kind}', whose text encoder reads both. Name one of kind 'captions' with the key layout: clip."
        )
    elif captions.max_tokens != network.text.num_positions:
        problems.append(captions_in_words(captions.max_tokens, network.text.num_positions))
    sizes: dict[int, str] = {}
    for shards in getattr(recipe, key).samples.latents:
        section = read(shards.partition("+")[2])
        if getattr(section, "kind", None) != "latents":
            problems.append(
                f"{key}.samples.latents has {shards}, which holds no latents. Name an encoder of that kind."
            )
            continue
        if section.model != network.vae:
            problems.append(
                f"{key}.samples.latents has {shards}, latents of '{section.model}', but the U-Net works in those of "
                f"'{network.vae}' (network.vae). Change one of them."
            )
        sizes.setdefault(section.size_px, shards)
    if len(sizes) > 1:
        told = " and ".join(f"{shards} of {size} pixels a side" for size, shards in sizes.items())
        problems.append(
            f"{key}.samples.latents has {told}, expected one size: pictures of a batch lie in one array. Cut them "
            "alike: the encoders' key 'size_px'."
        )
    return problems


def captions_in_words(max_tokens: int, num_positions: int) -> str:
    """What to do about captions that are not as long as a text encoder's table of positions."""
    return (
        f"the encoder makes captions of {max_tokens} tokens, but network.text.num_positions is {num_positions}, and a "
        "text encoder reads them padded to all its positions. Make them equal: change it, or the encoder's max_tokens."
    )


def _check_sizes(network: Vae | LatentDiffusion, vocab_size: int) -> list[str]:
    from models.stable_diffusion.sizes import num_parameters

    found, expected = num_parameters(network, vocab_size), network.expected_num_parameters
    return [] if expected is None or found == expected else [parameters_in_words(found, expected)]


def parameters_in_words(found: int, expected: int) -> str:
    """What to do about a network of another size than the recipe asserts."""
    return (
        f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). Change the "
        "shape, or the expected number if the shape is meant."
    )


def _check_samples(recipe: Any, key: str, is_vae: bool) -> list[str]:
    training = getattr(recipe, key)
    samples, wanted = training.samples, "pictures" if is_vae else "latents"
    if samples.form != wanted:
        told = f"{key}.samples.form is '{samples.form}', but network.kind is '{recipe.network.kind}', which reads"
        return [f"{told} {wanted}. Change one of them."]
    problems = [
        f"'encoder' is {recipe.encoder}, but the shards {each.shards} are made with another one. Change 'encoder' or "
        f"'{key}.shards'."
        for each in training.shards
        if each.shards.partition("+")[2] != recipe.encoder
    ]
    if is_vae:
        return problems
    seen = [each.partition("+")[0] for each in samples.latents]
    corpora = [each.shards.partition("+")[0] for each in training.shards]
    if corpora != seen:
        problems.append(
            f"{key}.samples.latents are of {', '.join(seen)}, but {key}.shards of {', '.join(corpora)}: each picture "
            "needs its words. Name the same corpora in the same order."
        )
    return problems
