"""Work in parts for tests of executors; processes elsewhere import it, so it imports little."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """Leaves a file for each time that a part is run; the first time, one part is killed in the middle of it."""

    folder: str
    killed: int = -1

    def __call__(self, _data, rank, world_size):
        times = len(list(Path(self.folder).glob(f"{rank}-*")))
        (Path(self.folder) / f"{rank}-{times}").write_text(f"{rank} of {world_size}")
        if rank == self.killed and not times:
            os.kill(os.getpid(), signal.SIGKILL)
