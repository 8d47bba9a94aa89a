"""What a corpus says that is another one drawn."""

from typing import ClassVar, Literal

from pydantic import Field

from models.schema import CorpusRef, Strict


class Shapes(Strict):
    """Things of plain shapes and colours, by the primitives of Pillow."""

    kind: Literal["shapes"]
    canvas_px: int = Field(default=64, ge=16, le=1024)
    """Both sides of a picture."""
    folder: ClassVar[None] = None
    """It is read from none of the project's."""


class Drawn(Strict):
    """The accepted records of a corpus with scenes, each drawn; splits, ids, licences and sources stay.

    Its columns are one of form `picture`, and whatever columns of the other corpus are wanted beside.
    """

    kind: Literal["drawn"]
    corpus: CorpusRef
    scene_column: str = "scene"
    """The column of that corpus that says what is to be seen."""
    engine: Shapes
    seed: int = 0
    unlike: list[CorpusRef] = []
    """Corpora none of whose pictures may come again: one that is theirs, or its own before, in every pixel, is drawn
    by another lot. So a judge is held out from what others are trained on, however few ways there are to
    draw a scene."""
    max_records: int | None = Field(default=None, ge=1)
    """The first so many records of the other corpus; None takes all."""

    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"
