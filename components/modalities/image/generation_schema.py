"""What tasks of generated pictures say in their YAML files."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from components.measures import Measure
from components.modalities.image.task_schema import Pictures
from models.schema import CorpusRef, PackageRef, Strict


class Sampled(Strict):
    """How a generator draws."""

    modality: Literal["image"] = "image"
    family: str = "stable_diffusion"
    """Whose code draws."""
    num_steps: int = Field(default=50, ge=1)
    """Of the scheduler in the generator's weights."""
    guidance_scale: float = Field(default=7.5, ge=0)
    """How far the caption is preferred to none (Ho and Salimans 2022); 1 or less asks the network once a step."""
    negative: str = ""
    """The prompt that takes the place of none."""
    seed: int = 0
    """With the name of an item it decides the noise that its picture begins with."""
    batch_pictures: int = Field(default=64, ge=1)


class Generated(Sampled, Pictures):
    """Pictures that a generator draws of the captions of records, one of each record with a seed of its own."""

    family: str = "stable_diffusion"
    captions: str = "captions"
    """The column of captions, of which each record gives one as the prompt."""
    caption_kind: str | None = None
    """The first caption of this kind is taken; None takes the first of any."""
    has_pictures: bool = True
    """Whether the corpus has pictures of what is asked for."""


class ImageSimilarity(Generated):
    """How near generated pictures are to their prompts, by a pair of towers that had no hand in the training data.

    `r_precision` is the share of pictures that are nearer to their own prompt than to any other (Park et al. 2021).
    One row per picture; cosines of one pair of towers mean nothing in another.
    """

    MEASURES: ClassVar = (
        Measure("cosine", "higher"),
        Measure("is_nearest", "higher", total="r_precision"),
    )
    kind: Literal["image-similarity"]
    model: PackageRef
    """The pair of towers: a CLIP or CLOOB, not the one that filtered the training data."""


class FixedPrompts(Sampled):
    """Pictures of prompts that stand here, of the same seeds for every model, for a person to lay side by side.

    How near each is to its prompt is told by a pair of towers that had no hand in the training data.
    """

    MEASURES: ClassVar = (Measure("cosine", "higher"),)
    kind: Literal["fixed-prompts"]
    prompts: list[str] = Field(min_length=1)
    pictures_of_each: int = Field(default=4, ge=1)
    """Of one prompt, each with a seed of its own."""
    model: PackageRef
    """The pair of towers: a CLIP or CLOOB, not the one that filtered the training data."""


class SceneJudge(Generated):
    """Whether generated pictures show what was asked for, by a judge that names one of each group; one row per picture.

    The judge is an image tower with an encoder of labels in `groups`, trained on pictures that no generator saw. Each
    group is told by itself: a picture of the right thing in a wrong look counts as such. The sampler is the scheduler
    in the generator's package (DDIM in ours), with the seed of each record.
    """

    kind: Literal["scene-judge"]
    model: PackageRef
    """The judge."""
    marks: str = "marks"
    """The column of form `labels` that says what is asked for, in the judge's words: `look plain`, `count 2`."""
    groups: list[str] = Field(default=["thing", "look", "colour", "count"], min_length=1)
    """First words of marks, each a group of the judge."""

    @property
    def MEASURES(self) -> tuple[Measure, ...]:  # noqa: N802 (other kinds have it as a constant)
        """Each group, and all of them together."""
        names = [*self.groups, "all"]
        return tuple(Measure(f"{name}_is_right", "higher", total=f"{name}_right") for name in names)


class ImageDistance(Generated):
    """How far the lot of generated pictures is from real ones that were held out, how diverse, how near to training.

    `kernel_distance` is the unbiased square of the maximum mean discrepancy with a polynomial kernel of degree 3, as
    KID has it (Bińkowski et al. 2018), on features of this project's own towers in place of Inception's, so it is
    compared with itself alone. `diversity` is the mean of 1 - cosine over pairs of generated pictures;
    `train_distance` the mean of 1 - cosine between each and the nearest picture of training, which tells copies.
    Rows are jackknife pseudo-values of each picture, whose mean is the total (Arvesen 1969): errors are over generated
    pictures, real ones stay.
    """

    MEASURES: ClassVar = (
        Measure("kernel_distance", "lower"),
        Measure("diversity", "higher", told_only=True),
        Measure("train_distance", "higher", told_only=True),
    )
    kind: Literal["image-distance"]
    model: PackageRef
    """Whose image features are compared: a pair of towers that had no hand in the training data."""
    trained_on: list[CorpusRef] = []
    """Corpora whose training pictures are looked through for copies."""
    max_training_pictures: int | None = Field(default=None, ge=1)
    """The first so many of each; None takes all."""


GENERATION_TASKS: dict[str, Any] = {
    "image-similarity": ImageSimilarity,
    "fixed-prompts": FixedPrompts,
    "scene-judge": SceneJudge,
    "image-distance": ImageDistance,
}
