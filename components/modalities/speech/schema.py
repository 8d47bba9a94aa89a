"""What corpora, encoders and tasks of speech say in their YAML files."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from components.measures import Measure
from components.voices.schema import Speaker, Voice
from models.frames import SAMPLE_RATE_HZ, WINDOW_SAMPLES
from models.schema import CorpusRef, CorpusShare, RecipeRef, Strict

Share = Annotated[float, Field(ge=0, le=1)]

# Kaldi's set for the Corpus of Spontaneous Japanese (egs/csj/s5/local/csj_make_trans/kana2phone), as Julius has it.
CSJ_40 = (
    *("a", "i", "u", "e", "o", "a:", "i:", "u:", "e:", "o:", "N", "q"),
    *("b", "by", "ch", "d", "dy", "f", "g", "gy", "h", "hy", "j", "k", "ky", "m", "my", "n", "ny"),
    *("p", "py", "r", "ry", "s", "sh", "t", "ts", "w", "y", "z"),
)
PADDING = "<pad>"
"""The first symbol of every phoneme encoder; the blank of CTC has its id."""
BOUNDARY = "|"
"""The second symbol: the end of a word and the beginning of the next."""

FrontEnd = Literal["openjtalk", "given"]
Inventory = Literal["csj-40"] | list[str]


def phonemes_of(inventory: Inventory) -> tuple[str, ...]:
    """The phonemes of an inventory, in the order of their ids."""
    return CSJ_40 if isinstance(inventory, str) else tuple(inventory)


def require_phonemes(inventory: Inventory) -> Inventory:
    """Refuse a list of phonemes that cannot be told apart, or that takes a symbol with another meaning."""
    if isinstance(inventory, str):
        return inventory
    bad = [each for each in inventory if not each or each.split() != [each] or each in (PADDING, BOUNDARY)]
    if bad or not inventory or len(set(inventory)) != len(inventory):
        twice = sorted({each for each in inventory if inventory.count(each) > 1})
        raise ValueError(
            f"an inventory lists phonemes, each once, without white space, '{BOUNDARY}' and '{PADDING}'; "
            f"found {bad or twice or 'none'}"
        )
    return inventory


# ---- corpora ---------------------------------------------------------------------------------------------------------


FIELDS = {"recording": "audio", "transcript": "transcript", "speaker": "speaker", "phones": "phones"}
"""Form of a column -> the part that it is read from, and the raw key if the column names none."""


class Filters(Strict):
    """Which recordings and transcripts become records; one that fails is a reject with its reason."""

    min_seconds: float = Field(default=0.2, ge=WINDOW_SAMPLES / SAMPLE_RATE_HZ)
    max_seconds: float = Field(default=60.0, gt=0)
    min_level_db: float = Field(default=-60.0, le=0)
    """A recording whose root mean square lies below is silent; 0 dB is that of a full-scale square wave."""


class Expectations(Strict):
    """What `validate` demands of the clean records; the flow stops when one does not hold."""

    min_seconds: float = Field(default=0.0, ge=0)
    max_seconds: float | None = None
    seconds_mostly: Share = 1.0
    """Share of recordings that must lie within min_seconds and max_seconds."""
    min_sample_rate_hz: int = SAMPLE_RATE_HZ
    """Of the raw file: what has fewer samples a second lacks the higher frequencies, although it is resampled."""
    sample_rate_mostly: Share = 1.0
    max_clipped_share: Share = 0.01
    """Share of a recording's samples that may stand at the end of the range."""
    clipped_mostly: Share = 1.0
    max_silent_share: Share = 0.9
    """Share of a recording's frames of 20 ms that may be silent."""
    silent_mostly: Share = 1.0
    unique_mostly: Share = 1.0
    """Share of recordings whose samples no other recording has, whatever its transcript or speaker."""
    min_phonemes: int = Field(default=1, ge=0)
    phonemes_mostly: Share = 1.0
    """Share of transcripts that must have min_phonemes, and none outside of the inventory."""


