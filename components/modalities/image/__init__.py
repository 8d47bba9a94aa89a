"""Pictures and captions: the protocol of `components.modalities`, each part in a file, imported when it is used."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from components.modalities.image import schema as schema
from components.modalities.image.column_schema import CLEAN
from components.outcomes import Refused

REVISION = 1


def reader(column: schema.Column) -> Callable[[dict[str, Any]], Any]:
    """A function from raw fields to a PNG or JPEG, to captions as JSON of [kind, text], or to another clean string."""
    from components.modalities.image import captions, pictures, words

    if column.form == "picture":
        return pictures.reader(column)
    return captions.reader(column) if column.has_texts else words.reader(column)


def kinds_of(value: str) -> list[str]:
    """The kind of every caption of a clean value, in the order of `texts_of`."""
    from components.modalities.image import captions

    return [kind for kind, _ in captions.pairs_of(value)]


def open_pair(family: str, folder: Path, batch_pictures: int) -> Any:
    """A packaged pair of towers, which says what it makes of pictures and captions."""
    from components.modalities.image import similarity

    return similarity.open_pair(family, folder, batch_pictures)


def open_computed(name: str, key: str) -> Any:
    """Features that shards hold of the pictures of a corpus, for such a pair; `key` is what names them."""
    from components.modalities.image import computed

    return computed.Computed(name, key)


def texts_of(value: Any, column: schema.Column) -> list[str]:
    """Every caption or foil; of other forms nothing."""
    from components.modalities.image import captions

    return [text for _, text in captions.pairs_of(value)] if column.has_texts else []


def with_texts(value: Any, column: schema.Column, texts: list[str]) -> dict[str, Any]:
    """The raw parts of the same captions in other words; of other forms, those of the value as it is."""
    from components.modalities.image import captions

    return captions.with_texts(value, texts) if column.has_texts else {CLEAN: value}


def prompt_of(value: Any, column: schema.Column) -> str | None:
    """The group, so that all of one share a split, unless the column says otherwise."""
    return value if column.form == "group" and not column.may_share_splits else None


def shown(value: Any, column: schema.Column) -> list[bytes | str]:
    """What a person sees of a clean value on a page: a small picture, or texts."""
    from components.thumbnails import thumbnail

    if column.form == "picture":
        return [thumbnail(value)]
    return [value] if column.form == "label" else list(texts_of(value, column)) if column.form == "captions" else []


def check(value: Any, column: schema.Column) -> dict[str, Any]:
    """Facts about one clean value."""
    from components.modalities.image import checking

    return checking.check(value, column)


def expectations(name: str, column: schema.Column, language: str) -> list[tuple[str, dict[str, Any]]]:
    """Great Expectations class names and arguments over the facts of a column called `name`."""
    from components.modalities.image import checking

    return checking.expectations(name, column, language)


def fit(
    encoder: Any, values: Iterable[Any], held_out: Iterable[Any], parents: dict[str, Path], folder: Path
) -> dict[str, Any]:
    """Make the tokenizer of captions, number classes, or write down what pixels, features and latents are."""
    from components.modalities.image import labels, latents, pixels, tokens, towers

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, schema.Captions):
        return tokens.fit(encoder, values, held_out, parents, folder)
    if isinstance(encoder, schema.Labels):
        return labels.fit(encoder, values, held_out, folder)
    if isinstance(encoder, schema.Latents):
        return latents.fit(encoder, parents, folder)
    return towers.fit(encoder, parents, folder) if isinstance(encoder, schema.Tower) else pixels.fit(encoder, folder)


def open_encoder(folder: Path) -> Any:
    """What `fit` left, or what a release has of it.

    Raises:
        Refused: the folder holds no encoder of pictures or captions.
    """
    from components.modalities.image import labels, latents, pixels, tokens, towers

    parts = (pixels, towers, latents, tokens, labels)
    for part in parts:
        if (folder / part.NAME).is_file():
            return part.open_encoder(folder)
    if any((folder / name).is_file() for name in tokens.FOREIGN_NAMES):
        return tokens.ForeignCaptions(folder)
    names = ", ".join(part.NAME for part in parts)
    raise Refused(
        f"{folder} holds no encoder of pictures or captions, expected one of {names}. Run: hiraku fit ENCODER"
    )


def open_foreign_encoder(folder: Path) -> Any:
    """The tokenizer of somebody else's model, and how its pictures are prepared; diffusers keeps it in a folder."""
    own = folder / "tokenizer"
    return open_encoder(own if own.is_dir() else folder)


def vocabulary(folder: Path) -> dict[int, str]:
    """What each id of captions or labels stands for."""
    found: dict[int, str] = open_encoder(folder).vocabulary()
    return found


def write_shards(encoded: Iterator[tuple[str, Any]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write what an encoder made of records as memory-mapped arrays, and pictures as tars."""
    from components.modalities.image import shards

    return shards.write_shards(encoded, encoder, folder)


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Any:
    """Shards of labels or captions, each with its pictures, their features or latents, or pictures alone."""
    from components.modalities.image import latent_samples, samples

    part = latent_samples if spec.form in latent_samples.FORMS else samples
    return part.open_samples(folders, split, spec)


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """The label or the caption of each sample; of pictures alone their size."""
    from components.modalities.image import latent_samples, samples

    is_of_both = "labels" in batch or "mask" in batch
    return (samples if is_of_both else latent_samples).describe(batch, encoder)


def score(
    task: Any, model: Any, read: Callable[..., Any], tell: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Score a model on a task of pictures."""
    from components.modalities.image import scoring

    return scoring.score(task, model, read, tell)
