"""`align`: the weights that a recipe starts from + data -> weights.

Of language models SFT, reward models, DPO and PPO; of speech models CTC; of Stable Diffusion both its stages.
"""

from components import training_stage
from components.outcomes import Refused
from components.recipes import Library, Recipe

REVISION = 1

SECTIONS = ("family", "network", "encoder", "starts_from", "align")
"""Keys of a recipe that decide what comes out."""


def align(name: str) -> None:
    """Train a recipe's network from the weights it starts from into `artifacts/aligned/<name>/`.

    Leaves `weights/`, `curve.json` (losses and rewards by step) and `previews.md`.

    Raises:
        Refused: the recipe is a base model, or starts from weights that do not fit its network; or as
            `components.training_stage.run`, which also raises `Busy` and `Stopped`.
    """
    recipe = Library().read("recipe", name)
    if getattr(recipe, "align", None) is None:
        verb = "pretrain" if isinstance(recipe, Recipe) else "package"
        raise Refused(
            f"Recipe '{name}' has no section 'align', so there is nothing to align. Run: hiraku {verb} {name}"
        )
    training_stage.run("align", name, {__name__: REVISION}, SECTIONS)
