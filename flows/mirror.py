"""While a stage works, mirror its journal into a run of the tracking server.

The run is opened when the stage's process shows its first sign of life, so a stage restored from the run cache leaves
none. Its id is kept beside the journal together with the key of the inputs: a stage that was stopped goes on in its
old run, one with other inputs starts a new one.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from components import paths, tracking
from components.journal import PARAMETERS_NAME, POINTS_NAME

RUN_NAME = "run.json"
EVERY_SECONDS = 3.0
MAX_REPORT_BYTES = 5_000_000
REPORT_SUFFIXES = frozenset({".html", ".md", ".json", ".txt", ".png", ".svg"})
REPORTS = {
    "ingest": ("report.json",),
    "validate": ("profile.json", "report.html"),
    "fit": ("report.json",),
    "evaluate": ("scores/scores.json",),
    "package": ("*/README.md",),
}
"""Small files of a state that are worth reading beside the curves; every state's manifest is kept too."""


class Mirror:
    """A context in which the journal of one stage is mirrored; `run_id` is empty if no process of it ever worked."""

    def __init__(self, release: tracking.Release, verb: str, name: str, key: str, tags: dict[str, str]) -> None:
        self.release = release
        self.verb = verb
        self.name = name
        self.key = key
        self.tags = tags
        self.run_id = ""
        self.seconds = 0.0
        """Wall time that tracking took, in the background or not."""
        self.last: dict[str, float] = {}
        """The last value of each metric."""
        self.trouble = ""
        self._folder = paths.journal(verb, name)
        self._logged: set[tuple[str, int]] = set()
        self._offset = 0
        self._has_parameters = False
        self._started = time.time()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"mirror {verb} {name}")

    def __enter__(self) -> "Mirror":
        self._started = time.time()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is not None and self.run_id:  # interrupted: the next run of the stage opens it again
            self._guarded(self._send)
            self._guarded(lambda: tracking.close_run(self.run_id, "KILLED"))

    def finish(self, is_done: bool, seconds: dict[str, float], tags: dict[str, str]) -> None:
        """Bring the run up to date, attach the reports and end it. Only for a stage whose process worked."""
        self._ended.set()
        self._thread.join()
        started = time.monotonic()
        self._guarded(self._open)
        self._guarded(self._send)
        self._guarded(lambda: self._close(is_done, seconds, tags))
        self.seconds += time.monotonic() - started

    # ---- the thread ----

    def _follow(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            if self._is_new(self._folder / POINTS_NAME):
                started = time.monotonic()
                self._guarded(self._open)
                self._guarded(self._send)
                self.seconds += time.monotonic() - started

    def _guarded(self, step: Any) -> None:
        """A tracking server that falls silent costs the curves and never the training."""
        try:
            step()
        except tracking.troubles() as error:
            self.trouble = f"{type(error).__name__}: {error}"

    def _is_new(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_mtime >= self._started - 1

    def _open(self) -> None:
        if self.run_id:
            return
        path = self._folder / RUN_NAME
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        resume = known.get("run_id", "") if known.get("key") == self.key else ""
        run_id = tracking.open_stage_run(self.release, self.verb, self.name, self.tags, resume)
        self._logged = tracking.logged_points(run_id) if run_id == resume else set()
        self._folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"run_id": run_id, "key": self.key}) + "\n", encoding="utf-8")
        self.run_id = run_id

    def _send(self) -> None:
        if not self.run_id:
            return
        parameters = self._folder / PARAMETERS_NAME
        if not self._has_parameters and self._is_new(parameters):
            tracking.log_parameters(self.run_id, json.loads(parameters.read_text(encoding="utf-8")))
            self._has_parameters = True
        points = self._new_points()
        tracking.log_points(self.run_id, points, self._logged)
        for point in points:
            self.last.update(point["metrics"])

    def _new_points(self) -> list[dict[str, Any]]:
        path = self._folder / POINTS_NAME
        if not self._is_new(path):
            return []
        if path.stat().st_size < self._offset:  # rewritten on resume: the steps that were sent are known
            self._offset = 0
        with path.open("rb") as stream:
            stream.seek(self._offset)
            whole, _, _ = stream.read().rpartition(b"\n")  # the last line may still be half written
        if not whole:
            return []
        self._offset += len(whole) + 1
        return [json.loads(line) for line in whole.decode("utf-8").splitlines() if line.strip()]

    # ---- the end ----

    def _close(self, is_done: bool, seconds: dict[str, float], tags: dict[str, str]) -> None:
        if not self.run_id:
            return
        times = {
            "metrics": {f"seconds/{part}": value for part, value in seconds.items()},
            "time": time.time(),
            "step": 0,
        }
        tracking.log_points(self.run_id, [times], set())
        tracking.attach_files(self.run_id, self._files(is_done))
        for key, value in tags.items():
            tracking.tag_run(self.run_id, key, value)
        tracking.close_run(self.run_id, "FINISHED" if is_done else "FAILED")

    def _files(self, is_done: bool) -> dict[Path, str | None]:
        folders = (
            {self._folder: "journal"}
            if is_done
            else {
                self._folder: "journal",
                paths.outcome_folder(self.verb, self.name): "refused",
            }
        )
        found: dict[Path, str | None] = {
            path: label
            for folder, label in folders.items()
            for path in sorted(folder.glob("*"))
            if path.name != RUN_NAME and self._is_new(path) and _is_report(path)
        }
        if is_done:
            state = paths.state(self.verb, self.name)
            for pattern in ("manifest.json", *REPORTS.get(self.verb, ())):
                found.update({path: None for path in sorted(state.glob(pattern)) if _is_report(path)})
        return found


def _is_report(path: Path) -> bool:
    return path.is_file() and path.suffix in REPORT_SUFFIXES and path.stat().st_size <= MAX_REPORT_BYTES
