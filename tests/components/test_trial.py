"""One step of a recipe's network, to see what a machine does with it."""

import math
import shutil
from pathlib import Path

import pytest

from components import trial
from components.outcomes import Refused
from components.recipes import Library
from components.trial import one_step
from tests.conftest import ROOT

RECIPES = ("smoke-gpt2", "smoke-gpt-neox")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    shutil.copytree(ROOT / "tests" / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return Library()


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_moves_every_parameter_and_tells_what_it_took(library: Library, name: str) -> None:
    done = one_step(library, name, 100)
    assert done.num_items == 96  # whole windows of 32
    assert done.loss == pytest.approx(math.log(1200), abs=0.3)
    assert (done.num_moved, done.is_finite) == (done.num_tensors, True)
    assert done.step_seconds > 0
    assert done.peak_bytes > 0
    assert done.estimated_bytes > 0


def test_fewer_tokens_than_a_window_are_one_short_window(library: Library) -> None:
    assert one_step(library, "smoke-gpt2", 7).num_items == 7


def test_a_step_that_needs_more_memory_than_there_is_is_refused_before_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(Refused, match=r"One step of smoke-gpt2 takes about .* GB, and 0.0 GB of memory are free"):
        one_step(library, "smoke-gpt2", 64)


def test_somebody_elses_model_has_no_step(library: Library) -> None:
    theirs = "{family: gpt, description: d, language: ja, licence: MIT, source: 'path:there'}"
    Path("recipes/theirs.yaml").write_text(theirs)
    with pytest.raises(Refused, match="'theirs' is somebody else's model and trains nothing"):
        one_step(Library(), "theirs", 64)
