"""Text, image and speech behind one protocol: verbs know no modality, a modality knows no verb.

A modality is a package with these names (a module is its own instance of the protocol):

    REVISION     raised when what comes out changes
    schema       `Column`, `ENCODERS`, `TASKS`: the sections of YAML files that only this modality understands; light.
                 Each kind of task has `MEASURES`: by what models are compared; see `components.measures`. One whose
                 right answers are those of a model's own encoder has `OF_ENCODER`
                 Each kind of encoder has a key `column`, or `FORMS`: of which a corpus must have one column
    reader       column -> function that turns raw fields into a clean value, or raises `Rejected`
    prompt_of    clean value -> the prompt by which it is split, or None
    check        clean value -> one row of facts that `validate` puts expectations on
    survey       column -> what counts over all its values (`add`, `report`), for the profile; a modality may have none
    shown        clean value -> small pictures and texts, for the sheet of a page; of pictures alone
    fitness      (encoder, its folder, pairs of a source and a held-out value) -> more of the report of `fit`; and
    words_of     (encoder, report) -> the report in Markdown; a modality may have neither
    num_written  folder -> values of which a stopped `write_shards` has left shards there, and the next one goes on; a
                 modality may have none
    fit, open_encoder, vocabulary, encode, write_shards, open_samples, describe, score: see `Modality`
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# The one table of modalities.
MODALITIES: dict[str, str] = {
    "text": "components.modalities.text",
    "speech": "components.modalities.speech",
    "image": "components.modalities.image",
}


class Rejected(Exception):
    """A raw field that cannot become part of a record; the message is the reason, counted word for word."""


class Encoder(Protocol):
    """What turns a clean value into model inputs and stays fixed."""

    facts: dict[str, Any]
    """What a network must know: for text `vocab_size` and the ids `bos`, `eos`, `pad`, `unk`."""

    def encode(self, values: list[Any]) -> list[Any]:
        """Encode clean values: of each an array, or what `write_shards` of its modality takes in place of one.

        Where shards keep the names of records, there is `encode_named` besides, which takes their ids first.
        """


class Samples(Protocol):
    """Shards cut into training samples of one size, addressed by number.

    Where something was left out of them, they may have `left_out`: what, in words. Where not all samples go together in
    a batch, they have `order`, a `components.batches.Order`. What a network must know of them besides its encoder's
    facts stands in `facts`; where they were computed with the weights of a recipe, `weights_hash` among them.
    """

    def __len__(self) -> int:
        """How many samples an epoch has."""

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        """Collate the samples of these numbers into tensors; the cut may differ between epochs."""


class Modality(Protocol):
    """One kind of data; implemented by a package."""

    REVISION: int
    schema: Any

    def reader(self, column: Any) -> Callable[[dict[str, Any]], Any]:
        """A function from raw fields, by the parts of `column.raw_keys`, to a clean value, a string or bytes.

        It raises `Rejected` with a reason.
        """

    def texts_of(self, value: Any, column: Any) -> list[str]:
        """What in a clean value can be translated: texts, captions; of other values nothing."""

    def with_texts(self, value: Any, column: Any, texts: list[str]) -> dict[str, Any]:
        """The raw parts, as a `reader` takes them, of a clean value with other texts in place of `texts_of`."""

    def prompt_of(self, value: Any, column: Any) -> str | None:
        """What a clean value answers: values with the same prompt share a split. None where it answers nothing."""

    def check(self, value: Any, column: Any) -> dict[str, Any]:
        """Facts about one clean value: flat, of plain types; `whole/part` is a part of the fact `whole`."""

    def expectations(self, name: str, column: Any, language: str) -> list[tuple[str, dict[str, Any]]]:
        """Great Expectations class names and arguments over the facts of a column called `name`."""

    def fit(
        self, encoder: Any, values: Iterable[Any], held_out: Iterable[Any], parents: dict[str, Path], folder: Path
    ) -> dict[str, Any]:
        """Fit an encoder into a folder; return a report. Raises `Refused` when its gate fails.

        `parents` are the folders of the encoders and of the recipes' weights that its section refers to, by name. Where
        the section has `more_columns` beside `column`, each value is a mapping of them. What the report has under
        `pictures` (file name -> SVG) stands beside it instead, and in the journal.
        """

    def open_encoder(self, folder: Path) -> Encoder:
        """Open what `fit` left."""

    def open_foreign_encoder(self, folder: Path) -> Any:
        """Open what turns text into input of somebody else's model, in whose folder it is; a modality may have none."""

    def vocabulary(self, folder: Path) -> dict[int, str]:
        """What each id of the encoder in a folder, of `fit` or of a released model, stands for."""

    def write_shards(
        self, encoded: Iterator[tuple[str, Any]], encoder: Encoder, folder: Path
    ) -> dict[str, int | float]:
        """Write pairs of a split and what `encode` gives, in order, as shards; return counts."""

    def open_samples(self, folders: list[tuple[Path, float]], split: str, spec: Any) -> Samples:
        """Open shards, each with its weight in a mixture, as samples of the size a recipe asks for."""

    def describe(self, batch: dict[str, Any], encoder: Encoder) -> list[str]:
        """What a batch of samples says to a person, one text a sample."""

    def score(
        self, task: Any, model: Any, read: Callable[..., Any], tell: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """Score a model on a task: rows of (item, metric, value), item None for the whole task.

        What a model said is a row of (item, prompt, output).
        Rows of (item None, picture, svg) are drawings for a person, each with the name of its file.

        `read` is `components.records.iterate_records`, so a task reads what it wants; `tell` takes items done and all.
        """

    def task_texts(
        self, task: Any, read: Callable[..., Any], told: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[str, list[str]]]:
        """(item, the texts by which it is known again in training data); a modality may have none.

        Kinds of task whose items can stand in training data have `CAN_LEAK`. `told` receives what has no items here.
        """

    def overlap_index(self, texts: Mapping[str, list[str]], min_chars: int, max_chars: int) -> Any:
        """What is looked for of such texts: `digest` names it, `shares` tells how much of each item was seen."""

    def look_for(self, indices: list[Any], texts: Iterable[str]) -> list[np.ndarray]:
        """What of each of some indices stands in texts, in one pass."""


def modality(name: str) -> Modality:
    """The modality of a name."""
    return import_module(MODALITIES[name])


def schema_of(name: str) -> Any:
    """The schema of a modality alone, without its libraries."""
    return import_module(f"{MODALITIES[name]}.schema")
