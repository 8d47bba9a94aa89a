"""Text: the protocol of `components.modalities`, each part in a file of its own and imported when it is used."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.text import schema as schema

REVISION = 2


def reader(column: schema.Column) -> Callable[[dict[str, Any]], str]:
    """A function from raw fields to clean text, or to a clean conversation or preference as JSON."""
    from components.modalities.text import cleaning, conversations

    if column.form != "document":
        return conversations.reader(column)
    read = cleaning.reader(column)

    def read_text(parts: dict[str, Any]) -> str:
        return read(parts["text"])

    read_text.changes = read.changes  # type: ignore[attr-defined]
    return read_text


def texts_of(value: str, column: schema.Column) -> list[str]:
    """The document, or every turn and answer."""
    from components.modalities.text import conversations

    return [value] if column.form == "document" else conversations.texts_of(value)


def with_texts(value: str, column: schema.Column, texts: list[str]) -> dict[str, Any]:
    """The raw parts of the same document, conversation or preference in other words."""
    from components.modalities.text import conversations

    return {"text": texts[0]} if column.form == "document" else conversations.with_texts(value, texts)


def prompt_of(value: str, column: schema.Column) -> str | None:
    """The user's first turn of a conversation or preference; a document has none."""
    from components.modalities.text import conversations

    return None if column.form == "document" else conversations.messages_of(value)[0]["content"]


def check(value: str, column: schema.Column) -> dict[str, Any]:
    """Facts about one clean value."""
    from components.modalities.text import checking, conversations

    return checking.check(value) if column.form == "document" else conversations.check(value)


def survey(column: schema.Column) -> Any:
    """What counts over all values of a column: `add` takes each, `report` gives the numbers."""
    from components.modalities.text import surveying

    return surveying.Survey(conversations=column.form != "document")


def expectations(name: str, column: schema.Column, language: str) -> list[tuple[str, dict[str, Any]]]:
    """Great Expectations class names and arguments over the facts of a column called `name`."""
    from components.modalities.text import checking

    return checking.expectations(name, column, language)


def fit(
    encoder: schema.SentencePiece | schema.Chat,
    values: Iterable[str],
    held_out: Iterable[str],
    parents: dict[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Train a SentencePiece tokenizer into a folder, or give one a prompt format; prove its released form equal."""
    from components.modalities.text import chat, tokenizers

    if isinstance(encoder, schema.Chat):
        return chat.fit(encoder, parents[encoder.tokenizer], folder)
    return tokenizers.fit(encoder, values, held_out, folder)


def fitness(
    encoder: schema.SentencePiece | schema.Chat, folder: Path, held_out: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Tokens by source of held-out texts, and kanji that have pieces; of a prompt format nothing."""
    from components.modalities.text import tokenizer_report

    if isinstance(encoder, schema.Chat):
        return {}
    return {"by_source": tokenizer_report.by_source(folder, held_out), "kanji": tokenizer_report.kanji_coverage(folder)}


def words_of(encoder: schema.SentencePiece | schema.Chat, report: dict[str, Any]) -> str:
    """What `fit` found, in Markdown; of a prompt format nothing."""
    from components.modalities.text import tokenizer_report

    return "" if isinstance(encoder, schema.Chat) else tokenizer_report.words(encoder, report)


def open_encoder(folder: Path) -> Any:
    """What `fit` left."""
    from components.modalities.text import chat, tokenizers

    return chat.open_encoder(folder) if chat.is_chat(folder) else tokenizers.open_encoder(folder)


def open_foreign_encoder(folder: Path) -> Any:
    """The tokenizer in somebody else's folder."""
    from components.modalities.text import foreign

    return foreign.ForeignEncoder(folder)


def vocabulary(folder: Path) -> dict[int, str]:
    """The pieces of a tokenizer's SentencePiece model by their ids."""
    from components import tokenizer_json

    model = (folder / tokenizer_json.MODEL_NAME).read_bytes()
    return {number: piece.piece for number, piece in enumerate(tokenizer_json.parse(model).pieces)}


def num_written(folder: Path) -> int:
    """The values that a run which was stopped has written as shards into a folder."""
    from components.modalities.text import shards

    return shards.num_written(folder)


def write_shards(encoded: Iterator[tuple[str, np.ndarray]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write (split, token ids) pairs as memory-mapped shards."""
    from components.modalities.text import shards

    return shards.write_shards(encoded, encoder, folder)


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Any:
    """Shards as windows of tokens, or as whole conversations, preferences or prompts: as the recipe's samples say."""
    from components.modalities.text import packing, shards

    return (
        shards.open_samples(folders, split, spec)
        if spec.form == "windows"
        else packing.open_samples(folders, split, spec)
    )


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """The text of each sample, ends of documents marked."""
    from components.modalities.text import windows

    return windows.describe(batch, encoder)


def task_texts(
    task: Any, read: Callable[..., Any], told: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, list[str]]]:
    """(item, the texts by which it is known again in training data), of kinds of task that have `CAN_LEAK`.

    `told` receives what of a task has no items here, and why.
    """
    from components.modalities.text import leaking

    return leaking.task_texts(task, read, told)


def overlap_index(texts: Mapping[str, list[str]], min_chars: int, max_chars: int) -> Any:
    """The stretches of characters of a task's texts, to be looked for."""
    from components.modalities.text import overlap

    return overlap.Index(texts, min_chars, max_chars)


def look_for(indices: list[Any], texts: Iterable[str]) -> list[np.ndarray]:
    """Which stretches of each of some indices stand in texts, bool [stretches]."""
    from components.modalities.text import overlap

    return overlap.look(indices, texts)


def items_in(index: Any, text: str) -> dict[str, float]:
    """Item -> the share of its stretches that stand in a text, of those that have one there."""
    return dict(index.items_in(text))


def shingles(text: str, num_chars: int) -> Iterator[np.ndarray]:
    """Hashes of every stretch of a text, piece by piece, uint64 [any number]."""
    from components.modalities.text import overlap

    return overlap.shingles(text, num_chars)


def score(
    task: Any, model: Any, read: Callable[..., Any], tell: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Score a model on a task of text."""
    from components.modalities.text import answering, comparing, harness, sampling, scoring

    if isinstance(task, schema.Harness):
        return harness.score(task, model, read, tell)
    if isinstance(task, schema.Samples):
        return sampling.score(task, model, read, tell)
    if isinstance(task, schema.Answering):
        return answering.score(task, model, read, tell)  # type: ignore[arg-type]
    own = comparing if isinstance(task, schema.PreferenceAccuracy) else scoring
    return own.score(task, model, read, tell)