class Column(Strict):
    """A column of a corpus of speech."""

    KEPT_TOGETHER: ClassVar = "speaker"
    """What shares a split, in the words of `validate`."""

    modality: Literal["speech"]
    form: Literal["recording", "transcript", "speaker", "phones"]
    """Sound; what is said in it; who says it; or when which phone is said: [phone, begin, end] in seconds."""
    field: str | None = None
    """The key of the raw row; without it `audio`, `transcript`, `speaker`, `phones`, as the form is."""
    begin: str | None = None
    """Of recordings that hold several utterances: the raw key that says where one begins, in seconds."""
    end: str | None = None
    """And where it ends."""
    front_end: FrontEnd = "openjtalk"
    """Of transcripts: Japanese text that OpenJTalk reads, or phonemes with spaces between and `|` between words."""
    inventory: Inventory = "csj-40"
    """Of transcripts: the phonemes that may occur."""
    lexicon: dict[str, str] = {}
    """Of transcripts with `front_end: given` that are written in words: word -> its phonemes."""
    may_share_splits: bool = False
    """Of speakers: whether one may be heard in training and in what is held out."""
    filters: Filters = Filters()
    expectations: Expectations = Expectations()

    _check_inventory = field_validator("inventory")(require_phonemes)

    @model_validator(mode="after")
    def keys_fit_the_form(self) -> "Column":
        """A key that would do nothing is a mistake."""
        own = {
            "recording": {"begin", "end", "filters"},
            "transcript": {"front_end", "inventory", "lexicon"},
            "speaker": {"may_share_splits"},
            "phones": set(),
        }
        known = {"modality", "form", "field", "expectations"} | own[self.form]
        if others := sorted(self.model_fields_set - known):
            raise ValueError(f"{', '.join(others)}: no key of a column of form '{self.form}'")
        if (self.begin is None) != (self.end is None):
            raise ValueError("'begin' and 'end' belong together: one is there without the other")
        if self.lexicon and self.front_end != "given":
            raise ValueError("'lexicon' belongs to 'front_end: given'")
        return self

    @property
    def raw_keys(self) -> dict[str, str]:
        """Part of the value -> key of the raw row that holds it."""
        part = FIELDS[self.form]
        keys = {part: self.field or part}
        return keys | {"begin": self.begin, "end": self.end} if self.begin and self.end else keys


# ---- encoders --------------------------------------------------------------------------------------------------------


class Waveform(Strict):
    """Plain samples, 16 bits each: what a network of speech reads."""

    kind: Literal["waveform"]
    modality: Literal["speech"] = "speech"
    column: str = "audio"


class Mfcc(Strict):
    """39 numbers a frame: 13 mel-frequency cepstral coefficients as Kaldi computes them, with two differences."""

    kind: Literal["mfcc"]


class LayerFeatures(Strict):
    """The hidden states of a layer of another recipe's network."""

    kind: Literal["layer"]
    model: RecipeRef
    family: str = "hubert"
    """Whose code computes them."""
    layer: int = Field(ge=1)
    """Counted from 1, as the HuBERT paper does; the last one's number is that of the layers."""


class Gates(Strict):
    """Clusterings that are refused, since a network would learn nothing from them."""

    max_share: float = Field(default=0.3, gt=0, le=1)
    """Of all frames that one cluster may hold."""
    max_empty: int = Field(default=0, ge=0)
    """Clusters that may hold no frame."""


