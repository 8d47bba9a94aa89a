"""What a corpus says that is another one without the pairs that a pair of towers finds far apart."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from models.schema import CorpusRef, PackageRef, ShardsRef, Strict


class Filtered(Strict):
    """The accepted records of a corpus of pictures whose captions a CLIP or CLOOB finds near; all else stays.

    Captions that are too far are taken out, and records without any left become rejects. Its columns are those of the
    other corpus that are wanted, one of form `picture` and one of form `captions` among them, and one of form `score`.
    """

    kind: Literal["filtered"]
    corpus: CorpusRef
    model: PackageRef
    """Whose towers judge."""
    keep_share: float | None = Field(default=None, gt=0, le=1)
    """Of all pairs, the nearest ones: the threshold is a quantile of the scores, since cosines of one model mean
    nothing in another."""
    min_score: float | None = Field(default=None, ge=-1, le=1)
    """In place of `keep_share`: the cosine itself, where a report of this very model has told it."""
    features: ShardsRef | None = None
    """Shards of the other corpus under an encoder of the model's own tower: what is computed already stands for
    pictures. None passes each picture through the tower."""
    batch_pictures: int = Field(default=64, ge=1)
    """Pictures that go through the tower together."""
    max_records: int | None = Field(default=None, ge=1)
    """The first so many records of the other corpus; None takes all."""

    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"

    @model_validator(mode="after")
    def has_one_threshold(self) -> "Filtered":
        """A share or a cosine."""
        if (self.keep_share is None) == (self.min_score is None):
            raise ValueError("exactly one of 'keep_share' and 'min_score' must be there")
        return self

    @model_validator(mode="after")
    def features_are_of_the_corpus(self) -> "Filtered":
        """Those of other pictures say nothing."""
        if self.features is not None and self.features.partition("+")[0] != self.corpus:
            raise ValueError(f"'features' is {self.features}, expected shards of the corpus '{self.corpus}'")
        return self
