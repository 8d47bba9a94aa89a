"""The sections of a recipe that the clip family understands."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from models.schedules import check_schedule
from models.schema import RecipeRef, ShardsRef, Strict

MODALITY = "image"
READS_IDS = False
"""A locked tower sees pictures: whoever names one need not share its encoder."""

_PICTURE_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_ENCODER_FILES = (*_TOKENIZER_FILES, "spiece.model", "captions.json")
LAYOUTS = {
    # VisionTextDualEncoderModel, for AutoModel, AutoTokenizer, AutoImageProcessor and AutoProcessor.
    "transformers": (*_PICTURE_FILES, "processor_config.json", *_ENCODER_FILES),
    # For the client of rinna's models, japanese_clip.
    "japanese-clip": (*_PICTURE_FILES, *_ENCODER_FILES),
    # ViTForImageClassification, or somebody else's ViTModel.
    "tower": _PICTURE_FILES,
    # Somebody else's CLIPModel or VisionTextDualEncoderModel.
    "clip": (*_PICTURE_FILES, *_TOKENIZER_FILES),
    # Somebody else's BlipForConditionalGeneration.
    "captioner": (*_PICTURE_FILES, *_TOKENIZER_FILES),
}
HUB_NAMES = {
    "transformers": ("transformers", "zero-shot-image-classification"),
    "japanese-clip": ("japanese-clip", "zero-shot-image-classification"),
    "tower": ("transformers", "image-classification"),
    "clip": ("transformers", "zero-shot-image-classification"),
    "captioner": ("transformers", "image-to-text"),
}

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[float, Field(gt=0)]


class Layers(Strict):
    """Sizes of a transformer; the defaults are those of BERT base and ViT-B."""

    num_layers: Count = 12
    hidden_size: Count = 768
    num_heads: Count = 12
    intermediate_size: Count = 3072
    dropout: Share = 0.0
    attention_dropout: Share = 0.0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    @model_validator(mode="after")
    def heads_divide_the_width(self) -> "Layers":
        """Each head has an equal part."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self


