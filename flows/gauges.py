"""What a machine and a stage use while the stage works, under the names by which MLflow shows system metrics.

The stage's process knows no tracking server, and MLflow's own monitor watches the process it runs in; so the flow looks
at the stage from outside. `cpu`, `memory`, `disk` and `gpu` figures are those of the machine, `stage` those of the
stage's processes alone.
"""

import contextlib
import shutil
import subprocess
import time
from itertools import pairwise

import psutil

EVERY_SECONDS = 10.0
"""As often as MLflow's own monitor looks."""
QUERY = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw", "power.limit")
QUERY_SECONDS = 5.0
MEBI, MEGA = 1 << 20, 1e6


def stage_process(verb: str, name: str) -> psutil.Process | None:
    """The process of a stage among those that descend from ours."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (verb, name) in pairwise(process.cmdline()):
                return process
    return None


class Gauges:
    """Figures since the last look; of one thread, which makes it and reads it."""

    def __init__(self, verb: str, name: str) -> None:
        self.verb, self.name = verb, name
        self._read_at, self._busy = time.monotonic(), 0.0
        psutil.cpu_percent()  # counts from here

    def read(self) -> dict[str, float]:
        """Metric -> value, by MLflow's names."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(".")
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGA,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / MEGA,
            **self._stage(),
            **gpus(),
        }
        return {f"system/{key}": round(value, 1) for key, value in found.items()}

    def _stage(self) -> dict[str, float]:
        """Share of all cores, and memory, of a stage's processes; what they share counts for each of them."""
        root, resident, busy = stage_process(self.verb, self.name), 0, 0.0
        for process in [root, *_children(root)] if root else []:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                busy, resident = busy + times.user + times.system, resident + process.memory_info().rss
        now, before = time.monotonic(), (self._read_at, self._busy)
        self._read_at, self._busy = now, busy
        if not resident:
            return {}
        share = max(busy - before[1], 0.0) / max(now - before[0], 1e-3) / (psutil.cpu_count() or 1)
        return {"stage_cpu_utilization_percentage": 100 * share, "stage_memory_usage_megabytes": resident / MEGA}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def gpus() -> dict[str, float]:
    """The figures of every GPU that `nvidia-smi` knows; none without it, or if it does not answer in seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=QUERY_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return {}
    return gpu_figures(done.stdout)


def gpu_figures(text: str) -> dict[str, float]:
    """What `nvidia-smi` answers to `QUERY`, a line a GPU, by MLflow's names; what it cannot tell is left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        index, *cells = (cell.strip() for cell in line.split(","))
        used, held, total, drawn, limit = (_number(cell) for cell in cells)
        figures = {
            "utilization_percentage": used,
            "memory_usage_megabytes": held and held * MEBI / MEGA,
            "memory_usage_percentage": held and total and 100 * held / total,
            "power_usage_watts": drawn,
            "power_usage_percentage": drawn and limit and 100 * drawn / limit,
        }
        found |= {f"gpu_{index}_{key}": value for key, value in figures.items() if value is not None}
    return found


def _number(cell: str) -> float | None:
    """A figure; None where `nvidia-smi` says `[N/A]` or `[Not Supported]`."""
    try:
        return float(cell)
    except ValueError:
        return None
