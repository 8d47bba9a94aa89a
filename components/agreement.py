"""Whether a recipe agrees with itself and with what it names, found out before any work."""

from components.encoders import tokenizer_of
from components.outcomes import Refused
from components.recipes import Library, Recipe
from components.training_stage import require_one_vocabulary
from models import part_of


def require_agreement(library: Library, name: str) -> None:
    """Refuse a recipe of ours whose sections contradict each other, its encoder, its shards or its tasks.

    Raises:
        Refused: with every contradiction, one a line.
    """
    recipe: Recipe = library.read("recipe", name)
    encoder = tokenizer_of(library, recipe.encoder)
    tasks = {task: library.read("task", task) for task in recipe.evaluate.tasks}
    problems = part_of(recipe.family, "schema").check(recipe, encoder, tasks)
    require_one_vocabulary(library, recipe, name)
    if problems:
        count = "1 contradiction" if len(problems) == 1 else f"{len(problems)} contradictions"
        raise Refused("\n  ".join([f"{library.path('recipe', name)} has {count}:", *problems]))
