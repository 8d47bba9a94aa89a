"""A short profile of a training on demand: HIRAKU_PROFILE_STEPS=3."""

from typing import Any

import torch

from components import ranks
from components.journal import Journal
from components.settings import settings

FIRST_STEP = 2
"""Steps of a run that are let pass: they allocate, compile and fill caches."""
TRACE_NAME = "trace.json.gz"
TABLE_NAME = "profile.txt"
NUM_ROWS = 25


class Profiler:
    """Records a few steps; leaves a trace for chrome://tracing or Perfetto, and a table of operators."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.num_steps = journal, settings().profile_steps if ranks.is_main() else 0
        self.profile: Any = None

    def step(self, num_done: int) -> None:
        """After each step: how many this run has done."""
        if self.num_steps and num_done == FIRST_STEP and self.profile is None:
            self.profile = torch.profiler.profile(profile_memory=True)
            self.profile.start()
        elif self.profile is not None and num_done >= FIRST_STEP + self.num_steps:
            self.finish()

    def finish(self) -> None:
        """Leave what was recorded, if a training ends or goes back before its time; nothing is recorded after."""
        self.num_steps = 0
        if self.profile is None:
            return
        self.profile.stop()
        self.profile.export_chrome_trace(str(self.journal.folder / TRACE_NAME))
        key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        self.journal.note(TABLE_NAME, self.profile.key_averages().table(sort_by=key, row_limit=NUM_ROWS))
        self.profile = None
