"""The sections of a recipe that say how a model is released and kept up to date; no training depends on them."""

from typing import Any

from pydantic import Field, model_validator

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
    """Where a release goes: a repository on a Hub, a folder, or both."""

    repository: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """`ORGANISATION/NAME` on the Hub that `HF_ENDPOINT` names, Hugging Face's if it names none."""
    private: bool = True
    """Whether the repository is created private, and must be private for a version to go there."""
    folder: str | None = None
    """A folder that gets the same files, such as one that a web server shows."""

    @model_validator(mode="after")
    def names_a_place(self) -> "Publish":
        """Nothing can go nowhere."""
        if not (self.repository or self.folder):
            raise ValueError("one of the keys 'repository' and 'folder' must be there")
        return self
