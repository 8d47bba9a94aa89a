"""One step of a recipe's network, to see what a machine does with it."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from components import trial
from components.blocks import CompileError
from components.outcomes import Busy, Refused
from components.recipes import Library
from components.settings import settings
from components.trial import STEPS, one_step
from models.gpt import network
from tests.conftest import ROOT

RECIPES = ("smoke-gpt2", "smoke-gpt-neox")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    shutil.copytree(ROOT / "tests" / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return Library()


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are compiled on a CPU too, by a compiler that takes no time."""
    monkeypatch.setenv("HIRAKU_COMPILE", "on")
    monkeypatch.setattr(torch, "compile", lambda forward: forward)


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_reaches_every_parameter_and_tells_what_it_took(library: Library, name: str) -> None:
    done = one_step(library, name, 100)
    assert (done.num_items, done.item) == (96, "tokens")  # whole windows of 32
    assert done.loss == pytest.approx(math.log(1200), abs=0.3)
    assert (done.num_with_gradient, done.is_finite) == (done.num_tensors, True)
    assert not done.is_compiled
    assert done.step_seconds > 0
    assert done.peak_bytes > 0
    assert done.estimated_bytes > 0


def test_the_step_that_is_measured_has_moments_from_the_one_before(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components import optimizers

    made: list[torch.optim.Optimizer] = []
    original = optimizers.make_optimizer

    def noted(*given: Any) -> torch.optim.Optimizer:
        made.append(original(*given))
        return made[-1]

    monkeypatch.setattr(optimizers, "make_optimizer", noted)
    one_step(library, "smoke-gpt2", 64)
    (optimizer,) = made
    assert {float(state["step"]) for state in optimizer.state.values()} == {float(STEPS)}
    assert STEPS > 1


def test_a_parameter_that_only_decays_is_not_counted_as_reached(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = network.build

    def with_a_dead_matrix(*given: Any) -> Any:
        made = original(*given)
        made.get_input_embeddings().weight.register_hook(torch.zeros_like)
        return made

    monkeypatch.setattr(network, "build", with_a_dead_matrix)
    done = one_step(library, "smoke-gpt-neox", 64)
    assert done.num_with_gradient == done.num_tensors - 1


def test_layers_are_compiled_as_in_a_training_and_estimated_so(
    library: Library, compiling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("recipes/smoke-gpt2.yaml")
    text = path.read_text().replace("num_layers: 1", "num_layers: 2")
    path.write_text(text.replace("num_steps: 20", "num_steps: 20\n  precision: bf16\n  activation_checkpointing: true"))
    monkeypatch.setattr(trial, "bf16_instructions", lambda: ["any"])
    done = one_step(library, "smoke-gpt2", 64)
    assert (done.is_compiled, done.precision) == (True, "bf16")
    monkeypatch.setenv("HIRAKU_COMPILE", "off")
    settings.cache_clear()
    eager = one_step(library, "smoke-gpt2", 64)
    assert not eager.is_compiled
    matrices = 4 * 32 * 32 + 2 * 32 * 64
    assert eager.estimated_bytes - done.estimated_bytes == 2 * matrices  # of the layer that is not computed again


def test_layers_that_cannot_be_compiled_are_done_without(
    library: Library, compiling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_given: Any, **_more: Any) -> None:
        raise CompileError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda _forward: failing)
    done = one_step(library, "smoke-gpt2", 64)
    assert not done.is_compiled
    assert done.num_with_gradient == done.num_tensors


def test_a_trial_does_not_run_beside_a_training_on_the_gpu(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def taken() -> Iterator[None]:
        raise Busy("process 7 on here holds /tmp/hiraku-gpu.lock.")
        yield

    monkeypatch.setattr(trial, "gpu_held", taken)
    with pytest.raises(Refused, match=r"process 7 on here holds .*: wait until that process has ended"):
        one_step(library, "smoke-gpt2", 64)


def test_fewer_tokens_than_a_window_are_one_short_window(library: Library) -> None:
    assert one_step(library, "smoke-gpt2", 7).num_items == 7


def test_a_step_that_needs_more_memory_than_there_is_is_refused_before_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(Refused, match=r"One step of smoke-gpt2 takes about .* GB, and 0.0 GB of memory are free"):
        one_step(library, "smoke-gpt2", 64)


def test_a_family_without_arithmetic_has_no_step(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "has_part", lambda _family, _part: False)
    with pytest.raises(Refused, match=r"Family 'gpt' has no cost\.py"):
        one_step(library, "smoke-gpt2", 64)


def test_somebody_elses_model_has_no_step(library: Library) -> None:
    theirs = "{family: gpt, description: d, language: ja, licence: MIT, source: 'path:there'}"
    Path("recipes/theirs.yaml").write_text(theirs)
    with pytest.raises(Refused, match="'theirs' is somebody else's model and trains nothing"):
        one_step(Library(), "theirs", 64)
