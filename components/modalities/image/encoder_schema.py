"""What encoders of pictures and captions say in their YAML files."""

from typing import Any, Literal

from pydantic import Field, model_validator

from models.pixels import MEAN, STD
from models.schema import CorpusShare, EncoderRef, RecipeRef, Strict

Colour = tuple[float, float, float]
"""A number each for red, green and blue, between 0 and 1."""
CLS, SEP, MASK = "[CLS]", "[SEP]", "[MASK]"
"""What a text tower's tokenizer has besides: the first token of every caption, and two that BERT knows."""


class Pixels(Strict):
    """Pictures of one size: the shorter side scaled to it, and the middle cut out."""

    kind: Literal["pixels"]
    modality: Literal["image"] = "image"
    column: str = "picture"
    size_px: int = Field(ge=8)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    format: Literal["png", "jpg"] = "png"
    """PNG keeps every pixel, so a tower gives the features that shards of them hold. JPEG takes a tenth of the room."""
    quality: int = Field(default=95, ge=50, le=100)
    """Of JPEG alone."""

    @model_validator(mode="after")
    def keys_fit_the_format(self) -> "Pixels":
        """A key that would do nothing is a mistake."""
        if self.format == "png" and "quality" in self.model_fields_set:
            raise ValueError("'quality' belongs to 'format: jpg'")
        return self


class Tower(Strict):
    """What a locked image tower makes of a picture: its first hidden state after the last norm, computed once."""

    kind: Literal["tower"]
    modality: Literal["image"] = "image"
    column: str = "picture"
    model: RecipeRef
    """The recipe whose weights the tower has."""
    family: str = "clip"
    """Whose code computes it."""
    size_px: int = Field(ge=8)
    """Pictures are cut as `pixels` cuts them."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Colour = MEAN
    """Subtracted from a picture's red, green and blue."""
    std: Colour = STD
    """What the difference is divided by."""
    dtype: Literal["fp16", "fp32"] = "fp16"
    """Of the numbers that are kept: 2 or 4 bytes each."""
    batch_pictures: int = Field(default=64, ge=1)


class Latents(Strict):
    """What the autoencoder of a Stable Diffusion makes of a picture, computed once: latents, not scaled."""

    kind: Literal["latents"]
    modality: Literal["image"] = "image"
    column: str = "picture"
    model: RecipeRef
    """The recipe whose autoencoder it is."""
    family: str = "stable_diffusion"
    """Whose code computes it."""
    size_px: int = Field(ge=8)
    """Pictures are cut as `pixels` cuts them."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    variance: bool = False
    """Whether the standard deviation of each number is kept too, so that latents are drawn anew in every step; it
    doubles the room. Without it they are the means."""
    dtype: Literal["fp16", "fp32"] = "fp16"
    """Of the numbers that are kept: 2 or 4 bytes each."""
    batch_pictures: int = Field(default=16, ge=1)


class Captions(Strict):
    """Captions as token ids, all that a picture has, each with its kind.

    The pieces are those of a SentencePiece tokenizer; of the layout `bert`, of one that has [CLS], [SEP] and [MASK]
    among its `symbols`.
    """

    kind: Literal["captions"]
    modality: Literal["image"] = "image"
    column: str = "captions"
    corpora: list[CorpusShare] = Field(min_length=1)
    """On their captions `tokenizer.json` is held against SentencePiece."""
    tokenizer: EncoderRef
    """Whose pieces it has."""
    layout: Literal["bert", "clip"] = "bert"
    """`bert`: [CLS] before a caption, which is as long as it is. `clip`: <s> before and </s> behind, and <pad> up to
    max_tokens, as the text encoder of Stable Diffusion reads it."""
    max_tokens: int = Field(default=77, ge=2)
    """With what stands before and behind; what is longer is cut, and counted."""
    lower_case: bool = True


class Labels(Strict):
    """The names of classes, sorted, as numbers."""

    kind: Literal["labels"]
    modality: Literal["image"] = "image"
    column: str = "label"
    corpora: list[CorpusShare] = Field(min_length=1)
    """Whose training records have the classes that there are."""
    many: bool = False
    """Whether a record is of several classes, a column of form `labels`."""
    groups: list[str] = []
    """Of `many`: first words of names, such as `look` of `look plain`. A record has one name of each group, between
    which a head of the network chooses; names of no group are left out."""

    @model_validator(mode="after")
    def groups_are_of_many(self) -> "Labels":
        """One name alone has no groups."""
        if self.groups and (not self.many or len(set(self.groups)) < len(self.groups)):
            raise ValueError("'groups' are of 'many: true', each named once")
        return self


ENCODERS: dict[str, Any] = {
    "pixels": Pixels,
    "tower": Tower,
    "latents": Latents,
    "captions": Captions,
    "labels": Labels,
}
