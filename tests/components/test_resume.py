"""The headline of the trainer: killed anywhere and resumed anyhow, it ends with the bits of a run never stopped."""

import multiprocessing
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.components.small_pretraining import (
    kill_at_event,
    kill_at_save,
    kill_in_save,
    points_of,
    run_pretrain,
    weights_of,
    write_project,
)

NUM_STEPS = 30
STEP_EVENTS = 17_000
"""Calls and returns of a step of the tiny network without its checkpoint; with a validation three times as many."""
SAVE_EVENTS = 50_000
"""Those of a checkpoint."""

# Processes of their own that share one import of torch, transformers and lightning.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.components.small_pretraining", "components.pretrain", "components.training",
                                  "models.gpt.network", "models.gpt.objectives"])  # fmt: skip


def run(root: Path, checkpoints: Path, num_workers: int = 0, every_seconds: float = 0.0, arm: Callable[[int], None] | None = None, at: int = 0) -> int:  # fmt: skip # noqa: E501
    """Run the verb in a process; its exit code, negative for a signal."""
    given: tuple[Any, ...] = (str(root), str(checkpoints), num_workers, every_seconds, arm, at)
    process = PROCESSES.Process(target=run_pretrain, args=given)
    process.start()
    process.join(600)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make clones of one project."""
    monkeypatch.chdir(tmp_path)

    def clone(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        write_project(root, NUM_STEPS)
        return root

    return clone


def resumed_at(root: Path) -> list[int]:
    """The steps after which the runs in a clone went on, in the order of the runs."""
    said = (root / "said.log").read_text(encoding="utf-8") if (root / "said.log").is_file() else ""
    return [int(step) for step in re.findall(r"going on after step (\d+)", said)]


@pytest.mark.slow
def test_killed_at_ten_random_points_it_ends_with_the_bits_of_a_run_never_stopped(
    project: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = project("whole")
    assert run(whole, tmp_path / "w") == 0
    assert resumed_at(whole) == []
    chance = random.Random(3)
    shared, clones = tmp_path / "shared", [project("first-clone"), project("second-clone")]
    kills = [(kill_at_event, chance.randint(1, 8 * STEP_EVENTS)) for _ in range(5)]
    kills += [(kill_in_save, chance.randint(1, 2 * SAVE_EVENTS)) for _ in range(3)]
    kills += [(kill_at_save, 1), (kill_at_save, 2)]
    chance.shuffle(kills)
    steps: list[int] = []
    for number, (arm, at) in enumerate(kills):
        # Workers and the clone change from run to run. Mostly every step is saved, so the next run goes on further.
        root = clones[number % 3 == 2]
        before = len(resumed_at(root))
        code = run(root, shared, 2 * (number % 2), 0.05 if number % 4 == 3 else 0.0, arm, at)
        assert code == -signal.SIGKILL
        assert not (root / "artifacts" / "pretrained" / "tiny").exists()
        steps += resumed_at(root)[before:]
    assert run(clones[1], shared, num_workers=2) == 0
    steps += resumed_at(clones[1])[-1:]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 5
    assert 0 < steps[0] < steps[-1] < NUM_STEPS
    expect_the_same_state(whole, clones[1])
    # DVC has not recorded it, and removes what stands there when it begins again.
    shutil.rmtree(clones[1] / "artifacts" / "pretrained" / "tiny")
    assert run(clones[1], shared) == 0
    assert resumed_at(clones[1])[-1] == NUM_STEPS
    expect_the_same_state(whole, clones[1])
    (checkpoint,) = (path for path in shared.rglob("*.ckpt"))
    assert checkpoint.name.startswith(f"step-{NUM_STEPS:010d}-")


def expect_the_same_state(whole: Path, resumed: Path) -> None:
    """Weights, curve, previews and manifest, byte by byte."""
    assert weights_of(resumed) == weights_of(whole)
    assert points_of(resumed) == points_of(whole)
    states = [root / "artifacts" / "pretrained" / "tiny" for root in (whole, resumed)]
    for name in ("previews.md", "manifest.json"):
        assert (states[0] / name).read_bytes() == (states[1] / name).read_bytes()
