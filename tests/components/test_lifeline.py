"""No process outlives what started it, however that dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import os, time
from components.lifeline import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
time.sleep(300)
"""

# Starts the child as given and waits for it.
PARENT = "import subprocess, sys; subprocess.run(sys.argv[1:])"


def is_alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def start(command: list[str], **environment: str) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert parent.stdout
    return parent, int(parent.stdout.readline())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent died")
@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", CHILD],
        ["sh", "-c", '"$0" -c "$1"; true', sys.executable, CHILD],  # a shell that stays between them
    ],
    ids=["direct", "through a shell"],
)
def test_a_killed_parent_takes_the_process_along(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIRAKU_OUTLIVE_PARENT", raising=False)
    parent, child = start(command)
    assert is_alive(child)
    parent.kill()
    parent.wait()
    for _ in range(600):
        if not is_alive(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the process outlived its parent by a minute")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent died")
def test_a_person_may_ask_it_to_outlive_its_parent() -> None:
    parent, child = start([sys.executable, "-c", CHILD], HIRAKU_OUTLIVE_PARENT="1")
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
