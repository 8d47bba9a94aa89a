"""What tasks of pictures and captions say in their YAML files."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from components.measures import Measure
from components.modalities.image.templates import TEMPLATES
from models.schema import CorpusRef, Strict

Templates = Literal["ja-37"] | list[str]


def templates_of(templates: Templates) -> tuple[str, ...]:
    """The sentences, with `{}` for the name."""
    return TEMPLATES[templates] if isinstance(templates, str) else tuple(templates)


class Pictures(Strict):
    """Pictures that a network sees whole."""

    modality: Literal["image"] = "image"
    corpus: CorpusRef
    picture: str = "picture"
    """The column of pictures."""
    split: Literal["train", "valid", "test"] = "test"
    max_pictures: int | None = Field(default=None, ge=2)
    """A sample of so many, chosen by the hash of their ids; None takes all."""
    family: str = "clip"
    """Whose code computes features."""
    batch_pictures: int = Field(default=64, ge=1)


class ZeroShot(Pictures):
    """Pictures whose class is found by its name alone, among those of all classes of the split; one row per picture.

    A class is the mean of what the text tower makes of its name in each template, every part and the mean normalised
    (Radford et al. 2021, section 3.1.4).
    """

    MEASURES: ClassVar = (Measure("is_right", "higher", total="top_1"),)
    kind: Literal["zero-shot-classification"]
    label: str = "label"
    """The column that tells classes apart."""
    name: str | None = None
    """The column with the names of classes, where `label` has signs; two classes may have one name."""
    templates: Templates = ["{}"]
    """A list, or `ja-37`: sentences of this project in Japanese for photographs and drawings."""

    @field_validator("templates")
    @classmethod
    def have_a_place(cls, templates: Templates) -> Templates:
        """The name must stand somewhere."""
        bad = [each for each in templates_of(templates) if each.count("{}") != 1]
        if bad or not templates_of(templates):
            raise ValueError(f"a template has one {{}} for the name of a class; found {bad or 'none'}")
        return templates


class Retrieval(Pictures):
    """How high the right picture stands for a caption among all pictures, and the other way; one row per record.

    Other pictures with the same caption count as right, and so do captions of a picture that is the same in every byte.
    """

    MEASURES: ClassVar = (
        Measure("text_to_image_reciprocal_rank", "higher", total="text_to_image_mrr"),
        Measure("image_to_text_reciprocal_rank", "higher", total="image_to_text_mrr"),
    )
    kind: Literal["retrieval"]
    captions: str = "captions"
    """The column of captions, of which each record gives one."""
    caption_kind: str | None = None
    """The first caption of this kind is taken; None takes the first of any."""
    group: str | None = None
    """A column: records with the same value are right for each other too."""


class CaptionProbe(Pictures):
    """How often a picture is nearer to its caption than to one that is false of it; one row per picture that has one.

    A network that knows words but not their order says so half of the time.
    """

    MEASURES: ClassVar = (Measure("is_right", "higher", total="accuracy"),)
    kind: Literal["caption-probe"]
    captions: str = "captions"
    """The column of captions; the first one is compared with the foil."""
    foils: str = "foils"
    """The column of false captions."""
    foil_kind: str | None = None
    """The first foil of this kind is taken, and pictures without one are left out; None takes the first of any."""


class Labelling(Pictures):
    """How many names of what a picture shows a tower gets wrong, missing or too many; one row per picture."""

    MEASURES: ClassVar = (Measure("errors", "lower", per="num_labels", total="error_rate"),)
    kind: Literal["labelling"]
    label: str = "label"
    """The column that the tower's own encoder of labels reads."""


class Reconstruction(Pictures):
    """How much of a picture an autoencoder gives back, as the ratio of peak to error in dB; one row per picture.

    Scores the autoencoder alone, or that of a whole Stable Diffusion.
    """

    MEASURES: ClassVar = (Measure("psnr_db", "higher"),)
    kind: Literal["reconstruction"]
    family: str = "stable_diffusion"


TASKS: dict[str, Any] = {
    "zero-shot-classification": ZeroShot,
    "retrieval": Retrieval,
    "caption-probe": CaptionProbe,
    "labelling": Labelling,
    "reconstruction": Reconstruction,
}
