"""What a recipe says of its scores, and what one says of somebody else's model: nothing but where it is."""

from typing import Any

from pydantic import Field, model_validator

from components.foreign import SOURCE_PATTERN
from models import FAMILIES, part_of
from models.schema import ShardsRef, Strict, TaskRef


class Contamination(Strict):
    """When an item of a task counts as seen in training: by the stretches of characters that both have.

    Both texts are compared as letters and digits alone, in one case and width (NFKC), since n-grams of words would hang
    on a tokenizer of Japanese. The length follows GPT-3 (arXiv 2005.14165, appendix C): n is the fifth percentile of
    the lengths of a task's items, at least 8 and at most 13 words. A word of Japanese (a short unit of UniDic) has
    about 1.8 letters (counted by fugashi: 1.6 in novels, 1.7 in meetings, 2.2 in manuals), so that is 15 to 24 here.
    GPT-4 (arXiv 2303.08774, appendix C) takes 50, of English, which needs about twice as many as Japanese. The share
    follows PaLM (arXiv 2204.02311, section 8). An item shorter than an n-gram is not looked for, and no clean score has
    it; a short question that an item begins with is looked for together with its choices.
    """

    min_ngram_chars: int = Field(default=15, ge=4)
    max_ngram_chars: int = Field(default=24, ge=4)
    min_share: float = Field(default=0.7, gt=0, le=1)
    """The share of an item's n-grams that stand in the training data, from which on it is contaminated."""

    @model_validator(mode="after")
    def lengths_are_in_order(self) -> "Contamination":
        """The shortest is not longer than the longest."""
        if self.min_ngram_chars > self.max_ngram_chars:
            raise ValueError("min_ngram_chars is larger than max_ngram_chars")
        return self


class Evaluate(Strict):
    """What a model is scored on."""

    tasks: list[TaskRef] = Field(min_length=1)
    features: list[ShardsRef] = []
    """Shards of corpora of tasks under an encoder of the model's own locked tower: what is computed already stands for
    pictures there."""
    contamination: Contamination | None = Contamination()
    """How items are looked for in what the model was trained on; null looks for none."""


class Foreign(Strict):
    """Somebody else's model: nothing to train, `package` alone makes it, and every verb that takes a model takes it."""

    family: str
    source: str = Field(pattern=SOURCE_PATTERN)
    """`path:<folder>`: a folder that `save_pretrained` wrote; `hub:<organisation>/<name>@<commit>`: a commit of a Hub,
    all 40 digits; `registry:<model>@<version>`: a version of the registry, or an alias such as `champion`. Safetensors
    only."""
    description: str = "Somebody else's model."
    language: str = "ja"
    licence: str = "unknown"
    """Its makers' word; while nobody has written it down, no model that is made from this one may be released."""
    layout: str
    """How its files are taken in; without it, the way of the family that takes most."""
    evaluate: Evaluate | None = None
    """What it is scored on, if it is."""

    @model_validator(mode="before")
    @classmethod
    def has_a_layout(cls, raw: Any) -> Any:
        """The family knows which, where the recipe does not say."""
        if not isinstance(raw, dict) or "layout" in raw or raw.get("family") not in FAMILIES:
            return raw
        schema = part_of(raw["family"], "schema")
        ours = next(iter(schema.LAYOUTS))
        is_ours = str(raw.get("source")).startswith("registry:")
        return {**raw, "layout": ours if is_ours else getattr(schema, "FOREIGN_LAYOUT", ours)}
