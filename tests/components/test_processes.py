"""Who is alive."""

import os
import subprocess
import sys

from components import processes


def test_a_process_is_told_dead_only_where_it_could_be_seen() -> None:
    machine, boot, namespace, process = processes.mark().split("/")
    pid, _, birth = process.partition("@")
    assert not processes.is_dead(f"{machine}/{boot}/{namespace}/{process}")
    # Its number belongs to another process by now.
    assert processes.is_dead(f"{machine}/{boot}/{namespace}/{pid}@{birth}1")
    assert processes.is_dead(f"{machine}/another boot/{namespace}/1@0")
    # Another container on the host's network, another machine, something else.
    assert not processes.is_dead(f"{machine}/{boot}/pid:[1]/1@0")
    assert not processes.is_dead(f"another/{boot}/{namespace}/1@0")
    assert not processes.is_dead("")


def test_a_dead_process_that_nobody_has_reaped_does_not_live() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from components import processes; print(processes.mark(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    mark = process.stdout.readline().strip()
    assert not processes.is_dead(mark)
    process.kill()
    # Waits without reaping.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.is_dead(mark)
    process.communicate()
