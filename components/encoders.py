"""Encoders that take their pieces from other encoders, and those that compute with the weights of a recipe."""

from importlib import import_module
from pathlib import Path
from typing import Any

from components.outcomes import Refused
from components.recipes import Library, references
from components.weights import parents_of, weights_folder
from models import FAMILIES


def encoder_lineage(library: Library, name: str) -> list[str]:
    """An encoder and those it takes its pieces from, the one that was trained last.

    Raises:
        Refused: one is missing, or they form a circle.
    """
    found = [name]
    while refers := [each for kind, each in references(library.read("encoder", found[-1])) if kind == "encoder"]:
        if refers[0] in found:
            raise Refused(f"The encoders {' and '.join(found)} name each other. Let one be trained on corpora.")
        found.append(refers[0])
    return found


def tokenizer_of(library: Library, name: str) -> Any:
    """The section of the encoder that an encoder takes its pieces from, which knows how many there are."""
    return library.read("encoder", encoder_lineage(library, name)[-1])


# ---- the weights that an encoder computes with -----------------------------------------------------------------------


def models_behind(library: Library, name: str) -> list[str]:
    """The recipes whose weights an encoder needs to encode: units of a layer are made by the network they come from."""
    found = references(library.read("encoder", name))
    return list(dict.fromkeys(each for kind, each in found if kind in ("weights", "package")))


def require_layers(library: Library, name: str) -> None:
    """Refuse units of a layer that the network of their recipe does not have, before it is trained.

    Raises:
        Refused: with how many there are, or with the family that the recipe is of.
    """
    features = getattr(library.read("encoder", name), "features", None)
    wanted = getattr(features, "layer", None)
    if features is None or wanted is None:
        return
    recipe = library.read("recipe", features.model)
    if recipe.family != features.family:
        raise Refused(
            f"Encoder '{name}' takes a layer of '{features.model}', a recipe of family '{recipe.family}', expected one "
            f"of family '{features.family}'. Change the key 'features.model' in {library.path('encoder', name)}."
        )
    found = getattr(getattr(recipe, "network", None), "num_layers", wanted)
    if wanted > found:
        raise Refused(
            f"Encoder '{name}' takes layer {wanted} of '{features.model}', expected 1 to {found}, of which the "
            f"network consists. Change the key 'features.layer' in {library.path('encoder', name)}."
        )


def weights_behind(library: Library, name: str) -> dict[str, Path]:
    """Where these weights lie, by recipe."""
    return {each: weights_folder(library, each) for each in models_behind(library, name)}


def parents_behind(library: Library, name: str) -> dict[str, str]:
    """The hashes of these weights, by path.

    Raises:
        Refused: a recipe's weights are not made yet.
    """
    return parents_of(library, models_behind(library, name))


def revisions_behind(library: Library, name: str) -> dict[str, int]:
    """REVISION of the families that compute with them."""
    families = {FAMILIES[library.read("recipe", each).family] for each in models_behind(library, name)}
    return {module: import_module(module).REVISION for module in sorted(families)}
