"""What differs from run to run: curves, times, settings, samples. Written by a stage, mirrored to MLflow by the flow.

A stage needs no tracking server and imports none: it leaves files, and a bare `dvc repro` or a GPU machine without
MLflow leaves the same ones.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from components import paths, ranks

POINTS_NAME = "metrics.jsonl"
PARAMETERS_NAME = "parameters.json"


class Journal:
    """The record of one run of a stage, in `artifacts/journals/<verb>/<name>/`; of several ranks, rank 0 writes it."""

    def __init__(self, verb: str, name: str) -> None:
        self.verb, self.name = verb, name
        self.folder = paths.journal(verb, name)
        if ranks.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
        self.rewrite([])

    @property
    def points_path(self) -> Path:
        """One JSON object a line: `{"step", "time", "metrics": {key: value}}`."""
        return self.folder / POINTS_NAME

    def parameters(self, values: dict[str, Any]) -> None:
        """Record what the run was made with; nested values are flattened with dots."""
        text = json.dumps(values, ensure_ascii=False, indent=1, default=str)
        self.note(PARAMETERS_NAME, text + "\n")

    def metrics(self, step: int, **values: float) -> None:
        """Add one point; keys become `<verb>/<metric>`."""
        point = {
            "step": step,
            "time": round(time.time(), 3),
            "metrics": {f"{self.verb}/{key}": float(value) for key, value in values.items()},
        }
        self.points.append(point)
        if not ranks.is_main():
            return
        with self.points_path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(point) + "\n")

    def rewrite(self, points: list[dict[str, Any]]) -> None:
        """Start over from the points that a checkpoint remembers, so that a resumed run repeats no step."""
        self.points = list(points)
        if not ranks.is_main():
            return
        # A new file: whoever follows the old one sees that it is another.
        partial = self.points_path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(point) + "\n" for point in points), encoding="utf-8")
        partial.replace(self.points_path)

    def note(self, file_name: str, text: str) -> None:
        """Leave a text (Markdown, HTML) that the tracking server shows beside the curves."""
        if ranks.is_main():
            # Whole or not at all: the flow reads it while the stage goes on.
            partial = self.folder / f"{file_name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.folder / file_name)


class Follower:
    """Reads the points of a journal as they come, from the first again once the journal was rewritten."""

    def __init__(self, points_path: Path) -> None:
        self.path = points_path
        self._stream: BinaryIO | None = None

    def new_points(self) -> list[dict[str, Any]]:
        """The points since the last call; the journal must exist."""
        # The old file is held open until the new one is: else its inode may come back as that of its successor.
        if self._stream is None or not os.path.samestat(os.fstat(self._stream.fileno()), self.path.stat()):
            successor = self.path.open("rb")
            self.close()
            self._stream = successor
        begin = self._stream.tell()
        whole, end, _ = self._stream.read().rpartition(b"\n")  # the last line may still be half written
        self._stream.seek(begin + len(whole + end))
        return [json.loads(line) for line in whole.splitlines() if line.strip()]

    def close(self) -> None:
        """Let go of the journal."""
        if self._stream:
            self._stream.close()
            self._stream = None