class ImageTower(Layers):
    """A Vision Transformer that names what it sees (Dosovitskiy et al. 2021), as timm's AugReg models are shaped."""

    kind: Literal["image-tower"]
    size_px: Count = 224
    patch_px: Count = 16
    layer_norm_eps: float = 1e-6
    expected_num_parameters: Count | None = None
    """Without the head; asserted before any work."""

    @model_validator(mode="after")
    def patches_fill_the_picture(self) -> "ImageTower":
        """Nothing is left at the edge."""
        if self.size_px % self.patch_px:
            raise ValueError(f"size_px {self.size_px} is not a multiple of patch_px {self.patch_px}")
        return self

    @property
    def num_tokens(self) -> int:
        """Patches and the class token."""
        return (self.size_px // self.patch_px) ** 2 + 1


class TextTower(Layers):
    """BERT without its pooler (Devlin et al. 2019); the vocabulary is the encoder's."""

    num_positions: Count = 514
    """Rows of the position table; a caption takes as many as it has tokens."""


class Dual(Strict):
    """A locked image tower and a text tower that learns to meet it (Zhai et al. 2022, LiT)."""

    kind: Literal["dual"]
    tower: RecipeRef
    """The image tower; its weights do not move."""
    tower_width: Count = 768
    """Of its features, which shards may hold in its place."""
    text: TextTower = TextTower()
    projection_size: Count = 512
    """Width in which pictures and captions are compared."""
    expected_num_parameters: Count | None = None
    """Of text tower and projections; asserted before any work."""
    expected_tower_parameters: Count | None = None
    """Of the locked tower without its head; asserted before training."""


Network = Annotated[ImageTower | Dual, Field(discriminator="kind")]


# ---- objectives ------------------------------------------------------------------------------------------------------


class Labels(Strict):
    """Cross-entropy of the right name."""

    kind: Literal["labels"]
    label_smoothing: Share = 0.0


class Contrast(Strict):
    """Pictures and captions of a batch, each against all others."""

    chunk_samples: Count | None = None
    """Captions, and pictures, that pass through a tower at once; their activations are computed again in the backward
    pass (the idea of GradCache, Gao et al. 2021), and the contrast is still over the whole batch. None takes a rank's
    whole share at once."""


class Clip(Contrast):
    """InfoNCE with a learned scale (Radford et al. 2021)."""

    kind: Literal["clip"]
    init_scale: float = Field(default=1 / 0.07, ge=1, le=100)
    """Of cosines at the start; the scale never exceeds 100."""


class Cloob(Contrast):
    """InfoLOOB of retrieved features with a fixed scale (Fürst et al. 2022); the defaults are rinna's."""

    kind: Literal["cloob"]
    inverse_temperature: Size = 30.0
    hopfield_scale: Size = 15.0
    hopfield_warmup_steps: int = Field(default=0, ge=0)
    """So many first steps have no retrieval: InfoLOOB alone."""
    hopfield_ramp_steps: int = Field(default=0, ge=0)
    """Over so many steps after these the retrieved features take the place of the plain ones, by a growing share."""


class Siglip(Contrast):
    """Each pair by itself, with a learned scale and bias (Zhai et al. 2023)."""

    kind: Literal["siglip"]
    init_scale: float = Field(default=10.0, ge=1, le=100)
    init_bias: float = -10.0


PretrainObjective = Annotated[Labels | Clip | Cloob | Siglip, Field(discriminator="kind")]


# ---- samples ---------------------------------------------------------------------------------------------------------


class Labelled(Strict):
    """Pictures with their names."""

    form: Literal["labelled"]
    pictures: list[ShardsRef] = Field(min_length=1)
    """The same corpora as `shards`, in the same order, under an encoder of pixels."""
    batch_samples: Count
    micro_batch_samples: Count

    @model_validator(mode="after")
    def parts_fit(self) -> "Labelled":
        """A part is no larger than its batch."""
        if self.micro_batch_samples > self.batch_samples:
            raise ValueError(
                f"micro_batch_samples {self.micro_batch_samples} is more than batch_samples {self.batch_samples}"
            )
        return self


class Pairs(Strict):
    """Pictures, or what a locked tower makes of them, each with a caption."""

    form: Literal["pairs"]
    features: list[ShardsRef] | None = None
    """The same corpora as `shards`, in the same order, under an encoder of a tower."""
    pictures: list[ShardsRef] | None = None
    """In place of `features`: the same under an encoder of pixels, for the tower to see in every step."""
    batch_samples: int = Field(ge=2)
    """Pairs of one contrast, over all ranks."""
    caption_shares: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Kind of caption -> how often it is chosen beside the other kinds of a picture; equal where nothing is said."""

    @property
    def micro_batch_samples(self) -> int:
        """A contrast cannot be cut: a rank's share of a batch is one micro-batch; see `Contrast.chunk_samples`."""
        return self.batch_samples

    @model_validator(mode="before")
    @classmethod
    def is_not_cut(cls, keys: Any) -> Any:
        """Say what to set instead of the key that other samples have."""
        if isinstance(keys, dict) and "micro_batch_samples" in keys:
            raise ValueError(
                "'micro_batch_samples' would cut a contrast into smaller ones. Remove it, and set "
                "objective.chunk_samples, which saves the same memory and keeps the contrast whole"
            )
        return keys

    @model_validator(mode="after")
    def has_one_kind_of_pictures(self) -> "Pairs":
        """Features or pixels."""
        if (self.features is None) == (self.pictures is None):
            raise ValueError("exactly one of 'features' and 'pictures' must be there")
        return self

    @property
    def seen(self) -> list[str]:
        """Shards of what stands for pictures."""
        return list(self.features or self.pictures or [])


PretrainSamples = Annotated[Labelled | Pairs, Field(discriminator="form")]


class Preview(Strict):
    """Nothing: a network of pictures says no words during training."""


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def layer_parameters(layers: Layers) -> int:
    """Of one layer: four matrices of attention, two of the MLP, two norms; all with biases."""
    width, inner = layers.hidden_size, layers.intermediate_size
    return 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width


def image_parameters(tower: ImageTower) -> int:
    """Of a ViT without head and pooler."""
    width = tower.hidden_size
    patches = 3 * tower.patch_px**2 * width + width
    return patches + width + tower.num_tokens * width + tower.num_layers * layer_parameters(tower) + 2 * width


def text_parameters(tower: TextTower, vocab_size: int) -> int:
    """Of a BERT without pooler: words, positions, two types, a norm, layers."""
    width = tower.hidden_size
    return (vocab_size + tower.num_positions + 2 + 2) * width + tower.num_layers * layer_parameters(tower)


def num_parameters(network: ImageTower | Dual, vocab_size: int) -> int:
    """Of what `expected_num_parameters` counts."""
    if isinstance(network, ImageTower):
        return image_parameters(network)
    projections = (network.tower_width + network.text.hidden_size) * network.projection_size
    return text_parameters(network.text, vocab_size) + projections


# ---- contradictions --------------------------------------------------------------------------------------------------


def check(recipe: Any, encoder: Any, tasks: dict[str, Any]) -> list[str]:  # noqa: ARG001 - tasks ask nothing of it
    """What in a recipe contradicts itself or its encoder, in words; empty if nothing does."""
    from models.clip.release import check_package

    is_dual, training = isinstance(recipe.network, Dual), recipe.pretrain
    kind = training.objective.kind
    if is_dual == (kind == "labels"):
        right = "clip, cloob or siglip" if is_dual else "labels"
        told = f"network.kind is '{recipe.network.kind}', but pretrain.objective.kind is '{kind}', expected {right}."
        return [f"{told} Change one of them."]
    problems = check_schedule("pretrain", training) + _check_samples(recipe, is_dual)
    if is_dual != hasattr(encoder, "vocab_size"):
        wanted = "captions" if is_dual else "labels"
        problems.append(f"'encoder' is {recipe.encoder}, expected one of kind '{wanted}'. Change the key.")
    elif not problems:
        found = num_parameters(recipe.network, getattr(encoder, "vocab_size", 0))
        expected = recipe.network.expected_num_parameters
        if expected is not None and found != expected:
            problems.append(parameters_in_words(found, expected))
    if training.strategy == "fsdp2":
        problems.append("pretrain.strategy is 'fsdp2', but a contrast is gathered from whole towers. Set it to ddp.")
    if is_dual:
        problems += _check_contrast(training)
    layouts = ("transformers", "japanese-clip") if is_dual else ("tower",)
    problems += [
        f"package.layouts has '{layout}', but network.kind is '{recipe.network.kind}'. Change the key to some of "
        f"[{', '.join(layouts)}]."
        for layout in recipe.package.layouts
        if layout in LAYOUTS and layout not in layouts
    ]
    if kind == "siglip" and "japanese-clip" in recipe.package.layouts:
        problems.append(
            "package.layouts has 'japanese-clip', but pretrain.objective.kind is 'siglip', expected clip or cloob: "
            "rinna's client knows no other. Take it out of package.layouts."
        )
    return problems + check_package(recipe.package)


def parameters_in_words(found: int, expected: int) -> str:
    """What to do about a network of another size than the recipe asserts."""
    return (
        f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). Change the "
        "shape, or the expected number if the shape is meant."
    )


