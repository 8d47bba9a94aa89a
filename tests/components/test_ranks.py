"""Several processes that train one network: the numbers of one alone, and no process left when one dies.

On a CPU, over gloo; the same code runs over NCCL.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from components.outcomes import Outcome
from tests.components.small_pretraining import points_of, write_project
from tests.conftest import ROOT

PATIENCE_SECONDS = 240.0
STARTED: list["subprocess.Popen[str]"] = []
WORK: dict[str, Any] = {"dropout": 0.0, "micro_tokens": 16, "validate_every": 3, "ema_decay": 0.9}
"""Several micro-batches for each rank, and steps after a validation with averaged weights."""
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}
"""Sums over ranks are added in another order."""


def start(root: Path, num_devices: int, every_seconds: float = 1000.0) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "HIRAKU_NUM_DEVICES": str(num_devices),
        "HIRAKU_CHECKPOINT_EVERY_SECONDS": str(every_seconds),
        "HIRAKU_NUM_THREADS": "1",
        "HIRAKU_ACCELERATOR": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "components", "pretrain", "tiny"]
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    STARTED.append(process)
    return process


def finish(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    return said


def outcome(root: Path) -> Outcome:
    return Outcome(**json.loads((root / "artifacts/outcomes/pretrain/tiny.json").read_text()))


def kill_after(root: Path, process: "subprocess.Popen[str]", step: int, victim: Callable[[int], int]) -> list[Any]:
    """Kill one of the processes once a later checkpoint than this stands; the others, once they are gone too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(int(path.name.split("-")[1]) > step for path in root.glob(".hiraku/checkpoints/*/*/step-*.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint comes"
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(victim(process.pid), signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)
    psutil.wait_procs(family, 20)
    left = [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not left
    return family


def losses(root: Path) -> dict[int, float]:
    return {
        row["step"]: row["metrics"]["pretrain/loss"] for row in points_of(root) if "pretrain/loss" in row["metrics"]
    }


def assert_trained_alike(root: Path, other: Path) -> None:
    assert losses(root) == pytest.approx(losses(other), rel=1e-5)
    ours, theirs = (load_file(each / "artifacts/pretrained/tiny/weights/model.safetensors") for each in (root, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_close(ours[name], theirs[name], **TOLERANCE, msg=name)


@pytest.fixture(autouse=True)
def leave_nobody() -> Iterator[None]:
    """The other ranks die with the first."""
    yield
    while STARTED:
        STARTED.pop().kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One process of each architecture, never stopped."""
    roots = {}
    here = Path.cwd()
    for architecture in ("gpt2", "gpt_neox"):
        roots[architecture] = root = tmp_path_factory.mktemp(architecture)
        write_project(root, 40, architecture, **WORK)
        os.chdir(here)
        finish(start(root, 2))  # strategy `single` takes one device, however many there are
    return roots


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_train_as_one_does_whoever_is_killed_and_however_many_go_on(
    strategy: str, alone: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, 40, strategy=strategy, **WORK)
    process = start(tmp_path, 2, every_seconds=0)
    family = kill_after(tmp_path, process, 5, lambda main: psutil.Process(main).children()[0].pid)
    assert len(family) == 1
    assert outcome(tmp_path).kind == "failed"
    assert outcome(tmp_path).reason.endswith("Rank 1 of pretrain tiny was ended by SIGKILL (killed by a person, or by "
                                             "the kernel for want of memory).")  # fmt: skip
    process = start(tmp_path, 1, every_seconds=0)
    kill_after(tmp_path, process, 15, lambda main: main)
    assert re.search("going on after step (1[6-9]|2|3)", finish(start(tmp_path, 2)))
    assert_trained_alike(tmp_path, alone["gpt2"])


@pytest.mark.slow
def test_a_network_whose_head_is_its_own_is_shared_as_well(
    alone: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, 40, "gpt_neox", strategy="fsdp2", **WORK)
    finish(start(tmp_path, 2))
    assert_trained_alike(tmp_path, alone["gpt_neox"])


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, 2000, strategy="ddp", dropout=0.0)
    process = start(tmp_path, 2, every_seconds=0)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list(tmp_path.glob(".hiraku/checkpoints/*/*/step-*.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    said = process.communicate(timeout=PATIENCE_SECONDS)[0]
    assert outcome(tmp_path).kind == "stopped"
    assert "Stopped by SIGTERM after step" in outcome(tmp_path).reason
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_batch_that_the_ranks_cannot_share_is_refused_before_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, 5, strategy="ddp")
    said = start(tmp_path, 3).communicate(timeout=PATIENCE_SECONDS)[0]
    assert outcome(tmp_path).kind == "refused"
    assert "A batch has 8 samples, which 3 devices cannot share evenly" in said
    assert "HIRAKU_NUM_DEVICES" in said


@pytest.mark.slow
def test_torchrun_starts_the_ranks_where_a_person_wants_it_to(
    alone: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, 40, strategy="ddp", **WORK)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
               f"--master-port={port}", "-m", "components", "pretrain", "tiny"]  # fmt: skip
    environment = os.environ | {"HIRAKU_NUM_THREADS": "1", "HIRAKU_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_trained_alike(tmp_path, alone["gpt2"])
