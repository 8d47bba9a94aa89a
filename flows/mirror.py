"""While a stage works, mirror its journal into a run of the tracking server.

The run is opened when the process of this launch shows its first sign of life, so a stage restored from the run cache,
or made by another flow meanwhile, leaves none. Its id is kept beside the journal together with the key of the inputs: a
stage that was stopped goes on in its old run, one with other inputs starts a new one. When the run began stands there
too: what lies in the journal since then is its own, an earlier try's that did not come to send it included.
"""

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components import paths, run_page, tracking
from components.corpora import used_by
from components.effort import effort_of
from components.journal import PARAMETERS_NAME, POINTS_NAME, Follower
from components.manifest import MANIFEST_NAME, read_manifest
from components.outcomes import Kind, Outcome
from components.recipes import Library
from components.wording import one_line, shown
from flows import exhibits, gauges, scoreboard

RUN_NAME = "run.json"
STATUS: dict[Kind, str] = {
    "done": "FINISHED",
    "stopped": "KILLED",
    "refused": "FAILED",
    "busy": "FAILED",
    "failed": "FAILED",
}
"""How a stage ended -> the status of its run."""
EVERY_SECONDS = 3.0
MAX_REPORT_BYTES = 5_000_000
REPORT_SUFFIXES = frozenset({".html", ".md", ".json", ".txt", ".png", ".svg"})
REPORTS = {
    "ingest": ("report.json",),
    "validate": ("profile.json", "report.html", "report.md"),
    "fit": ("report.json", "report.md"),
    "evaluate": ("scores/scores.json",),
    "package": ("*/README.md",),
}
"""Small files of a state that are worth reading beside the curves; every state's manifest is kept too."""
JOURNAL = "journal"
"""Where the files of a journal stand among the artifacts of a run."""
GROWING = ("samples-*.svg", "previews.md")
"""Files of a journal that a person looks at while a training goes on."""


def known_run(verb: str, name: str) -> dict[str, Any]:
    """The run that a stage's process worked in last; empty if none did.

    Its `run_id`, the `key` of its inputs, and `began`, in seconds since 1970, when its first launch did.
    """
    path = paths.journal(verb, name) / RUN_NAME
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


