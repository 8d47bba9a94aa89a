"""DVC's loader of stages, which reads `dvc.yaml` again only after it has changed.

DVC parses and checks the whole file each time it is asked for a stage. Ours names hundreds, which takes half a second,
and a release asks a few times for each stage that it runs.
"""

from pathlib import Path
from typing import Any

from dvc.dvcfile import ProjectFile, load_file
from dvc.repo import Repo
from dvc.repo.stage import StageLoad


class KeptStages(StageLoad):
    """In the place of `Repo.stage`; `dvc.lock`, which other processes write, is read every time."""

    def __init__(self, repo: Repo) -> None:
        """Keep nothing yet."""
        super().__init__(repo)
        self._state: tuple[Path, int, int] | None = None
        self._contents: dict[str, Any] = {}

    def load_all(
        self, path: str | None = None, name: str | None = None, accept_group: bool = True, glob: bool = False
    ) -> list[Any]:
        """As DVC's own."""
        file = load_file(self.repo, self._get_filepath(path, name))
        if not isinstance(file, ProjectFile) or not file.exists():
            found: list[Any] = super().load_all(path, name, accept_group, glob)
            return found
        place = Path(file.path).absolute()  # DVC's `pull` asks by a relative path
        about = place.stat()
        state = (place, about.st_mtime_ns, about.st_size)
        if state != self._state:
            self._state, self._contents = state, file.contents
        file.contents = self._contents
        return [file.stages[key] for key in self._get_keys(file.stages, name, accept_group, glob)]
