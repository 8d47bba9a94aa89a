"""What a recipe of the gpt family contradicts is told from its YAML files alone."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from components.training_schema import LearningRate
from models.gpt import schema as subject
from models.gpt.release import check_package
from tests.conftest import ROOT

ENCODER = SimpleNamespace(vocab_size=320)
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 16}


def recipe(
    window_tokens: int = 16, warmup_steps: int = 0, decay_steps: int | None = None, network: Any = None, **package: Any
) -> Any:
    """The parts of a recipe that a family is asked about."""
    samples = subject.Samples(
        window_tokens=window_tokens, batch_tokens=window_tokens * 2, micro_batch_tokens=window_tokens
    )
    kind = "wsd" if decay_steps else "cosine"
    learning_rate = LearningRate(kind=kind, warmup_steps=warmup_steps, decay_steps=decay_steps)
    return SimpleNamespace(
        encoder="town-spm",
        network=subject.GPT2(architecture="gpt2", **SHAPE | (network or {})),
        pretrain=SimpleNamespace(
            objective=SimpleNamespace(kind="next-token"),
            samples=samples,
            learning_rate=learning_rate,
            num_steps=10,
            shards=[SimpleNamespace(shards="town+town-spm")],
        ),
        align=None,
        package=SimpleNamespace(**{"layouts": ["transformers"], "generation": {}} | package),
    )


def test_a_recipe_that_fits_has_no_problem() -> None:
    fitting = recipe(warmup_steps=10, network={"vocab_size": 320}, generation={"do_sample": True, "top_p": 0.9})
    tasks = {"bits": SimpleNamespace(window_tokens=16), "whole": SimpleNamespace(window_tokens=None), "other": object()}
    assert subject.check(fitting, ENCODER, tasks) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_tokens": 17}, "pretrain.samples.window_tokens is 17, but network.max_positions is 16"),
        ({"warmup_steps": 11}, "pretrain.learning_rate.warmup_steps is 11, but pretrain.num_steps is 10"),
        ({"warmup_steps": 5, "decay_steps": 6}, "decay_steps is 6 after 5 warmup_steps, but pretrain.num_steps is 10"),
        ({"network": {"vocab_size": 319}}, "network.vocab_size is 319, but the encoder 'town-spm' has 320 ids"),
        ({"network": {"expected_num_parameters": 7}}, "has 27,904 parameters, expected 7 (network.expected_num_par"),
        ({"layouts": []}, "package.layouts is empty, expected one or more of transformers"),
        ({"layouts": ["transformers", "gguf"]}, "package.layouts has 'gguf', expected one or more of transformers"),
        ({"generation": {"temprature": 1.0}}, "package.generation.temprature is no setting"),
    ],
)
def test_a_contradiction_is_told_with_both_sides_and_its_key(changes: dict[str, Any], words: str) -> None:
    (problem,) = subject.check(recipe(**changes), ENCODER, {})
    assert words in problem


def test_a_task_longer_than_the_context_is_told_by_name() -> None:
    (problem,) = subject.check(recipe(), ENCODER, {"bits": SimpleNamespace(window_tokens=17)})
    assert "task 'bits' has window_tokens 17, but network.max_positions is 16" in problem


def test_all_problems_are_told_at_once() -> None:
    spoilt = recipe(window_tokens=17, warmup_steps=11, layouts=["gguf"], generation={"temprature": 1.0})
    assert len(subject.check(spoilt, ENCODER, {"bits": SimpleNamespace(window_tokens=99)})) == 5


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        ({"temprature": 1.0}, "Did you mean 'temperature'"),
        ({"qqq": 1}, "Known are: "),
        ({"eos_token_id": 7}, "these ids come from the encoder"),
        ({"do_sample": False, "temperature": 0.7}, "refused by transformers: .*temperature"),
        ({"max_new_tokens": -1}, "must be greater than 0"),
    ],
)
def test_a_generation_setting_that_would_be_ignored_or_fail_is_told(generation: dict[str, Any], words: str) -> None:
    (problem,) = check_package(SimpleNamespace(layouts=["transformers"], generation=generation))
    with pytest.raises(ValueError, match=words):
        raise ValueError(problem)


def test_checking_a_recipe_without_generation_settings_imports_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from components.recipes import Library\n"
        "from models.gpt.schema import check\n"
        "library = Library()\n"
        "recipe = library.read('recipe', 'gpt-demo')\n"
        "tasks = {task: library.read('task', task) for task in recipe.evaluate.tasks}\n"
        "assert check(recipe, library.read('encoder', recipe.encoder), tasks) == []\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_shards_of_another_encoder_are_told() -> None:
    spoilt = recipe()
    spoilt.pretrain.shards = [SimpleNamespace(shards="town+other-spm")]
    (problem,) = subject.check(spoilt, ENCODER, {})
    assert "'encoder' is town-spm, but the shards town+other-spm are made with another one" in problem