def _check_samples(recipe: Any, is_dual: bool) -> list[str]:
    training, samples = recipe.pretrain, recipe.pretrain.samples
    wanted = "pairs" if is_dual else "labelled"
    if samples.form != wanted:
        kind = training.objective.kind
        told = f"pretrain.samples.form is '{samples.form}', but pretrain.objective.kind is '{kind}', which reads"
        return [f"{told} {wanted}. Change one of them."]
    problems = [
        f"'encoder' is {recipe.encoder}, but the shards {each.shards} are made with another one. Change 'encoder' or "
        "'pretrain.shards'."
        for each in training.shards
        if each.shards.partition("+")[2] != recipe.encoder
    ]
    key = "pictures" if samples.form == "labelled" or samples.pictures else "features"
    seen = [each.partition("+")[0] for each in getattr(samples, key)]
    corpora = [each.shards.partition("+")[0] for each in training.shards]
    if corpora != seen:
        problems.append(
            f"pretrain.samples.{key} are of {', '.join(seen)}, but pretrain.shards of {', '.join(corpora)}: each "
            "picture needs its words. Name the same corpora in the same order."
        )
    return problems


def _check_contrast(training: Any) -> list[str]:
    objective, problems = training.objective, []
    if training.valid_samples < 2:
        problems.append("pretrain.valid_samples is 1, but a pair alone has nothing to differ from. Raise it.")
    if objective.kind != "cloob":
        return problems
    if training.guard.spike_ratio is not None:
        problems.append(
            f"pretrain.guard.spike_ratio is {training.guard.spike_ratio}, but CLOOB's loss passes zero and goes "
            "below, so no multiple of it tells a spike. Set pretrain.guard: {spike_ratio: null}"
        )
    steps = objective.hopfield_warmup_steps + objective.hopfield_ramp_steps
    if steps >= training.num_steps:
        problems.append(
            f"pretrain.objective begins its retrieval over {steps} steps (hopfield_warmup_steps and "
            f"hopfield_ramp_steps), but pretrain.num_steps is {training.num_steps}. Lower the first or raise the last."
        )
    return problems
