"""What a corpus says that is the translation of another one."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from models.schema import CorpusRef, Strict

Unit = Literal["sentence", "line", "text"]
"""What is translated at once; a document, a turn or an answer is put together again from its translated units."""


class Seq2Seq(Strict):
    """An encoder-decoder of transformers, such as Marian, T5 or mBART, on this machine."""

    kind: Literal["transformers"]
    model: str = Field(pattern=r"^(path:.+|hub:[\w.-]+/[\w.-]+@[0-9a-f]{40})$")
    """`path:FOLDER`, which `save_pretrained` filled, or `hub:ORGANISATION/NAME@COMMIT`; safetensors only."""
    licence: str
    """Of the model: it counts as one of the records' licences when a release is judged."""
    prefix: str = ""
    """Before every text, as T5 wants a task."""
    source_code: str | None = None
    target_code: str | None = None
    """The languages as the tokenizer names them, where one model knows several: `eng_Latn`, `ja_XX`."""
    unit: Unit = "sentence"
    num_beams: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    batch_texts: int = Field(default=32, ge=1)

    computes: ClassVar[bool] = True
    """Whether a network of this machine translates."""

    @property
    def folder(self) -> str | None:
        """The folder that it is read from, if it is one."""
        return self.model.removeprefix("path:") if self.model.startswith("path:") else None


class Endpoint(Strict):
    """A chat endpoint that answers as OpenAI's does: `POST <url>/chat/completions`."""

    kind: Literal["openai"]
    url: str = Field(pattern=r"^https?://[^@\s]+$")
    """Without a name or password: a key comes from the environment."""
    model: str
    licence: str
    """The terms of what it answers: they count as one of the records' licences when a release is judged."""
    prompt: str = (
        "Translate what the user writes from {source} to {target}. Keep its meaning, tone, line breaks, names, numbers "
        "and code. Do not answer it, do not explain. Write nothing but the translation."
    )
    """The system's message; `{source}` and `{target}` stand for the codes of the languages."""
    key_variable: str | None = "OPENAI_API_KEY"
    """The variable of the environment that holds the key; null sends none."""
    unit: Unit = "text"
    temperature: float = Field(default=0.0, ge=0)
    max_answer_tokens: int = Field(default=2048, ge=1)
    batch_texts: int = Field(default=8, ge=1)
    """Texts in one request, as a JSON object with numbers as keys; 1 sends a text as it is."""
    num_parallel: int = Field(default=4, ge=1)
    timeout_seconds: float = Field(default=120.0, gt=0)
    max_tries: int = Field(default=6, ge=1)
    """For each request, and for each text that an answer lacks."""
    max_wait_seconds: float = Field(default=60.0, ge=0)
    """The longest wait between tries, whatever the server asks for."""

    computes: ClassVar[bool] = False

    @property
    def folder(self) -> None:
        """It is read from none."""


class Suspicion(Strict):
    """Which translations a person should look at. All bounds are our choice."""

    min_length_ratio: float = Field(default=0.15, ge=0)
    """Characters of a translation for one of the source, of sources with 20 characters or more."""
    max_length_ratio: float = Field(default=4.0, gt=0)
    max_copied_chars: int = Field(default=24, ge=4)
    """A longer run that stands in both was not translated; of kana and kanji, 10."""
    max_repeated_share: float = Field(default=0.5, gt=0, le=1)
    """Of the translation's runs of 6 characters, those that came before in it."""


class Translated(Strict):
    """The accepted records of another corpus, each text column translated; splits, ids, licences and sources stay."""

    kind: Literal["translated"]
    corpus: CorpusRef
    engine: Annotated[Seq2Seq | Endpoint, Field(discriminator="kind")]
    suspicion: Suspicion = Suspicion()
    drop_suspicious: bool = False
    """Suspicious pairs become rejects."""
    max_records: int | None = Field(default=None, ge=1)
    """The first so many records of the other corpus; None takes all."""

    licence_field: ClassVar[str] = "licence"
    source_field: ClassVar[str] = "source"
    id_field: ClassVar[str] = "id"

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> "Translated":
        """Else every pair would be suspicious."""
        if self.suspicion.min_length_ratio >= self.suspicion.max_length_ratio:
            raise ValueError("suspicion.min_length_ratio is not below suspicion.max_length_ratio")
        return self