class KMeans(Strict):
    """Units of speech: the number of the nearest of k centroids, for every 20 ms."""

    kind: Literal["kmeans"]
    modality: Literal["speech"] = "speech"
    column: str = "audio"
    corpora: list[CorpusShare] = Field(min_length=1)
    features: Annotated[Mfcc | LayerFeatures, Field(discriminator="kind")]
    num_clusters: int = Field(ge=2, le=1 << 16)
    frame_budget: int = Field(ge=1)
    """Frames that centroids are computed from: those of whole recordings, drawn by the seed. All are in memory, 39
    numbers of 4 bytes each for MFCC, 768 for a layer of HuBERT-base, and before that the recordings that they come
    from: about 54 MB of FLAC an hour, of 180,000 frames."""
    num_passes: int = Field(default=20, ge=1)
    """Of Lloyd's algorithm over all frames of the budget."""
    seed: int = 0
    phones: str | None = None
    """A column of form `phones`: how well units agree with these is reported of the valid split."""
    gates: Gates = Gates()

    @property
    def more_columns(self) -> list[str]:
        """What is read beside `column`."""
        return [self.phones] if self.phones else []


class Example(Strict):
    """What a voice says in the recording that a release shows its use with: none of the corpus's is published."""

    text: str = Field(min_length=1)
    engine: Voice
    speaker: Speaker = Speaker()


class Phonemes(Strict):
    """The phonemes of a transcript, with word boundaries: what a recogniser is trained on."""

    kind: Literal["phonemes"]
    modality: Literal["speech"] = "speech"
    column: str = "transcript"
    corpora: list[CorpusShare] = []
    """Their transcripts are counted for the report; the symbols come from the inventory alone."""
    front_end: FrontEnd = "openjtalk"
    """As the column of the corpora says."""
    inventory: Inventory = "csj-40"
    example: Example | None = None
    """Without it, a release shows its use with synthetic vowels."""

    _check_inventory = field_validator("inventory")(require_phonemes)

    @property
    def vocab_size(self) -> int:
        """Symbols, with the blank and the word boundary."""
        return len(phonemes_of(self.inventory)) + 2


ENCODERS = {"waveform": Waveform, "kmeans": KMeans, "phonemes": Phonemes}


# ---- tasks -----------------------------------------------------------------------------------------------------------


Decoder = Literal["greedy", "beam-max", "beam-sum"]


class Recordings(Strict):
    """Recordings that a network hears one at a time, so that nothing depends on how they are batched."""

    modality: Literal["speech"] = "speech"
    corpus: CorpusRef
    column: str = "audio"
    split: Literal["train", "valid", "test"] = "test"
    max_recordings: int | None = Field(default=None, ge=1)
    """A sample of so many, chosen by the hash of their ids; None takes all."""


class PhonemeErrorRate(Recordings):
    """Phonemes that a recogniser gets wrong, as a share of those that were said; one row per recording.

    Word boundaries do not count, except where a metric says so. The interval is of 95 %, by drawing speakers anew.
    """

    MEASURES: ClassVar = (Measure("errors", "lower", per="num_phonemes", total="phoneme_error_rate"),)
    kind: Literal["phoneme-error-rate"]
    transcript: str = "transcript"
    speaker: str | None = None
    """The column that says who speaks."""
    decoders: list[Decoder] = Field(default=["greedy", "beam-max", "beam-sum"], min_length=1)
    """The first one is what models are compared by. `greedy` takes the likeliest symbol of each frame; beams score a
    text by its likeliest path (`max`) or by the sum of all (`sum`); none knows a language model."""
    beam_size: int = Field(default=20, ge=1)
    num_resamples: int = Field(default=1000, ge=100)
    seed: int = 0


class MaskedUnitAccuracy(Recordings):
    """How often a network tells the unit of a frame that it does not hear; one row per recording."""

    MEASURES: ClassVar = (Measure("num_right", "higher", per="num_masked", total="accuracy"),)
    OF_ENCODER: ClassVar = True
    """Its right answers are the encoder's, so that models which predict other units are not compared by it."""
    kind: Literal["masked-unit-accuracy"]
    family: str = "hubert"
    """Whose objective masks frames, and counts; which frames, a recording's units alone decide."""


TASKS = {"phoneme-error-rate": PhonemeErrorRate, "masked-unit-accuracy": MaskedUnitAccuracy}
