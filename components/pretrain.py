"""`pretrain`: shards + objective -> weights, from a random start, as a folder that `save_pretrained` wrote."""

from components import training_stage
from components.outcomes import Refused
from components.recipes import Library, Recipe

REVISION = 1

SECTIONS = ("family", "network", "encoder", "pretrain")
"""Keys of a recipe that decide what comes out."""


def pretrain(name: str) -> None:
    """Train a recipe's network from random weights into `artifacts/pretrained/<name>/`.

    Leaves `weights/`, `curve.json` (losses by step) and `previews.md`.

    Raises:
        Refused: the recipe is no base model; or as `components.training_stage.run`, which also raises `Busy` and
            `Stopped`.
    """
    recipe = Library().read("recipe", name)
    if getattr(recipe, "pretrain", None) is None:
        verb = "align" if isinstance(recipe, Recipe) else "package"
        raise Refused(
            f"Recipe '{name}' has no section 'pretrain', so there is nothing to train. Run: hiraku {verb} {name}"
        )
    training_stage.run("pretrain", name, {__name__: REVISION}, SECTIONS)
