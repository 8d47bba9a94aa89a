"""Speech: the protocol of `components.modalities`, each part in a file of its own and imported when it is used."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.speech import schema as schema
from components.outcomes import Refused

REVISION = 2


def reader(column: schema.Column) -> Callable[[dict[str, Any]], Any]:
    """A function from raw fields to FLAC of 16 kHz, to a clean transcript, to a speaker, or to phones as JSON."""
    from components.modalities.speech import recordings, transcripts

    return recordings.reader(column) if column.form == "recording" else transcripts.reader(column)


def texts_of(_value: Any, _column: schema.Column) -> list[str]:
    """Nothing: what is said is not translated apart from who says it.

    Raises:
        Refused: always.
    """
    raise Refused(
        "A column of speech cannot be translated. Translate a corpus with a column of modality 'text', and name it in "
        "a corpus whose source is of kind 'spoken'."
    )


def with_texts(_value: Any, column: schema.Column, _texts: list[str]) -> dict[str, Any]:
    """As `texts_of`."""
    return {"texts": texts_of(_value, column)}


def prompt_of(value: Any, column: schema.Column) -> str | None:
    """The speaker, so that all recordings of one share a split, unless the column says otherwise."""
    return value if column.form == "speaker" and not column.may_share_splits else None


def check(value: Any, column: schema.Column) -> dict[str, Any]:
    """Facts about one clean value."""
    from components.modalities.speech import checking

    return checking.check(value, column)


def expectations(name: str, column: schema.Column, language: str) -> list[tuple[str, dict[str, Any]]]:
    """Great Expectations class names and arguments over the facts of a column called `name`."""
    from components.modalities.speech import checking

    return checking.expectations(name, column, language)


def fit(
    encoder: schema.Waveform | schema.KMeans | schema.Phonemes,
    values: Iterable[Any],
    held_out: Iterable[Any],
    parents: dict[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Compute the centroids of units, or write down what waveforms and phonemes are."""
    from components.modalities.speech import phonemes, units, waveforms

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, schema.KMeans):
        return units.fit(encoder, values, held_out, parents, folder)
    if isinstance(encoder, schema.Phonemes):
        return phonemes.fit(encoder, values, held_out, folder)
    return waveforms.fit(folder)


def open_encoder(folder: Path) -> Any:
    """What `fit` left, or what a release has of it.

    Raises:
        Refused: the folder holds no encoder of speech.
    """
    from components.modalities.speech import phonemes, units, waveforms

    for part in (units, phonemes, waveforms):
        for place in (folder, folder / "units"):
            if (place / part.NAME).is_file():
                return part.open_encoder(place)
    names = ", ".join(part.NAME for part in (units, phonemes, waveforms))
    raise Refused(f"{folder} holds no encoder of speech, expected one of {names}. Run: hiraku fit ENCODER")


def vocabulary(folder: Path) -> dict[int, str]:
    """What each id of phonemes or units stands for."""
    return open_encoder(folder).vocabulary()


def num_written(folder: Path) -> int:
    """The records that a run which was stopped has written as shards into a folder."""
    from components.modalities.speech import shards

    return shards.num_written(folder)


def write_shards(encoded: Iterator[tuple[str, np.ndarray]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write (split, array) pairs as arrays that training maps into memory."""
    from components.modalities.speech import shards

    return shards.write_shards(encoded, encoder, folder)


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Any:
    """Shards of units or phonemes, each with its waveforms, as groups of recordings of about equal length."""
    from components.modalities.speech import samples

    return samples.open_samples(folders, split, spec)


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """What is heard in each recording: its length, and its phonemes or units."""
    from components.modalities.speech import samples

    return samples.describe(batch, encoder)


def score(
    task: Any, model: Any, read: Callable[..., Any], tell: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Score a model on a task of speech."""
    from components.modalities.speech import scoring

    return scoring.score(task, model, read, tell)
