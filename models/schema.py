"""The words a recipe is written in: strict sections, and references that become edges of the stage graph.

The renderer of the graph knows these types and no key names: a value of one of them is a dependency wherever it
stands, so a family or a modality that needs a second parent, a judge or a filter declares a key of the right type and
is done.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TOLERANCE = 1e-6
"""Of a sum of shares, which are decimals."""
Kind = Literal["corpus", "encoder", "shards", "weights", "package", "task"]


class Strict(BaseModel):
    """A section of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def require_whole(shares: dict[str, float], key: str) -> None:
    """Refuse shares of one whole that do not add up to 1.

    Raises:
        ValueError: with their sum, and what they would be if each were divided by it.
    """
    total = sum(shares.values())
    if abs(total - 1) > TOLERANCE:
        scaled = ", ".join(f"{name} {share / total:.4g}" for name, share in shares.items())
        raise ValueError(f"the values of '{key}' add up to {total:.6g}, expected 1; in these proportions: {scaled}")


class Reference:
    """Mark a string as the name of something that another stage makes."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind


NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

CorpusRef = Annotated[Name, Reference("corpus")]
"""A corpus: its ingested records, and the ids that `validate` accepted."""


class CorpusShare(Strict):
    """One corpus and how much of it an encoder is fitted on."""

    corpus: CorpusRef
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of its records, chosen by the hash of their ids."""
    weight: float | None = Field(default=None, gt=0, le=1)
    """Share of a sample of bounded size that comes from it; those of all corpora add up to 1."""


EncoderRef = Annotated[Name, Reference("encoder")]
"""What turns a record into model inputs and stays fixed: a tokenizer, units, a frozen tower."""

ShardsRef = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*\+[a-z0-9][a-z0-9.-]*$"), Reference("shards")
]
"""A corpus and an encoder joined by `+`."""

RecipeRef = Annotated[Name, Reference("weights")]
"""Another recipe's weights. For somebody else's model (a recipe with `source`), its package."""

PackageRef = Annotated[Name, Reference("package")]
"""Another recipe's package: weights together with the encoder they need, as released."""

TaskRef = Annotated[Name, Reference("task")]
"""An evaluation task, and with it whatever the task refers to."""
