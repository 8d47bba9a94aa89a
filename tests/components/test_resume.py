"""The headline of the trainer: killed anywhere and resumed anyhow, it ends with the bits of a run never stopped."""

import multiprocessing
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.components.small_pretraining import (
    kill_at_call,
    kill_at_save,
    points_of,
    run_pretrain,
    weights_of,
    write_project,
)

NUM_STEPS = 30
# Two micro-batches a step, and every seven steps a validation of three.
CALLS = 2 * NUM_STEPS + 3 * (NUM_STEPS // 7 + 1)

# Processes of their own that share one import of torch, transformers and lightning.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.components.small_pretraining", "components.pretrain", "components.training",
                                  "models.gpt.network", "models.gpt.objectives"])  # fmt: skip


def run(root: Path, checkpoints: Path, num_workers: int = 0, every_seconds: float = 0.02, arm: Callable[[int], None] | None = None, at: int = 0) -> int:  # fmt: skip # noqa: E501
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


@pytest.mark.slow
def test_killed_at_ten_random_points_it_ends_with_the_bits_of_a_run_never_stopped(
    project: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = project("whole")
    assert run(whole, tmp_path / "w") == 0
    chance = random.Random(3)
    killed, clones, shared = project("killed"), {}, tmp_path / "shared"
    clones = {False: killed, True: project("second-clone")}
    kills = [(kill_at_call, chance.randint(2, 14)) for _ in range(8)] + [(kill_at_save, 1), (kill_at_save, 2)]
    chance.shuffle(kills)
    for number, (arm, at) in enumerate(kills):
        # Workers and the clone change from run to run; the interval makes checkpoints fall anywhere.
        root = clones[number % 3 == 2]
        code = run(root, shared, num_workers=2 * (number % 2), every_seconds=0.02, arm=arm, at=at)
        assert code == -signal.SIGKILL
        assert not (root / "artifacts" / "pretrained" / "tiny").exists()
    assert run(clones[True], shared, num_workers=2) == 0
    assert weights_of(clones[True]) == weights_of(whole)
    assert points_of(clones[True]) == points_of(whole)
    names = ("previews.md", "manifest.json")
    states = [root / "artifacts" / "pretrained" / "tiny" for root in (whole, clones[True])]
    assert [(states[0] / name).read_bytes() for name in names] == [(states[1] / name).read_bytes() for name in names]
    assert not [path for path in shared.rglob("*") if path.is_file()]  # nothing is left of what is finished
