"""What a person is told to lower when a training does not fit."""

import pytest

from components.cost import cost_of, devices_needed, held, training_of
from components.encoders import tokenizer_of
from components.memory import advice, step_key
from components.recipes import Library, Recipe
from models import part_of
from tests.conftest import ROOT

LIBRARY = Library(ROOT / "recipes")
TRAINED = [name for name in sorted(LIBRARY.files["recipe"]) if isinstance(LIBRARY.read("recipe", name), Recipe)]


@pytest.mark.parametrize("name", TRAINED)
def test_every_shipped_recipe_has_the_key_that_makes_a_step_smaller(name: str) -> None:
    training = training_of(LIBRARY.read("recipe", name))
    section, key = step_key(training).split(".")
    assert key in type(getattr(training, section)).model_fields


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-demo", "Lower samples.micro_batch_tokens (the batch stays"),
        ("gpt-demo-ppo", "Lower samples.micro_batch_samples (the batch stays"),
        ("hubert-demo", "Lower samples.batch_seconds and raise samples.batches_per_step"),
        ("clip-demo", "Lower objective.chunk_samples (the batch stays"),
        ("vit-demo", "Lower samples.micro_batch_samples (the batch stays"),
        ("sd-demo", "Lower samples.micro_batch_samples (the batch stays"),
    ],
)
def test_each_kind_of_samples_has_its_own_key(name: str, expected: str) -> None:
    assert advice(training_of(LIBRARY.read("recipe", name)), can_be_shared=True).startswith(expected)


@pytest.mark.parametrize("name", TRAINED)
def test_nobody_is_told_to_set_a_strategy_that_the_recipe_would_be_refused_for(name: str) -> None:
    recipe = LIBRARY.read("recipe", name)
    training = training_of(recipe)
    cost = cost_of(LIBRARY, name, on_gpu=True, is_compiled=False)
    assert cost is not None
    shared = training.model_copy(update={"strategy": "fsdp2"})
    changed = recipe.model_copy(update={"pretrain" if recipe.pretrain else "align": shared})
    tasks = {task: LIBRARY.read("task", task) for task in recipe.evaluate.tasks}
    schema = part_of(recipe.family, "schema")
    problems = schema.check(changed, tokenizer_of(LIBRARY, recipe.encoder), tasks)
    assert cost.can_be_shared == (not any("fsdp2" in each for each in problems))
    assert ("fsdp2" in advice(training, cost.can_be_shared)) == cost.can_be_shared
    if not cost.can_be_shared:  # nor would more devices do, of which each needs as much
        one = held(cost, training, "single", 1, training.activation_checkpointing).total
        assert devices_needed(cost, training, one) is None
