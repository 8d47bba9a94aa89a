"""What corpora, encoders and tasks of text say in their YAML files."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from components.generators import JUDGES
from components.measures import Measure
from components.modalities.text.harness_schema import Harness
from components.modalities.text.masking import Kind as Masked
from components.modalities.text.released_tokenizers import RELEASED
from models.schema import CorpusRef, CorpusShare, EncoderRef, Strict, require_whole

Share = Annotated[float, Field(ge=0, le=1)]
DISTINCT_CHARS = (1, 2, 4)
"""Of `samples`: stretches of so many characters are counted by `distinct_n`."""


PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "document": (),
    "conversation": (("prompt", "response"), ("messages",)),
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
}
"""Form of a column -> the parts that it may be read from, the usual ones first."""


class Filters(Strict):
    """How raw text becomes clean text; a document that fails is a reject with its reason."""

    unicode_form: Literal["NFC", "NFKC", "none"] = "NFC"
    min_chars: int = Field(default=1, ge=1)
    max_chars: int | None = None
    min_japanese_share: Share = 0.0
    """Share of letters that are kana or kanji; punctuation, digits and white space do not count."""
    mask_personal_information: bool | list[Masked] = False
    """E-mail addresses and numbers of telephones, postal codes and cards are replaced by marks; or some kinds alone."""
    drop_adult_content: bool = False
    adult_words_per_1000_chars: float = Field(default=2.0, ge=0)
    """How many words of hojichar's lists `drop_adult_content` suffers; with 0, as hojichar has it, one word rejects,
    which takes out two of three novels of Aozora Bunko."""
    drop_violence: bool = False
    """More words of hojichar's list of threats than `adult_words_per_1000_chars` allows."""
    max_repeated_share: Share | None = None
    """The share of stretches of 10 letters and digits that stand in the text before; after the duplicate n-grams of
    Gopher (arXiv 2112.11446, table A1), which are of words."""
    max_ellipsis_share: Share | None = None
    """The share of lines that end with an ellipsis (hojichar; Gopher, arXiv 2112.11446, table A1, has 0.3)."""
    max_run_chars: int | None = Field(default=None, ge=2)
    """The longest run of one and the same letter or digit."""
    drop_advertisements: bool = False
    drop_headers_and_footers: bool = False
    drop_damaged: bool = False
    """Documents with U+FFFD, control characters or the marks of a wrong decoding go, instead of failing `validate`."""


class Expectations(Strict):
    """What `validate` demands of the clean records; the flow stops when one does not hold."""

    min_chars: int = 1
    max_chars: int | None = None
    length_mostly: Share = 1.0
    """Share of records that must lie within min_chars and max_chars."""
    min_japanese_share: Share = 0.0
    japanese_mostly: Share = 1.0
    """Share of records that must reach min_japanese_share."""
    max_damaged_share: Share = 0.0
    """Share of records allowed to hold U+FFFD or the marks of a wrong decoding."""


class Speakers(Strict):
    """What stands before every turn of a conversation that is written as one text."""

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class Column(Strict):
    """A column of text in a corpus."""

    modality: Literal["text"]
    form: Literal["document", "conversation", "preference"] = "document"
    """One text; turns of user and assistant, who has the last word; or a prompt with a better and a worse answer."""
    field: str = "text"
    """The key of the raw row that holds the text of a document."""
    fields: dict[Literal["messages", "prompt", "response", "chosen", "rejected"], str] = {}
    """The keys of the raw row that hold the parts of the other forms. A conversation has `messages`, a list of rows
    with `role` (`user`, `assistant`) and `content`, or `prompt` and `response`; a preference has `prompt` (a text, or
    messages), `chosen` and `rejected`. Empty: the keys are named like the parts."""
    speakers: Speakers | None = None
    """Of conversations that are one text each: `messages`, or `chosen` and `rejected`, which differ in the last turn
    alone and have no `prompt` beside them."""
    filters: Filters = Filters()
    expectations: Expectations = Expectations()

    @model_validator(mode="after")
    def fields_fit_the_form(self) -> "Column":
        """A part that the form has not would be read by nobody."""
        ways = PARTS[self.form]
        if self.fields and not any(set(self.fields) == set(way) for way in ways):
            expected = " or ".join(", ".join(way) for way in ways) or "no 'fields' but 'field'"
            raise ValueError(f"a {self.form} has {expected}; found {', '.join(self.fields)}")
        is_pair = set(self.fields) == {"chosen", "rejected"}
        fits = is_pair or set(self.fields) == {"messages"} if self.speakers else not is_pair
        if not fits:
            raise ValueError("'speakers' belongs to 'fields' of messages, or of chosen and rejected without a prompt")
        return self

    @property
    def raw_keys(self) -> dict[str, str]:
        """Part of the value -> key of the raw row that holds it."""
        if self.form == "document":
            return {"text": self.field}
        return {str(part): key for part, key in self.fields.items()} or {part: part for part in PARTS[self.form][0]}


