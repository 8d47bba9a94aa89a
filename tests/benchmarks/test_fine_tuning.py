"""The comparison with a network from scratch compares what it says, and works in a copy."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks import fine_tuning
from benchmarks.project_copy import changed, copied_project
from benchmarks.report import load_all
from components import paths
from components.outcomes import Refused
from components.recipes import Library

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


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("network", lambda content: content["network"].update(num_layers=3)),
        ("optimizer.clip_norm", lambda content: content["pretrain"]["optimizer"].update(clip_norm=1)),
        ("learning_rate.hold_steps", lambda content: content["pretrain"]["learning_rate"].update(hold_steps=0)),
        ("samples.batch_seconds", lambda content: content["pretrain"]["samples"].update(batch_seconds=8)),
        ("precision", lambda content: content["pretrain"].update(precision="bf16")),
    ],
)
def test_recipes_that_differ_in_more_than_start_rate_and_masks_are_refused_with_the_key(key, change) -> None:
    changed(Path("recipes/hubert-demo-ctc-scratch.yaml"), change)
    with pytest.raises(Refused, match=f"differ in '{key}', expected the same network, labels, schedule"):
        fine_tuning.measure()


def test_the_recorded_notes_tell_in_what_the_two_recipes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (recorded,) = [each for each in load_all() if each.name == fine_tuning.NAME]
    library, names = Library(), ("hubert-demo-ctc", "hubert-demo-ctc-scratch")
    chosen = {
        name: {float(rate): error for rate, error in found.items()}
        for name, found in recorded.measured["valid"].items()
    }
    notes = fine_tuning._notes(library, *names, chosen, len(recorded.measured["test"][names[0]]))
    assert recorded.notes == notes
    masks = {key: library.read("recipe", name) for key, name in zip(("tuned", "scratch"), names, strict=True)}
    shares = [masks["tuned"].align.objective.time_mask_share, masks["scratch"].pretrain.objective.time_mask_share]
    assert f"objective.time_mask_share {shares[0]} against {shares[1]}" in notes[3]
