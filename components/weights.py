"""A recipe's weights: where they lie, and the hash that tells whether they are still the same.

Of somebody else's model they are a layout of its package, of which stages depend on the layout's files alone. So do the
hashes here: a new sentence in its card, or a licence's text beside it, makes nothing stale and must refuse nothing.
"""

from collections.abc import Iterable
from pathlib import Path

from components import paths
from components.lineage import state_of
from components.manifest import read_manifest, tree_hash
from components.recipes import Foreign, Library
from models import part_of


def weights_of(library: Library, name: str) -> tuple[str, str]:
    """The stage that leaves a recipe's weights; of somebody else's model, its package."""
    recipe = library.read("recipe", name)
    if isinstance(recipe, Foreign):
        return "package", name
    return ("align" if recipe.align else "pretrain"), name


def weights_folder(library: Library, name: str) -> Path:
    """Where a recipe's weights lie, as `save_pretrained` wrote them."""
    recipe = library.read("recipe", name)
    return (
        paths.layout(name, recipe.layout) if isinstance(recipe, Foreign) else paths.payload(*weights_of(library, name))
    )


def weights_hash(folder: Path, family: str) -> str:
    """SHA-256 over a folder of weights, as hex; of a layout of a package, over the layout's files.

    Args:
        folder: as `weights_folder` gives it.
        family: whose weights they are.
    """
    node = state_of(folder.as_posix())
    if node is None or node[0] != "package":
        return tree_hash(folder)
    return tree_hash(folder, only=part_of(family, "schema").LAYOUTS[folder.name])


def parents_of(library: Library, names: Iterable[str]) -> dict[str, str]:
    """What a state that is made with the weights of recipes has as parents: path -> hash.

    Raises:
        Refused: a recipe's weights are not made yet.
    """
    found = {}
    for name in names:
        recipe, manifest = library.read("recipe", name), read_manifest(*weights_of(library, name))
        folder = weights_folder(library, name)
        is_foreign = isinstance(recipe, Foreign)
        found[folder.as_posix()] = weights_hash(folder, recipe.family) if is_foreign else manifest.payload_hash
    return found


def package_hash(library: Library, name: str) -> str:
    """What tells a package of a recipe that judges or writes: of somebody else's model the hash of its weights.

    Raises:
        Refused: it is not made yet.
    """
    recipe, manifest = library.read("recipe", name), read_manifest("package", name)
    if isinstance(recipe, Foreign):
        return weights_hash(paths.layout(name, recipe.layout), recipe.family)
    return manifest.payload_hash
