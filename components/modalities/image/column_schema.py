"""What a column of a corpus of pictures says in its YAML file."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from models.schema import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Form = Literal["picture", "captions", "foils", "label", "labels", "group", "flag", "scene", "score"]

PARTS: dict[str, str] = {
    "picture": "image",
    "captions": "caption",
    "foils": "foil",
    "label": "label",
    "labels": "labels",
    "group": "group",
    "flag": "unsafe",
    "scene": "scene",
    "score": "score",
}
"""Form of a column -> the part that it is read from, and the raw key if the column names none."""
CLEAN = "clean"
"""The part in which a value comes that is clean already, since its record was made from another one."""
FLAGGED = ("true", "1", "yes", "unsafe", "nsfw", "porn")
"""What a flag says of a picture that must not be used, in lower case."""


class Filters(Strict):
    """Which pictures and captions become records; one that fails is a reject with its reason."""

    min_side_px: int = Field(default=16, ge=1)
    """Of the shorter side of a picture."""
    max_aspect: float = Field(default=4.0, ge=1)
    """The longer side over the shorter one."""
    max_pixels: int = Field(default=80_000_000, ge=1, le=80_000_000)
    """More, by the head of the file, and it is not decoded: a small file can hold a picture that fills the memory."""
    min_chars: int = Field(default=1, ge=1)
    """A shorter caption is left out; a record without any left is a reject."""
    max_chars: int = Field(default=1000, ge=1)
    """A longer caption is left out."""
    min_japanese_share: Share = 0.0
    """Share of a caption's letters that must be kana or kanji; it is left out else."""


class Expectations(Strict):
    """What `validate` demands of the clean records; the flow stops when one does not hold."""

    min_side_px: int = Field(default=1, ge=1)
    side_mostly: Share = 1.0
    """Share of pictures whose shorter side has min_side_px."""
    max_aspect: float = Field(default=4.0, ge=1)
    aspect_mostly: Share = 1.0
    unique_mostly: Share = 0.9
    """Share of pictures that look like no other one, by a perceptual hash; all that look alike are left out. 0 lets
    them stay."""
    min_chars: int = Field(default=1, ge=1)
    max_chars: int | None = None
    length_mostly: Share = 1.0
    """Share of records whose shortest and longest captions lie within min_chars and max_chars."""
    language_mostly: Share = 0.9
    """Share of records whose captions are in the language of the corpus, where it is Japanese or English; those in
    another one are left out. 0 lets them stay."""
    unique_captions_mostly: Share = 0.0
    """Share of records whose captions no other record has; all that have the same are left out. 0 lets them stay."""


class Column(Strict):
    """A column of a corpus of pictures."""

    KEPT_TOGETHER: ClassVar = "group"
    """What shares a split, in the words of `validate`."""

    modality: Literal["image"]
    form: Form
    """A picture; what is said of it, as JSON of [kind, text]; the same that is false of it, made from the first
    caption; the name of its class; the names of all classes that it is of, as a JSON list; what stands in one split
    with others; whether it must not be used; what a drawn picture shows, as JSON; or how near its captions are, as a
    filter by a model says it."""
    field: str | None = None
    """The key of the raw row; without it `image`, `caption`, `foil`, `label`, `labels`, `group`, `unsafe`, `scene`,
    `score`."""
    fields: dict[str, str] = {}
    """Of captions and foils: kind -> the key of the raw row that holds a text or a list of them. Without it, captions
    are of the kind `web`, and foils of the kind `other`."""
    max_side_px: int = Field(default=1024, ge=16)
    """Of pictures: a longer side is made smaller, both sides alike."""
    max_score: float | None = None
    """Of flags that are numbers: above, the picture must not be used."""
    may_share_splits: bool = False
    """Of groups: whether one may stand in training and in what is held out."""
    filters: Filters = Filters()
    expectations: Expectations = Expectations()

    @model_validator(mode="after")
    def keys_fit_the_form(self) -> "Column":
        """A key that would do nothing is a mistake."""
        own: dict[str, set[str]] = {
            "picture": {"max_side_px", "filters", "expectations"},
            "captions": {"fields", "filters", "expectations"},
            "foils": {"fields", "filters"},
            "group": {"may_share_splits"},
            "flag": {"max_score"},
        }
        known = {"modality", "form", "field"} | own.get(self.form, set())
        if others := sorted(self.model_fields_set - known):
            raise ValueError(f"{', '.join(others)}: no key of a column of form '{self.form}'")
        if self.fields and self.field:
            raise ValueError("'field' and 'fields' name the same: take one out")
        return self

    @property
    def raw_keys(self) -> dict[str, str]:
        """Part of the value -> key of the raw row that holds it."""
        if self.fields:
            return dict(self.fields)
        part = PARTS[self.form]
        kind = {"captions": "web", "foils": "other"}.get(self.form, part)
        return {kind: self.field or part}

    @property
    def may_lack(self) -> bool:
        """Whether a raw row without these keys still has a value: foils and labels of some records alone."""
        return self.form == "foils"

    @property
    def has_texts(self) -> bool:
        """Whether there is anything to translate in it."""
        return self.form in ("captions", "foils")
