"""Scores of towers on pictures and captions."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.image import exhibits
from components.modalities.image.captions import first_of
from components.modalities.image.computed import NUM_CHECKED, Computed
from components.modalities.image.generation_schema import Sampled
from components.modalities.image.naming import score_labelling
from components.modalities.image.reading import Read, Row, Tell, picture_batches, records_of, thumbnails_of
from components.modalities.image.similarity import Pair, ranks
from components.modalities.image.task_schema import (
    CaptionProbe,
    Labelling,
    Pictures,
    Reconstruction,
    Retrieval,
    ZeroShot,
    templates_of,
)
from components.outcomes import Refused

if TYPE_CHECKING:
    from torch import Tensor

RECALLS = (1, 5, 10)
TOP = 5


def score(task: Pictures | Sampled, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Score a model on a task of pictures.

    Args:
        task: the task's section.
        model: `network` (on its device, in evaluation mode) and `encoder` (of captions, or of labels).
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many pictures are done, of how many.

    Yields:
        Rows of (item, metric, value), and pictures for a person: (item None, picture, svg).

    Raises:
        Refused: there are too few pictures, the model is of another kind, or it computes no numbers.
    """
    if isinstance(task, Sampled):
        from components.modalities.image.judging import score_generated

        yield from score_generated(task, model, read, tell)
        return
    if isinstance(task, Reconstruction):
        from components.modalities.image.restoring import score_reconstruction

        yield from score_reconstruction(task, model, read, tell)
        return
    columns = {
        ZeroShot: ("label", "name"),
        Retrieval: ("captions", "group"),
        CaptionProbe: ("captions", "foils"),
        Labelling: ("label",),
    }[type(task)]
    names = [name for key in columns if (name := getattr(task, key)) is not None]
    if isinstance(task, Labelling):
        yield from score_labelling(task, model, read, tell)
        return
    pair = Pair(model, task.family, task.batch_pictures)
    records = records_of(task, names, read)
    if isinstance(task, ZeroShot):
        yield from _zero_shot(task, pair, records, read, tell)
    elif isinstance(task, Retrieval):
        yield from _retrieval(task, pair, records, read, tell)
    elif isinstance(task, CaptionProbe):
        yield from _caption_probe(task, pair, records, read, tell)


def features_of(pair: Pair, task: Pictures, records: list[Row], read: Read, tell: Tell) -> tuple["Tensor", np.ndarray]:
    """What a pair of towers makes of the pictures of some records, and what tells equal ones.

    Where shards hold features of the task's corpus, pictures do not pass through the tower again.

    Returns:
        float32 [records, projection], of unit length; a digest of each picture [records].
    """
    import torch

    computed = [name for name in pair.features if name.partition("+")[0] == task.corpus]
    if computed:
        return _computed(Computed(computed[0], "evaluate.features"), pair, task, records, read)

    rows: list[Any] = [None] * len(records)
    digests = [""] * len(records)
    for places, pictures in picture_batches(task, records, read, tell):
        for place, row, picture in zip(places, pair.of_pictures(pictures), pictures, strict=True):
            rows[place], digests[place] = row, hashlib.blake2b(picture, digest_size=16).hexdigest()
    return torch.stack(rows), np.array(digests)


def _computed(
    found: Computed, pair: Pair, task: Pictures, records: list[Row], read: Read
) -> tuple["Tensor", np.ndarray]:
    """The same by features of shards, of which the first few are held against the pair's own tower."""
    numbers = {row["id"]: number for number, row in enumerate(read(task.corpus, [], splits={task.split}))}
    chosen = np.array([numbers[record["id"]] for record in records])
    first = [row[task.picture] for row in islice(read(task.corpus, [task.picture], splits={task.split}), NUM_CHECKED)]
    found.require_own(pair, task.split, np.arange(len(first)), first)
    return pair.of_features(found.features(task.split, chosen)), found.digests(task.split, chosen)


def rows_of(item: str | None, values: Mapping[str, float]) -> Iterator[Row]:
    """A row for each metric."""
    for metric, value in values.items():
        yield {"item": item, "metric": metric, "value": float(value)}


# ---- classes by their names ------------------------------------------------------------------------------------------


def class_features(pair: Pair, names: list[str], templates: tuple[str, ...]) -> "Tensor":
    """float32 [classes, projection]: normalise each sentence, take the mean over templates, normalise."""
    import torch

    texts = [template.replace("{}", name) for name in names for template in templates]
    found = pair.of_texts(texts).view(len(names), len(templates), -1).mean(dim=1)
    return torch.nn.functional.normalize(found, dim=-1)


