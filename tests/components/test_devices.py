"""A machine's GPUs belong to one stage at a time, and to nobody after its death."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components import devices
from components.locks import held
from components.outcomes import Busy
from tests.conftest import ROOT


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "subprocess.Popen[str]":
    """Another process that holds the lock of the GPUs."""
    monkeypatch.setattr(devices, "GPU_LOCK", tmp_path / "gpu.lock")
    program = (
        "import pathlib, sys\n"
        "from components.locks import held\n"
        "with held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "gpu.lock")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_stage_on_the_gpu_is_busy_and_is_told_who_holds_it(
    holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "uses_gpu", lambda: True)
    with pytest.raises(Busy, match=f"process {holder.pid} on .* holds .*gpu.lock"), devices.gpu_held():
        pass
    holder.kill()
    holder.wait()
    with devices.gpu_held():
        assert devices.GPU_LOCK.is_file()


def test_on_a_cpu_nothing_is_held(holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "uses_gpu", lambda: False)
    with devices.gpu_held():
        assert holder.poll() is None


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path / "a.lock"):
            assert f"process {os.getpid()} on" in (tmp_path / "a.lock").read_text()
