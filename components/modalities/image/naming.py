"""How well an image tower with a head names what a picture shows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from components.modalities.image.cutting import normalised, pixels_of
from components.modalities.image.labels import LABEL
from components.modalities.image.reading import Read, Row, Tell, picture_batches, records_of
from components.modalities.image.task_schema import Labelling
from components.outcomes import Refused
from models.pixels import MEAN, STD


def score_labelling(task: Labelling, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Rows of (item, metric, value): wrong names of each picture, and shares over all.

    Raises:
        Refused: there is no picture; the model has no head that names classes.
    """
    if getattr(model.encoder, "kind", "") != "labels":
        raise Refused(
            "A task of kind 'labelling' scores image towers whose encoder is of kind 'labels'; found one of kind "
            f"'{getattr(model.encoder, 'kind', 'something else')}'. Name another task under 'evaluate.tasks'."
        )
    is_many, num_labels = model.encoder.facts["many"], model.encoder.facts["num_labels"]
    groups: dict[str, int] = model.encoder.facts.get("groups", {})
    num_right = dict.fromkeys(groups, 0)
    records = records_of(task, [task.label], read)
    totals = dict.fromkeys(("errors", "num_labels", "num_named", "num_hits", "num_all_right"), 0)
    for places, pictures in picture_batches(task, records, read, tell):
        said = logits_of(model.network, pictures, task.family)
        for place, names in zip(places, _named(said, groups, is_many), strict=True):
            record = records[place]
            wanted = np.zeros(num_labels, bool)
            wanted[model.encoder.encode([record[task.label]])[0][LABEL]] = True
            # Of one class, a wrong name is one error, not one that is missing and one too many.
            is_free = is_many and not groups
            errors = int((wanted ^ names).sum()) if is_free else int((wanted & ~names).sum())
            for group, own in parts_of(wanted & names, groups):
                num_right[group] += int(own.any())
            values = {"errors": errors, "num_labels": int(wanted.sum())}
            counts = values | {
                "num_named": int(names.sum()),
                "num_hits": int((wanted & names).sum()),
                "num_all_right": int(errors == 0),
            }
            totals = {key: value + counts[key] for key, value in totals.items()}
            for metric, value in values.items():
                yield {"item": record["id"], "metric": metric, "value": float(value)}
    shares: dict[str, float] = {
        "error_rate": totals["errors"] / totals["num_labels"],
        "precision": totals["num_hits"] / max(1, totals["num_named"]),
        "recall": totals["num_hits"] / totals["num_labels"],
        "all_right": totals["num_all_right"] / len(records),
        "num_labels": totals["num_labels"],
        "num_pictures": len(records),
    } | {f"{group}_accuracy": count / len(records) for group, count in num_right.items()}
    for metric, share in shares.items():
        yield {"item": None, "metric": metric, "value": float(share)}


def logits_of(network: Any, pictures: list[bytes], family: str) -> np.ndarray:
    """float32 [pictures, names]: what a head says of clean pictures.

    Raises:
        Refused: it computes no numbers.
    """
    import torch

    from models import part_of

    size_px = part_of(family, "features").tower_size_px(network)
    pixels = normalised(pixels_of(pictures, size_px, "bilinear"), MEAN, STD)
    with torch.inference_mode():
        logits = network(pixel_values=pixels.to(next(network.parameters()).device)).logits.float().cpu()
    if not bool(logits.isfinite().all()):
        raise Refused(
            "The network computes no numbers of some pictures: its weights are damaged or training diverged. Look at "
            "the curve, then train again with a lower 'optimizer.learning_rate'."
        )
    return np.asarray(logits.numpy())


def parts_of(rows: np.ndarray, groups: dict[str, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Each group with its part of the last axis."""
    end = 0
    for group, size in groups.items():
        end += size
        yield group, rows[..., end - size : end]


def _named(logits: np.ndarray, groups: dict[str, int], is_many: bool) -> np.ndarray:
    """A truth value [pictures, classes]: what the head names: the likeliest, of all or of each group, or the likely."""
    if is_many and not groups:
        return np.asarray(logits > 0)
    parts = [part for _, part in parts_of(logits, groups)] or [logits]
    return np.concatenate([part.argmax(axis=1)[:, None] == np.arange(part.shape[1])[None] for part in parts], axis=1)