def _zero_shot(task: ZeroShot, pair: Pair, records: list[Row], read: Read, tell: Tell) -> Iterator[Row]:
    import torch

    names = {record[task.label]: record[task.name or task.label] for record in records}
    labels = sorted(names)
    if len(labels) < 2:
        raise Refused(
            f"All pictures in the split '{task.split}' of corpus '{task.corpus}' are of one class ({labels[0]}), "
            "expected two or more to choose from. Change the key 'label' or 'split' of the task."
        )
    wanted = torch.tensor([labels.index(record[task.label]) for record in records])
    classes = class_features(pair, [names[label] for label in labels], templates_of(task.templates))
    pictures, _ = features_of(pair, task, records, read, tell)
    near = pictures @ classes.T
    own = near.gather(1, wanted[:, None])
    # A class that is as near stands before the right one.
    place = (near >= own).sum(dim=1).numpy()
    for record, rank in zip(records, place.tolist(), strict=True):
        yield from rows_of(record["id"], {"is_right": rank == 1, f"is_right_{TOP}": rank <= TOP})
    counts = np.bincount(wanted.numpy(), minlength=len(labels))
    right = np.bincount(wanted.numpy(), place == 1, minlength=len(labels))
    totals = {
        "top_1": (place == 1).mean(),
        f"top_{TOP}": (place <= TOP).mean(),
        "mean_class_top_1": (right / counts).mean(),
        "num_classes": len(labels),
        "num_pictures": len(records),
    }
    yield from rows_of(None, totals)
    yield exhibits.confusion([names[label] for label in labels], wanted.numpy(), near.argmax(dim=1).numpy())


# ---- retrieval -------------------------------------------------------------------------------------------------------


def _retrieval(task: Retrieval, pair: Pair, records: list[Row], read: Read, tell: Tell) -> Iterator[Row]:
    captions = [first_of(record[task.captions], task.caption_kind) for record in records]
    records = [record for record, text in zip(records, captions, strict=True) if text is not None]
    texts = [text for text in captions if text is not None]
    if len(records) < 2:
        raise Refused(
            f"{len(records)} pictures in the split '{task.split}' of corpus '{task.corpus}' have a caption of the kind "
            f"'{task.caption_kind}', expected two or more. Change the key 'caption_kind' of the task."
        )
    pictures, digests = features_of(pair, task, records, read, tell)
    keys = [np.array(texts), digests]
    if task.group is not None:
        keys.append(np.array([record[task.group] for record in records]))
    words = pair.of_texts(texts)
    found = {"text_to_image": ranks(words, pictures, keys), "image_to_text": ranks(pictures, words, keys)}
    for number, record in enumerate(records):
        for way, places in found.items():
            place = int(places[number])
            values = {f"{way}_reciprocal_rank": 1 / place} | {f"{way}_r{size}": place <= size for size in RECALLS}
            yield from rows_of(record["id"], values)
    for way, places in found.items():
        totals = {f"{way}_r{size}": float((places <= size).mean()) for size in RECALLS}
        yield from rows_of(None, totals | {f"{way}_mrr": float((1 / places).mean())})
    num_twins = sum(len(key) - len(np.unique(key)) for key in keys)
    counts = {"num_pictures": len(records), "num_left_out": len(captions) - len(records), "num_twins": num_twins}
    yield from rows_of(None, counts)
    yield exhibits.retrieved(
        texts, lambda places: thumbnails_of(task, [records[place] for place in places], read), words, pictures, keys
    )
    yield exhibits.similarities(texts, words, pictures)


# ---- probes ----------------------------------------------------------------------------------------------------------


def _caption_probe(task: CaptionProbe, pair: Pair, records: list[Row], read: Read, tell: Tell) -> Iterator[Row]:
    foils = [first_of(record[task.foils], task.foil_kind) for record in records]
    chosen = [(record, foil) for record, foil in zip(records, foils, strict=True) if foil is not None]
    if not chosen:
        kind = f" of the kind '{task.foil_kind}'" if task.foil_kind else ""
        raise Refused(
            f"No picture in the split '{task.split}' of corpus '{task.corpus}' has a false caption{kind} in the column "
            f"'{task.foils}'. Change the keys 'foils' and 'foil_kind' of the task."
        )
    true = pair.of_texts([first_of(record[task.captions], None) or "" for record, _ in chosen])
    false = pair.of_texts([foil for _, foil in chosen])
    pictures, _ = features_of(pair, task, [record for record, _ in chosen], read, tell)
    gaps = ((pictures * true).sum(dim=1) - (pictures * false).sum(dim=1)).tolist()
    for (record, _), gap in zip(chosen, gaps, strict=True):
        yield from rows_of(record["id"], {"is_right": gap > 0, "gap": gap})
    right = [gap > 0 for gap in gaps]
    totals = {
        "accuracy": sum(right) / len(right),
        "mean_gap": sum(gaps) / len(gaps),
        "num_pictures": len(gaps),
        "num_left_out": len(records) - len(gaps),
    }
    yield from rows_of(None, totals)
