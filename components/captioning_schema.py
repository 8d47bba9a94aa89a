"""What a corpus says that is another one with captions of its pictures that a model wrote."""

from typing import ClassVar, Literal

from pydantic import Field

from models.schema import CorpusRef, PackageRef, Strict


class Captioned(Strict):
    """The accepted records of a corpus of pictures, each with one more caption; splits, ids, licences and sources stay.

    Its columns are those of the other corpus that are wanted, one of form `picture` and one of form `captions` among
    them; where the other corpus has no captions, the new ones are all.
    """

    kind: Literal["captioned"]
    corpus: CorpusRef
    model: PackageRef
    """Whose network writes them: a recipe of family `clip` with the layout `captioner`."""
    caption_kind: str = Field(default="generated", min_length=1)
    """What the new captions are called beside the others."""
    num_beams: int = Field(default=3, ge=1)
    """This and the lengths are BLIP's own for captions (Li et al. 2022, its configuration caption_coco.yaml)."""
    min_tokens: int = Field(default=5, ge=0)
    max_tokens: int = Field(default=20, ge=1)
    batch_pictures: int = Field(default=16, ge=1)
    """Pictures that go through the network together."""
    max_records: int | None = Field(default=None, ge=1)
    """The first so many records of the other corpus; None takes all."""

    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"