class Mirror:
    """A context around one launch, whose journal is mirrored; `run_id` is empty if no process of it ever worked."""

    def __init__(self, release: tracking.Release, verb: str, name: str, key: str, tags: dict[str, str]) -> None:
        self.release = release
        self.verb = verb
        self.name = name
        self.key = key
        self.tags = tags
        self.run_id = ""
        self.last: dict[str, float] = {}
        """The last value of each metric."""
        self.trouble = ""
        """What the tracking server answered last when it did not take something."""
        self._folder = paths.journal(verb, name)
        self._logged: set[tuple[str, int]] = set()
        self._load: list[dict[str, Any]] = []
        """Readings of the gauges that are still to be sent."""
        self._follower = Follower(self._folder / POINTS_NAME)
        self._has_parameters = False
        self._started = self._began = time.time()
        self._kept: dict[str, int] = {}
        """File of the journal that the run had when it was opened again -> its bytes."""
        self._sent: dict[str, int] = {}
        """File of the journal that this launch has sent -> when it was written."""
        self._is_closed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"mirror {verb} {name}")

    def __enter__(self) -> "Mirror":
        self._started = self._began = time.time()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._end()
        if self.run_id and not self._is_closed:  # interrupted: the next run of the stage opens it again
            self._guarded(self._send)
            self._guarded(lambda: tracking.close_run(self.run_id, "KILLED"))
        self._follower.close()

    def finish(self, outcome: Outcome, has_worked: bool, tags: dict[str, str]) -> None:
        """Bring the run up to date, attach the reports and end it.

        Args:
            outcome: how the stage ended.
            has_worked: whether its process was ours, and worked: without a run so far, it gets one.
            tags: for the run.
        """
        self._end()
        if has_worked:
            self._guarded(self._open)
        self._guarded(self._send)
        self._guarded(lambda: self._close(outcome, tags))
        self._is_closed = True

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    # ---- the thread ----

    def _follow(self) -> None:
        looked, watched = time.monotonic(), gauges.Gauges(self.verb, self.name)
        while not self._ended.wait(EVERY_SECONDS):
            if self.run_id or (self._is_new(self._folder / POINTS_NAME) and self._is_at_work()):
                if time.monotonic() - looked >= gauges.EVERY_SECONDS:
                    looked = time.monotonic()
                    self._load.append({"time": time.time(), "metrics": watched.read()})
                self._guarded(self._open)
                self._guarded(self._send)
        self._load.append({"time": time.time(), "metrics": watched.read()})

    def _is_at_work(self) -> bool:
        """Whether the stage's process descends from ours; else the journal is of another flow, which we wait for."""
        return gauges.stage_process(self.verb, self.name) is not None

    def _guarded(self, step: Any) -> None:
        """A tracking server that falls silent costs the curves and never the training."""
        try:
            step()
        except tracking.troubles() as error:
            self.trouble = one_line(shown(f"{type(error).__name__}: {error}"), 400)

    def _is_new(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_mtime >= self._started - 1

    def _is_own(self, path: Path) -> bool:
        """Whether this run's process left a file, in this launch or in an earlier one."""
        return path.is_file() and path.stat().st_mtime >= self._began - 1

    def _open(self) -> None:
        if self.run_id:
            return
        known = known_run(self.verb, self.name)
        resume = known.get("run_id", "") if known.get("key") == self.key else ""
        run_id = tracking.open_stage_run(self.release, self.verb, self.name, self.tags, resume)
        if run_id == resume:
            self._logged = tracking.logged_points(run_id)
            self._kept = tracking.attached_bytes(run_id, JOURNAL)
            self._began = known.get("began", self._started)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = (self._folder / RUN_NAME).with_suffix(".partial")
        partial.write_text(
            json.dumps({"run_id": run_id, "key": self.key, "began": self._began}) + "\n", encoding="utf-8"
        )
        partial.replace(self._folder / RUN_NAME)
        self.run_id = run_id
        self._name_corpora()

    def _name_corpora(self) -> None:
        """Name the data that the stage reads; its own records too, when they are made."""
        versions = {key: value for key, value in dict(self.release.tags).items() if key.startswith("data ")}
        tracking.log_corpora(self.run_id, used_by(Library(), self.verb, self.name), versions)

    def _send(self) -> None:
        if not self.run_id:
            return
        parameters = self._folder / PARAMETERS_NAME
        if not self._has_parameters and self._is_new(parameters):
            tracking.log_parameters(self.run_id, json.loads(parameters.read_text(encoding="utf-8")))
            self._has_parameters = True
        points = self._follower.new_points() if self._is_new(self._folder / POINTS_NAME) else []
        tracking.log_points(self.run_id, points, self._logged)
        for point in points:
            self.last.update(point["metrics"])
        first = 1 + max((step for key, step in self._logged if key.startswith("system/")), default=-1)
        load, self._load = self._load, []
        tracking.log_points(self.run_id, [row | {"step": first + n} for n, row in enumerate(load)], self._logged)
        self._send_files(path for pattern in GROWING for path in sorted(self._folder.glob(pattern)))

    def _send_files(self, found: Iterable[Path]) -> None:
        """Send files of the journal, each once until it is written again."""
        for path in found:
            if not self._is_own(path) or not self._is_report(path):
                continue
            stat = path.stat()
            is_kept = not self._is_new(path) and self._kept.get(path.name) == stat.st_size
            if not is_kept and self._sent.get(path.name) != stat.st_mtime_ns:
                tracking.attach_files(self.run_id, {path: JOURNAL})
                self._sent[path.name] = stat.st_mtime_ns

    # ---- the end ----

    def _close(self, outcome: Outcome, tags: dict[str, str]) -> None:
        if not self.run_id:
            return
        is_done = outcome.kind == "done"
        try:
            self._send_cost(outcome)
            for key, value in tags.items():
                tracking.tag_run(self.run_id, key, value)
            run_page.note_run(self.run_id, self._note(outcome))
            if is_done:
                self._name_corpora()
            self._attach(is_done)
        finally:
            tracking.close_run(self.run_id, STATUS[outcome.kind])

    def _send_cost(self, outcome: Outcome) -> None:
        """Seconds of all tries of this run together, a step a try; and what its training cost."""
        before = tracking.last_metrics(self.run_id)
        times = {f"seconds/{part}": value for part, value in outcome.seconds.items()}
        tries = 1 + max((step for key, step in self._logged if key.startswith("seconds/")), default=-1)
        sums = {key: value + before.get(key, 0.0) for key, value in times.items()}
        tracking.log_points(self.run_id, [{"metrics": sums, "time": time.time(), "step": tries}], self._logged)
        effort = effort_of(exhibits.read_points(self.verb, self.name), self.verb)
        if outcome.kind == "done" and effort:
            found = effort.metrics(self.verb)
            self.last |= found
            tracking.log_points(self.run_id, [{"metrics": found, "time": time.time(), "step": 0}], self._logged)

    def _note(self, outcome: Outcome) -> str:
        is_made = outcome.kind == "done" and (paths.state(self.verb, self.name) / MANIFEST_NAME).is_file()
        return exhibits.stage_note(
            exhibits.StageNote(
                self.verb,
                self.name,
                outcome.kind,
                outcome.reason,
                outcome.seconds.get("work", 0.0),
                self.last,
                read_manifest(self.verb, self.name).parents if is_made else {},
                self.release.tags.get("git_revision", ""),
                run_page.page_of(self.release.open()),
            )
        )

    def _attach(self, is_done: bool) -> None:
        if drawing := exhibits.picture(exhibits.read_points(self.verb, self.name), self.verb):
            run_page.attach_text(self.run_id, drawing, exhibits.CURVE_NAME)
        for path, columns in exhibits.tables(self.verb, self.name).items() if is_done else ():
            run_page.log_table(self.run_id, path, columns)
        for path, drawing in scoreboard.pictures(self.name).items() if is_done and self.verb == "evaluate" else ():
            run_page.attach_text(self.run_id, drawing, path)
        self._send_files(path for path in sorted(self._folder.glob("*")) if path.name != RUN_NAME)
        tracking.attach_files(self.run_id, self._files(is_done))

    def _files(self, is_done: bool) -> dict[Path, str | None]:
        """Reports of the state, or why it was refused: path -> folder among the artifacts."""
        if not is_done:
            refused = sorted(paths.outcome_folder(self.verb, self.name).glob("*"))
            return {path: "refused" for path in refused if self._is_new(path) and self._is_report(path)}
        state = paths.state(self.verb, self.name)
        found = (path for name in (MANIFEST_NAME, *REPORTS.get(self.verb, ())) for path in sorted(state.glob(name)))
        return {path: None for path in found if self._is_report(path)}

    def _is_report(self, path: Path) -> bool:
        """Whether a file is worth keeping with a run; of one that is too large a person is told."""
        if not path.is_file() or path.suffix not in REPORT_SUFFIXES:
            return False
        size = path.stat().st_size
        if size > MAX_REPORT_BYTES:
            self.trouble = (
                f"{path} has {size / 1e6:,.1f} MB, expected at most {MAX_REPORT_BYTES / 1e6:g}; it stays on this disk."
            )
        return size <= MAX_REPORT_BYTES
