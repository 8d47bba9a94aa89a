"""The shards that a training reads, each with its weight, and how much of them its schedule asks for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import paths
from components.manifest import MANIFEST_NAME, read_manifest
from components.outcomes import Refused
from components.recipes import Library, Recipe
from components.wording import either

TOKENS = "train/tokens"
"""Of a manifest's counts, where shards hold tokens."""


def weighted_folders(section: Any, own: Any) -> list[tuple[Path, float]]:
    """The folders of a training's shards, each with the number of times that an epoch reads it.

    Args:
        section: `components.training_schema.Training`, whose shards have weights, or shares of all samples.
        own: the modality.
    """
    folders = [paths.payload("shard", each.shards) for each in section.shards]
    if any(each.share is None for each in section.shards):
        return [(folder, each.weight) for folder, each in zip(folders, section.shards, strict=True)]
    sizes = [len(own.open_samples([(folder, 1.0)], "train", section.samples)) for folder in folders]
    return [
        (folder, each.share * sum(sizes) / size)
        for folder, each, size in zip(folders, section.shards, sizes, strict=True)
    ]


@dataclass(frozen=True)
class Demand:
    """What a schedule asks for, and what there is."""

    recipe: str
    num_tokens: int
    """That all steps predict together."""
    at_hand: dict[str, int]
    """Shards -> tokens of their train split; only of those that are made."""
    missing: tuple[str, ...]
    """Shards that are not made yet."""
    epoch_tokens: float
    """Of the shards that are made, each as often as an epoch reads it."""
    reads: dict[str, float]
    """Shards -> how many times the schedule reads each; only of those that are made."""

    @property
    def passes(self) -> float:
        """How many epochs the schedule takes of what is at hand."""
        return self.num_tokens / max(1.0, self.epoch_tokens)

    @property
    def is_short(self) -> bool:
        """Whether all shards are made, and tokens of some are read more than once."""
        return not self.missing and max(self.reads.values(), default=0.0) > 1

    def words(self) -> str:
        """For a person: tokens that the schedule sees, tokens at hand, and what that means."""
        said = f"{self.recipe} reads {self.num_tokens:,} tokens in its schedule"
        if self.missing:
            return f"{said}; not sharded yet: {', '.join(self.missing)}"
        said += f", and its shards hold {sum(self.at_hand.values()):,}: {self.passes:.2f} epochs"
        if not self.is_short:
            return said
        most = max(self.reads, key=lambda shards: self.reads[shards])
        again = f"Text of {most} comes {self.reads[most]:.2f} times" if len(self.reads) > 1 else "Text comes again"
        return f"{said}. {again}. Ways out: {either(['more data', 'a lower pretrain.num_steps'])}"


def demand_of(library: Library, name: str) -> Demand | None:
    """What the pre-training of a recipe asks for; None where it reads no windows of tokens."""
    recipe = library.read("recipe", name)
    section = getattr(recipe, "pretrain", None)
    batch_tokens = getattr(getattr(section, "samples", None), "batch_tokens", None)
    if not isinstance(recipe, Recipe) or section is None or batch_tokens is None:
        return None
    at_hand: dict[str, int] = {}
    missing = []
    for each in section.shards:
        if not (paths.state("shard", each.shards) / MANIFEST_NAME).is_file():
            missing.append(each.shards)
        elif (count := read_manifest("shard", each.shards).counts.get(TOKENS)) is not None:
            at_hand[each.shards] = int(count)
        else:
            return None
    total = sum(at_hand.values())
    epoch = (
        total
        if section.shards[0].share is not None
        else sum(each.weight * at_hand.get(each.shards, 0) for each in section.shards)
    )
    num_tokens = section.num_steps * batch_tokens
    reads = {
        each.shards: num_tokens * each.share / max(1, at_hand[each.shards])
        if each.share is not None
        else num_tokens / max(1.0, epoch) * each.weight
        for each in section.shards
        if each.shards in at_hand
    }
    return Demand(name, num_tokens, at_hand, tuple(missing), float(epoch), reads)


def demands_on(library: Library, shards: str) -> list[Demand]:
    """What the recipes that read some shards ask for, now that these are made."""
    found = []
    for name in library.files["recipe"]:
        try:
            recipe = library.read("recipe", name)
        except Refused:  # it is told when it is made
            continue
        section = getattr(recipe, "pretrain", None)
        if section is not None and any(each.shards == shards for each in section.shards):
            demand = demand_of(library, name)
            found += [demand] if demand else []
    return found