class SentencePiece(Strict):
    """A SentencePiece tokenizer, released as a `tokenizer.json` that gives the same ids."""

    FITS_TEXTS: ClassVar = True
    """It may be fitted on the texts of a column of another modality, such as captions."""
    kind: Literal["sentencepiece"]
    modality: Literal["text"] = "text"
    column: str = "text"
    corpora: list[CorpusShare] = Field(min_length=1)
    sample_chars: int | None = Field(default=None, ge=1)
    """Fit on a uniform sample of so many characters, so that memory has a bound; None takes all of the shares. Each
    corpus gives its `weight` of it; without weights, what it has among all."""
    released_as: str | None = None
    """A model of the paper, of `released_tokenizers.RELEASED`, whose settings the report puts beside these."""
    algorithm: Literal["bpe", "unigram"] = "bpe"
    vocab_size: int = Field(ge=300)
    character_coverage: float = Field(default=0.9999, gt=0.9, le=1)
    byte_fallback: bool = True
    split_digits: bool = True
    max_piece_chars: int = 16
    symbols: list[str] = ["\n"]
    """Pieces that are never split, after the four special ones."""
    num_threads: int = Field(default=1, ge=1)
    """A unigram vocabulary depends on it, so it is part of the recipe."""

    @model_validator(mode="after")
    def weights_add_up(self) -> "SentencePiece":
        """Weights are those of one sample, and leave nothing open."""
        weights = [part.weight for part in self.corpora]
        if weights == [None] * len(weights):
            return self
        if self.sample_chars is None or None in weights:
            raise ValueError("'weight' belongs to 'sample_chars', and to every corpus or to none")
        require_whole({part.corpus: part.weight or 0.0 for part in self.corpora}, "weight")
        return self

    @field_validator("released_as")
    @classmethod
    def is_released(cls, name: str | None) -> str | None:
        """A released tokenizer is a row of a table."""
        if name is not None and name not in RELEASED:
            raise ValueError(f"no such tokenizer; known are {', '.join(RELEASED)}")
        return name

    @property
    def memory_ratio(self) -> int | None:
        """Bytes of memory that fitting takes for each byte of text; None where it has not been measured."""
        return {"bpe": 20}.get(self.algorithm)  # 0.48 GB for 24 MB


class Chat(Strict):
    """A tokenizer with a prompt format: turns of a conversation to ids, and which of them the assistant says.

    The defaults are those of the paper's 4b models. Sources: the cards of bilingual-gpt-neox-4b-instruction-sft and
    japanese-gpt-neox-3.6b-instruction-sft on the Hugging Face Hub.
    """

    FORMS: ClassVar = ("conversation", "preference")
    """Of the columns that it encodes: of a corpus, whichever it has."""
    kind: Literal["chat"]
    modality: Literal["text"] = "text"
    tokenizer: EncoderRef
    """Whose pieces it has."""
    user_prefix: str = "ユーザー: "
    assistant_prefix: str = "システム: "
    separator: str = "\n"
    """Stands after every turn but the last."""
    newline: str = "\n"
    """Stands for a line feed inside a turn; the 3.6b models have `<NL>`."""


class HeldOutBits(Strict):
    """Bits per character and byte, and perplexity, on documents that no training saw; one row per document.

    Tokens per character do not count the token that ends a document.
    """

    MEASURES: ClassVar = (
        Measure("bits", "lower", per="num_characters", total="bits_per_character"),
        Measure("bits", "lower", per="num_bytes", total="bits_per_byte", told_only=True),
        Measure("bits", "lower", per="num_tokens", total="perplexity", base=2.0, told_only=True),
        Measure("num_tokens", "lower", per="num_characters", total="tokens_per_character", less=1.0, told_only=True),
    )
    CAN_LEAK: ClassVar = True
    kind: Literal["held-out-bits"]
    modality: Literal["text"] = "text"
    corpus: CorpusRef
    column: str = "text"
    split: Literal["valid", "test"] = "test"
    max_documents: int | None = None
    """A sample of so many, chosen by the hash of their ids; None takes all."""
    stride_share: float = Field(default=0.5, gt=0, le=1)
    """Windows overlap so that each token has at least 1 - stride_share of the context before it."""
    window_tokens: int | None = Field(default=None, ge=2)
    """The context to score with; None takes the network's longest."""


ENCODERS = {"sentencepiece": SentencePiece, "chat": Chat}


