"""How a network computes: one folder per family, each with the same set of files.

Nothing here imports from `components` or `flows`, nor prefect, mlflow or dvc: this package and the trainer run on a
bare GPU machine with torch, lightning and transformers. Weights travel as safetensors and JSON only; `torch.hub` is
banned, since its repositories import a `models` of their own.

The files of a family:

    schema.py      the sections of a recipe that only this family understands, and `check`: what in one contradicts
                   itself; imports no torch, so that the command line stays quick
    network.py     `build`: recipe section -> an nn.Module of transformers or diffusers
    objectives.py  batch -> loss
    convert.py     network <-> folder of weights, and the layouts in which the family is released
    release.py     how a release is used and proven equal to its weights, with the libraries of its users only; may
                   say `limits` for the card
    cost.py        what a training takes, by arithmetic on its sections alone; see `models.cost`
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# The one table of families. A new family is one folder and one line.
FAMILIES: dict[str, str] = {
    "gpt": "models.gpt",
    "clip": "models.clip",
    "stable_diffusion": "models.stable_diffusion",
    "hubert": "models.hubert",
}


def part_of(family: str, part: str) -> ModuleType:
    """Import one file of a family, such as `part_of("gpt", "schema")`."""
    return import_module(f"{FAMILIES[family]}.{part}")


def reads_ids(family: str) -> bool:
    """Whether a network embeds its encoder's ids, so that a model which starts from another needs the same ones."""
    return bool(getattr(part_of(family, "schema"), "READS_IDS", True))


def has_part(family: str, part: str) -> bool:
    """Whether a family has a file; what goes wrong inside of it shows when it is imported."""
    return find_spec(f"{FAMILIES[family]}.{part}") is not None
