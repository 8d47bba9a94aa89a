"""The sections of a recipe that say how a model is released and kept up to date; no training depends on them."""

from typing import Any

from pydantic import Field

from models.schema import Strict


class Package(Strict):
    """What stands in a release besides the weights."""

    layouts: list[str] = ["transformers"]
    title: str
    summary: str
    """One or two sentences of the card."""
    limits: str
    """What the model cannot do and must not be used for."""
    example_prompt: str
    """The card's example starts from it; its output is what this very model answered."""
    generation: dict[str, Any] = {}
    """Fields of generation_config.json, such as do_sample, temperature, top_p, max_new_tokens."""


class Publish(Strict):
    """Where a release goes."""

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    private: bool = False
