"""Whether a recipe agrees with itself and with what it names, found out before any work."""

from typing import Any

from components.encoders import encoder_lineage, tokenizer_of
from components.outcomes import Refused
from components.recipes import Foreign, Library, Recipe, references
from components.training_stage import parent_recipes
from models import part_of, reads_ids

FORMAT = ("user_prefix", "assistant_prefix", "separator", "newline")
"""Keys of an encoder that say how a prompt is written."""


def require_agreement(library: Library, name: str) -> None:
    """Refuse a recipe of ours whose sections contradict each other, its encoder, its shards, its tasks or its parents.

    Raises:
        Refused: with every contradiction, one a line.
    """
    recipe: Recipe = library.read("recipe", name)
    encoder = tokenizer_of(library, recipe.encoder)
    tasks = {task: library.read("task", task) for task in recipe.evaluate.tasks}
    schema = part_of(recipe.family, "schema")
    problems = schema.check(recipe, encoder, tasks)
    if not problems and hasattr(schema, "check_encoders"):
        problems += schema.check_encoders(recipe, lambda each: library.read("encoder", each))
    problems += _about_features(library, recipe, tasks)
    for parent in parent_recipes(recipe, "align" if recipe.align else "pretrain"):
        _require_a_fitting_parent(library, recipe, name, parent)
    if problems:
        count = "1 contradiction" if len(problems) == 1 else f"{len(problems)} contradictions"
        raise Refused("\n  ".join([f"{library.path('recipe', name)} has {count}:", *problems]))


def _about_features(library: Library, recipe: Recipe, tasks: dict[str, Any]) -> list[str]:
    """What is wrong with features that stand for what tasks show a network, in words."""
    tower, problems = getattr(recipe.network, "tower", None), []
    corpora = {name for task in tasks.values() for kind, name in references(task) if kind == "corpus"}
    for shards in recipe.evaluate.features:
        corpus, _, encoder = shards.partition("+")
        model = getattr(library.read("encoder", encoder), "model", None)
        if tower is None or model != tower:
            told = f"of '{model}'" if model else "of no model"
            wanted = f"'{tower}' (network.tower)" if tower else "none, since this network has no locked tower"
            problems.append(f"evaluate.features has {shards}, features {told}, expected {wanted}. Change the key.")
        elif corpus not in corpora:
            problems.append(
                f"evaluate.features has {shards}, but no task is on corpus '{corpus}', only on "
                f"{', '.join(sorted(corpora))}. Take it out."
            )
    return problems


def _require_a_fitting_parent(library: Library, recipe: Recipe, name: str, parent: str) -> None:
    """Refuse a model of another family, kind, tokenizer or prompt format, by the recipes alone."""
    other = library.read("recipe", parent)
    if other.family != recipe.family:
        raise Refused(
            f"Recipe '{name}' of family '{recipe.family}' names '{parent}' of family '{other.family}', expected "
            f"the same. Change the key that names it in {library.path('recipe', name)}."
        )
    if recipe.align is not None:
        _require_its_kind(recipe, name, parent, other)
    if isinstance(other, Foreign) or not reads_ids(recipe.family):
        return
    ours, theirs = encoder_lineage(library, recipe.encoder)[-1], encoder_lineage(library, other.encoder)[-1]
    if ours != theirs:
        raise Refused(
            f"Recipe '{name}' encodes with '{recipe.encoder}', whose tokenizer is '{ours}', but '{parent}' was "
            f"trained with the tokenizer '{theirs}': its embeddings mean other pieces. Change the key 'encoder'."
        )
    own, others = _format(library, recipe.encoder), _format(library, other.encoder)
    differing = [key for key in FORMAT if own and others and own[key] != others[key]]
    if differing:
        raise Refused(
            f"Recipe '{name}' encodes with '{recipe.encoder}', but '{parent}' saw prompts as '{other.encoder}' writes "
            f"them: {', '.join(f'{key} is {own[key]!r} here and {others[key]!r} there' for key in differing)}. "
            f"Make them equal in {library.path('encoder', recipe.encoder)} and "
            f"{library.path('encoder', other.encoder)}, or change the key 'encoder'."
        )


def _require_its_kind(recipe: Recipe, name: str, parent: str, other: Any) -> None:
    """A reward model gives rewards and has no words; only another reward model can start from one."""
    objective = recipe.align.objective
    judges = _is_reward_model(other)
    if parent == getattr(objective, "reward", None) and not judges:
        raise Refused(
            f"Recipe '{name}' takes its rewards from '{parent}', which is no reward model (align.objective.kind "
            "'reward', or the layout 'reward' of somebody else's). Change the key align.objective.reward."
        )
    if parent == recipe.starts_from and judges and objective.kind != "reward":
        raise Refused(
            f"Recipe '{name}' starts from '{parent}', a reward model without an output head, but its objective "
            f"'{objective.kind}' needs a language model. Change the key 'starts_from'."
        )


def _is_reward_model(recipe: Any) -> bool:
    if isinstance(recipe, Foreign):
        return recipe.layout == "reward"
    return recipe.align is not None and recipe.align.objective.kind == "reward"


def _format(library: Library, encoder: str) -> dict[str, str]:
    """How an encoder writes prompts; empty if it has no prompt format."""
    section = library.read("encoder", encoder)
    return {key: getattr(section, key) for key in FORMAT if hasattr(section, key)}
