"""Every kind of alignment, from raw questions to a package that is loaded back in a fresh process."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from components import paths
from components.cost import cost_of
from components.graph import plan
from components.manifest import MANIFEST_NAME, read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.trial import one_step
from tests.smoke import write_smoke_project

KINDS = ("sft", "reward", "dpo", "ppo")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which whatever is asked for is made once."""
    root = tmp_path_factory.mktemp("align")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_smoke_project(root)
        yield root


def make(name: str) -> None:
    """All stages of a recipe, in this process."""
    for stage in plan(Library(), name):
        if not (paths.state(stage.verb, stage.name) / MANIFEST_NAME).is_file():
            getattr(import_module(f"components.{stage.verb}"), stage.verb)(stage.name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_aligned_model_is_made_from_its_parents_packaged_and_loaded(project: Path, kind: str) -> None:
    name = f"smoke-gpt2-{kind}"
    make(name)
    parents = read_manifest("align", name).parents
    start = "artifacts/pretrained/smoke-gpt2/weights" if kind == "sft" else "artifacts/aligned/smoke-gpt2-sft/weights"
    assert start in parents
    assert ("artifacts/aligned/smoke-gpt2-reward/weights" in parents) == (kind == "ppo")
    folder = paths.layout(name, "reward" if kind == "reward" else "transformers")
    loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    assert loader.from_pretrained(folder).config.vocab_size == 1200
    assert "apply_chat_template" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_alignment_takes_is_known_beforehand(project: Path, kind: str) -> None:
    cost = cost_of(Library(), f"smoke-gpt2-{kind}", on_gpu=False, is_compiled=False)
    assert cost is not None
    assert cost.step_flops > 0
    if kind in ("reward", "dpo", "ppo"):
        with pytest.raises(Refused, match="no random ones can be made for a trial"):
            one_step(Library(), f"smoke-gpt2-{kind}", 64)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("starts_from", "smoke-gpt-neox", "another shape"),
        ("encoder", "smoke-spm", "encoder"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(project: Path, key: str, value: str, words: str) -> None:
    recipe = Path("recipes/smoke-gpt2-sft.yaml")
    text = recipe.read_text(encoding="utf-8")
    current = "smoke-gpt2" if key == "starts_from" else "smoke-chat-format"
    other = Path("recipes/smoke-other.yaml")
    other.write_text(text.replace(f"{key}: {current}", f"{key}: {value}"), encoding="utf-8")
    try:
        with pytest.raises(Refused, match=words):
            make("smoke-other")
    finally:
        other.unlink()
