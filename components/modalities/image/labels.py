"""The encoder of the names of classes."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.image.encoder_schema import Labels
from components.modalities.image.shards import Parts
from components.outcomes import Refused

NAME = "labels.json"
LABEL = "label"
MOST_SHOWN = 5


class LabelEncoder:
    """Names of classes to their numbers."""

    kind = "labels"

    def __init__(self, labels: list[str], many: bool, groups: dict[str, int] | None = None) -> None:
        """Take names in their order.

        Args:
            labels: all of them; those of a group follow each other.
            many: whether a record has several.
            groups: of which a record has one name each: first word of its names -> how many there are.
        """
        self.names, self.groups = labels, list(groups or {})
        self.numbers = {name: number for number, name in enumerate(labels)}
        self.facts: dict[str, Any] = {"num_labels": len(labels), "labels": labels, "many": many}
        if groups:
            self.facts["groups"] = groups
        self.counts: dict[str, int | float] = {}

    def encode(self, values: list[str]) -> list[Parts]:
        """int64 [1] of each, or [classes] of records that are of several.

        Raises:
            Refused: a class has no number; a record has none or several of a group.
        """
        rows = [_classes(value, self.facts["many"], self.groups) for value in values]
        if others := sorted({name for row in rows for name in row} - set(self.numbers)):
            shown = ", ".join(others[:MOST_SHOWN])
            raise Refused(
                f"{len(others)} classes are not among the {len(self.names)} that the encoder was fitted on: {shown}. "
                "Name their corpus among the encoder's 'corpora', or take their records out of this one."
            )
        return [{LABEL: np.array([self.numbers[name] for name in row], "<i8")} for row in rows]

    def vocabulary(self) -> dict[int, str]:
        """The name of each number."""
        return dict(enumerate(self.names))


def _classes(value: str, many: bool, groups: list[str]) -> list[str]:
    """The classes of a record; of groups, one of each in their order.

    Raises:
        Refused: a record has none or several of a group.
    """
    if not groups:
        return list(json.loads(value)) if many else [value]
    names = json.loads(value)
    found = [[name for name in names if group_of(name) == group] for group in groups]
    for group, own in zip(groups, found, strict=True):
        if len(own) != 1:
            raise Refused(
                f"A record has {len(own)} names of the group '{group}' in {value}, expected one that begins with "
                f"'{group} '. Change the encoder's key 'groups', or mend the raw data."
            )
    return [name for own in found for name in own]


def group_of(name: str) -> str:
    """The first word of a name, which tells its group."""
    return name.partition(" ")[0]


def fit(encoder: Labels, values: Iterable[str], held_out: Iterable[str], folder: Path) -> dict[str, Any]:
    """Number the classes of the training records.

    Raises:
        Refused: there are fewer than two.
    """
    try:
        counts, others = (
            Counter(name for value in part for name in _classes(value, encoder.many, encoder.groups))
            for part in (values, held_out)
        )
    except ValueError:
        raise Refused(
            f"The column '{encoder.column}' holds no lists of classes. Take the key 'many' out, or name a column of "
            "form 'labels'."
        ) from None
    if len(counts) < 2:
        raise Refused(
            f"The accepted training records have {len(counts)} classes, expected two or more. Change the key 'corpora' "
            "or 'column'."
        )
    content: dict[str, Any] = {"many": encoder.many, "labels": sorted(counts)}
    if encoder.groups:
        sizes = Counter(group_of(name) for name in counts)
        order = {group: number for number, group in enumerate(encoder.groups)}
        content["labels"] = sorted(counts, key=lambda name: (order[group_of(name)], name))
        content["groups"] = {group: sizes[group] for group in encoder.groups}
    (folder / NAME).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {
        "num_labels": len(counts),
        "num_given": counts.total(),
        "smallest_class": min(counts.values()),
        "largest_class": max(counts.values()),
        "held_out_given": others.total(),
        "held_out_unknown": sum(count for name, count in others.items() if name not in counts),
    }


def open_encoder(folder: Path) -> LabelEncoder:
    """What `fit` left."""
    return LabelEncoder(**json.loads((folder / NAME).read_text(encoding="utf-8")))
