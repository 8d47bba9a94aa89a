"""Speech as the graph sees it: units that are fitted on a model's features."""

from typing import Literal

from models.schema import CorpusRef, RecipeRef, Strict


class Column(Strict):
    modality: Literal["speech"]


class Waveform(Strict):
    kind: Literal["waveform"]
    modality: Literal["speech"] = "speech"
    column: str = "audio"


class Units(Strict):
    kind: Literal["units"]
    modality: Literal["speech"] = "speech"
    column: str = "audio"
    corpora: list[CorpusRef]
    model: RecipeRef | None = None
    num_clusters: int


ENCODERS = {"waveform": Waveform, "units": Units}
TASKS: dict[str, type[Strict]] = {}
