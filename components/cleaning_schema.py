"""What a corpus says that is another one without near duplicates and without items of evaluation tasks."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from components.foreign_schema import Contamination
from models.schema import CorpusRef, Strict, TaskRef


class NearDuplicates(Strict):
    """Which records are so alike that one of them is enough: MinHash (Broder 1997) over n-grams of characters.

    Texts are compared as letters and digits alone, in one case and width. Two become candidates if one of `num_bands`
    bands of `band_rows` hashes is the same in both, which a pair of similarity s (of Jaccard, of their sets of n-grams)
    does with probability 1 - (1 - s^rows)^bands; those that agree in `min_similarity` of all hashes are near
    duplicates. datatrove's own examples have 14 bands of 8 over n-grams of words, and take every candidate.
    """

    against: list[CorpusRef] = []
    """Other corpora whose records come first: what is near to one of theirs goes."""
    ngram_chars: int = Field(default=5, ge=1)
    num_bands: int = Field(default=28, ge=1)
    band_rows: int = Field(default=4, ge=1)
    min_similarity: float = Field(default=0.5, gt=0, le=1)
    """With 5 characters, of a long text with 5 % of its characters changed here and there about 0.63 is left."""
    seed: int = 1


class Decontamination(Contamination):
    """Which records hold items of evaluation tasks, as `evaluate` understands it, but of one record alone.

    Only records of the split `train` are looked through, since the others may be the task.
    """

    tasks: list[TaskRef] = Field(min_length=1)


class Cleaned(Strict):
    """The accepted records of a corpus without near duplicates and items of tasks; its columns' `filters` come after.

    Its columns are those of the other corpus, the same in name, modality and form.
    """

    kind: Literal["cleaned"]
    corpus: CorpusRef
    near_duplicates: NearDuplicates | None = NearDuplicates()
    """null looks for none."""
    decontaminate: Decontamination | None = None
    """Without it no task is looked for."""

    max_records: ClassVar[int | None] = None
    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"

    @model_validator(mode="after")
    def is_not_compared_with_itself(self) -> "Cleaned":
        """Duplicates within the corpus are looked for in any case."""
        others: list[Any] = self.near_duplicates.against if self.near_duplicates else []
        if self.corpus in others or len(set(others)) < len(others):
            raise ValueError(f"near_duplicates.against names '{self.corpus}' itself, or a corpus twice")
        return self
