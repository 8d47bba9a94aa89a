"""What a corpus says that is another one read aloud."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from models.schema import CorpusRef, Strict


class Voice(Strict):
    """A voice of OpenJTalk with its hidden Markov models, as pyopenjtalk-plus bundles it."""

    kind: Literal["openjtalk"]
    name: Literal["mei_normal"] = "mei_normal"
    licence: str
    """Of the voice: it counts as one of the records' licences when a release is judged."""
    attribution: str
    """Whom the licence wants to be named; stands on the card."""
    folder: ClassVar[None] = None
    """It is read from none of the project's."""


class Speaker(Strict):
    """How one voice becomes another person's."""

    half_tone: float = Field(default=0.0, ge=-12, le=12)
    """Semitones up or down."""
    speed: float = Field(default=1.0, ge=0.5, le=2)
    """How fast; 1 is the voice's own."""
    warp: float = Field(default=0.55, ge=0.4, le=0.7)
    """The all-pass constant by which spectra are warped, to two decimals: the voice's own is 0.55 (at 48 kHz); above,
    the vocal tract sounds longer, below shorter."""


class Noise(Strict):
    """White noise under every recording."""

    min_snr_db: float = 15.0
    """The loudest noise: power of the speech over that of the noise, in dB."""
    max_snr_db: float = 35.0
    """The softest; each recording has one between them, drawn by its id."""

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> "Noise":
        """Else there would be nothing between them."""
        if self.min_snr_db > self.max_snr_db:
            raise ValueError("noise.min_snr_db is above noise.max_snr_db")
        return self


class Spoken(Strict):
    """The accepted records of a corpus of text, each read aloud; splits, ids, licences and sources stay.

    Its columns are of speech: one `recording`, and if wanted a `transcript` and a `speaker`.
    """

    kind: Literal["spoken"]
    corpus: CorpusRef
    text_column: str = "text"
    """The column of that corpus that is read."""
    speaker_column: str = "speaker"
    """The column of that corpus that says who reads."""
    engine: Voice
    speakers: dict[str, Speaker] = Field(min_length=1)
    """Name -> how the voice sounds; of a speaker who is not here, records become rejects."""
    noise: Noise | None = None
    margin_seconds: float = Field(default=0.1, ge=0)
    """Silence that is left before and after what is said."""
    seed: int = 0
    max_records: int | None = Field(default=None, ge=1)
    """The first so many records of the other corpus; None takes all."""

    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"
