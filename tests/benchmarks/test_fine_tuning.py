"""The comparison with a network from scratch compares what it says, and works in a copy."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks import fine_tuning
from benchmarks.project_copy import changed, copied_project
from components import paths
from components.outcomes import Refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipes of the project, and nothing made."""
    shutil.copytree(ROOT / paths.RECIPES, tmp_path / paths.RECIPES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_copy_changes_nothing_and_makes_the_named_states_anew(project: Path) -> None:
    for place in ("aligned/mine", "evaluated/mine", "fitted/theirs"):
        (project / "artifacts" / place).mkdir(parents=True)
    recipe = Path("recipes/hubert-demo-ctc.yaml")
    before = recipe.read_bytes()
    with copied_project(left_out={("align", "mine"), ("evaluate", "mine")}):
        assert Path.cwd() != project
        assert [path.name for path in Path("artifacts").glob("*/*")] == ["theirs"]
        changed(recipe, lambda content: content["align"].update(seed=7))
        assert yaml.safe_load(recipe.read_text(encoding="utf-8"))["align"]["seed"] == 7
    assert recipe.read_bytes() == before


@pytest.mark.usefixtures("project")
def test_without_the_recogniser_the_command_that_makes_it_is_named() -> None:
    with pytest.raises(Refused, match="hiraku release hubert-demo-ctc"):
        fine_tuning.measure()


@pytest.mark.usefixtures("project")
def test_two_recipes_that_both_begin_at_random_are_refused() -> None:
    with pytest.raises(Refused, match="--tuned a recipe with starts_from"):
        fine_tuning.measure(tuned="hubert-demo-ctc-scratch")


@pytest.mark.usefixtures("project")
def test_recipes_that_learn_for_different_times_are_refused() -> None:
    changed(Path("recipes/hubert-demo-ctc-scratch.yaml"), lambda content: content["pretrain"].update(num_steps=900))
    with pytest.raises(Refused, match="differ in 'num_steps'"):
        fine_tuning.measure()
