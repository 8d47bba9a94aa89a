"""What a person is told to lower when a training does not fit."""

import pytest

from components.cost import training_of
from components.memory import advice, step_key
from components.recipes import Library, Recipe
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
    assert advice(training_of(LIBRARY.read("recipe", name))).startswith(expected)
