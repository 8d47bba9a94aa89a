"""A machine's GPUs belong to one stage at a time, and to nobody after its death."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


NOBODY = 65534
"""The user without rights on every system that has /etc/passwd."""


def as_another_user(path: Path) -> str:
    """What a process of another user is told when it takes a lock for all."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    child = os.fork()  # the other user may not be able to read this checkout, so everything is loaded already
    if child == 0:
        try:
            os.setuid(NOBODY)
            with held(path, is_for_all=True):
                said = "held"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as stream:
        return stream.read()


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A lock in a folder like /tmp, which every user can reach and write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder) / "gpu.lock"


def test_a_lock_for_all_can_be_taken_by_another_user_whatever_the_umask(for_all: Path) -> None:
    before = os.umask(0o077)
    try:
        with held(for_all, is_for_all=True):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(for_all.stat().st_mode) == 0o666
    assert as_another_user(for_all) == "held"


def test_a_lock_that_somebody_else_keeps_for_himself_is_refused_with_what_to_do(for_all: Path) -> None:
    for_all.touch(0o644)
    said = as_another_user(for_all)
    assert said.startswith("Refused: ")
    assert f"chmod a+rw {for_all}" in said
    assert "Permission denied" in said


def test_all_jobs_lock_one_file_whatever_their_tmpdir(tmp_path: Path) -> None:
    program = "from components.devices import GPU_LOCK; print(GPU_LOCK)"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in (tmp_path, "/tmp")
    }
    assert len(found) == 1