class PreferenceAccuracy(Strict):
    """How often the better of two answers to a prompt is told from the worse one; one row per pair."""

    MEASURES: ClassVar = (Measure("accuracy", "higher"),)
    CAN_LEAK: ClassVar = True

    kind: Literal["preference-accuracy"]
    modality: Literal["text"] = "text"
    corpus: CorpusRef
    column: str = "preference"
    split: Literal["valid", "test"] = "test"
    sources: list[str] = []
    """Only pairs whose record's source is one of these; empty takes all."""
    max_pairs: int | None = Field(default=None, ge=1)
    """A sample of so many, chosen by the hash of their ids; None takes all."""


class FewShot(Strict):
    """How a model without a prompt format is asked: the best of these on the valid split."""

    numbers: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 4], min_length=1)
    """Examples before the question; those that have no room in the network's context are left out, the first ones."""
    formats: list[str] = Field(
        default=[
            "質問: {prompt}\n答え: {response}\n",
            "「{prompt}」と聞かれて、「{response}」と答えました。",
            "{prompt}{response}",
        ],
        min_length=1,
    )
    """How an example is written. An answer ends before the first character that stands after `{response}`; where none
    stands there, after the first `sentence_end`."""
    sentence_end: str = "。"
    max_valid_items: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def formats_have_places(self) -> "FewShot":
        """Question and answer must stand somewhere."""
        for each in self.formats:
            if not 0 <= each.find("{prompt}") < each.find("{response}"):
                raise ValueError(f"a format has {{prompt}} and, after it, {{response}}: {each!r}")
        return self


class Answering(Strict):
    """Questions that a model answers."""

    CAN_LEAK: ClassVar = True
    modality: Literal["text"] = "text"
    corpus: CorpusRef
    column: str = "conversation"
    split: Literal["valid", "test"] = "test"
    max_items: int | None = Field(default=None, ge=1)
    """A sample of so many, chosen by the hash of their ids; None takes all."""
    max_new_tokens: int = Field(default=40, ge=1)
    """An answer has no more; a question that leaves no room for so many is left out."""
    few_shot: FewShot = FewShot()


class ExactMatch(Answering):
    """How often a model's most likely answer is the corpus's own; one row per question."""

    MEASURES: ClassVar = (Measure("exact_match", "higher"),)
    kind: Literal["exact-match"]


class GeneratedQuality(Answering):
    """How good answers are by rules that nobody learnt; one row per question."""

    MEASURES: ClassVar = (
        Measure("quality", "higher"),
        Measure("repetition", "lower", told_only=True),
        Measure("ended", "higher", told_only=True),
    )
    kind: Literal["generated-quality"]
    judge: str
    """Of `components.generators.JUDGES`: the world whose rules they are."""
    temperature: float = Field(default=0.0, ge=0)
    """Answers are sampled at this temperature; 0 takes the most likely one."""
    seed: int = 0

    @field_validator("judge")
    @classmethod
    def is_known(cls, judge: str) -> str:
        """A judge is a row of a table."""
        if judge not in JUDGES:
            raise ValueError(f"no such judge; known are {', '.join(JUDGES)}")
        return judge


class Samples(Strict):
    """What a model writes by itself: how much of it repeats, and how varied it is; one row per sample.

    Beside it stand the same figures of what people wrote, cut to the same length, where prompts come from a corpus: a
    model that repeats more than they do is stuck, one that is more varied rambles. Stretches are of characters, so
    models of different tokenizers are compared. `repeated_share` is the share of a sample's stretches of 8 characters,
    about 4 words, that stood in it before (Welleck et al. 2020, arXiv 1908.04319, count 4 tokens); `distinct_n` the
    different stretches of n characters of all samples together, by how many there are (Li et al. 2016, arXiv
    1510.03055).
    """

    MEASURES: ClassVar = (
        Measure("repeated_share", "lower"),
        Measure("ended", "higher", told_only=True),
        Measure("reference_repeated_share", "lower", told_only=True),
        *(
            Measure(f"{total}_of_others", "higher", total=total, is_of_others=True, told_only=True)
            for whose in ("", "reference_")
            for total in (f"{whose}distinct_{length}" for length in DISTINCT_CHARS)
        ),
    )
    kind: Literal["samples"]
    modality: Literal["text"] = "text"
    corpus: CorpusRef | None = None
    """Whose documents give the prompts; without it, samples begin like a document."""
    column: str = "text"
    split: Literal["valid", "test"] = "test"
    prompt_chars: int = Field(default=20, ge=1)
    """So many characters begin a prompt; shorter documents give none."""
    num_samples: int = Field(default=100, ge=2)
    """Of documents, those with the smallest hashes of their ids."""
    max_new_tokens: int = Field(default=100, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    """1 shows the model's own distribution; 0 takes the most likely token."""
    seed: int = 0


TASKS = {
    "held-out-bits": HeldOutBits,
    "samples": Samples,
    "preference-accuracy": PreferenceAccuracy,
    "exact-match": ExactMatch,
    "generated-quality": GeneratedQuality,
    "harness": Harness,
}
