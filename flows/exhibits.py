"""What a run shows beside its curves: tables, a picture, and a note that tells what came out and what it cost."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import paths
from components.curve import draw, training_curve
from components.journal import POINTS_NAME
from components.markdown import label, number, short, table
from components.progress import duration
from components.scoring import ITEMS_NAME, OUTPUTS_NAME
from flows import scoreboard
from flows.summary import Summary

CURVE_NAME = "curve.svg"
SCORES, ITEMS, PREVIEWS = "tables/scores.json", "tables/items.json", "tables/previews.json"
OUTPUTS = "tables/outputs.json"
"""Tables that a run keeps, as MLflow's page shows and compares them."""
RESPONSES = "tables/responses.json"
"""Of an alignment: what the network answered before and after."""
MOST_ITEMS = 200
"""Rows of a metric of a task in the table of its items; all of them stand in the state, in items.parquet."""
MOST_OUTPUTS = 100
"""Answers to a part of a task, such as each of the tasks of lm-eval in each of its sets."""
MOST_FIGURES = 12
TRAINED = ("pretrain", "align")
HEADLINES = ("valid_loss", "loss", "mean_", "training_seconds", "training_flops", "utilisation_share", "_seen")
"""What a reader of a training looks for first; a name that begins or ends so."""

Columns = dict[str, list[Any]]


# ---- tables and pictures ---------------------------------------------------------------------------------------------


def tables(verb: str, name: str) -> dict[str, Columns]:
    """Path among a run's artifacts -> columns; what the stage has left of them."""
    if verb == "evaluate":
        found = {SCORES: _scores(name), ITEMS: _items(name), OUTPUTS: _outputs(name)}
    elif verb in TRAINED:
        found = {PREVIEWS: _previews(paths.state(verb, name) / "previews.md")}
        if verb == "align":
            found[RESPONSES] = _responses(found[PREVIEWS])
    else:
        found = {}
    return {path: columns for path, columns in found.items() if any(columns.values())}


def figures(verb: str, name: str) -> dict[str, float]:
    """The figures by which runs are compared, as far as a state itself tells them: `<verb>/<metric>` -> value."""
    if verb == "evaluate":
        return {
            f"{verb}/{task}/{key}": value
            for task, row in scoreboard.totals_of(name).items()
            for key, value in row.items()
        }
    curve = paths.state(verb, name) / "curve.json"
    points = json.loads(curve.read_text(encoding="utf-8")) if curve.is_file() else []
    return {key: value for point in points for key, value in point["metrics"].items()}


def _scores(name: str) -> Columns:
    rows = scoreboard.rows_of(name)
    return {
        "task": [row.task for row in rows],
        "metric": [row.metric for row in rows],
        "value": [row.value for row in rows],
        "standard_error": [row.error for row in rows],
    }


def _items(name: str) -> Columns:
    return _first_of_each(name, ITEMS_NAME, "metric", str, MOST_ITEMS)


def _outputs(name: str) -> Columns:
    # An item of lm-eval is named `<set>/<task>/<item>`.
    return _first_of_each(name, OUTPUTS_NAME, "item", lambda item: tuple(item.split("/")[:-1][:2]), MOST_OUTPUTS)


def _first_of_each(name: str, file: str, column: str, group_of: Callable[[str], Any], most: int) -> Columns:
    """The first rows of each group of a task in a table of scores; `group_of` tells it from a column."""
    path = paths.payload("evaluate", name) / file
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    whole, seen, kept = pq.read_table(path), Counter[Any](), []
    for place, (task, told) in enumerate(zip(*(whole[key].to_pylist() for key in ("task", column)), strict=True)):
        group = (task, group_of(told))
        seen[group] += 1
        if seen[group] <= most:
            kept.append(place)
    found: Columns = whole.take(kept).to_pydict()
    return found


def _previews(path: Path) -> Columns:
    """The sections `## Step N` of what a training showed while it went on."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, *parts = re.split(r"^## Step ([\d,]+)\n", text, flags=re.MULTILINE)
    steps = [int(step.replace(",", "")) for step in parts[::2]]
    return {"step": steps, "preview": [part.strip() for part in parts[1::2]]}


def _responses(previews: Columns) -> Columns:
    """A row for each prompt: what the network said with it before the first step, and after the last."""
    if len(previews["step"]) < 2 or previews["step"][0]:
        return {}
    before, after = (re.findall(r"^> (.*)$", previews["preview"][place], re.MULTILINE) for place in (0, -1))
    return {"before": before, "after": after} if len(before) == len(after) else {}


def read_points(verb: str, name: str) -> list[dict[str, Any]]:
    """The points of a stage's journal."""
    path = paths.journal(verb, name) / POINTS_NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]  # the last one may be cut


def picture(points: list[dict[str, Any]], verb: str) -> str:
    """Losses over steps, or rewards and KL, as SVG; empty if there are none."""
    lines, unit = training_curve(points, verb) if verb in TRAINED else ([], "")
    return draw(lines, "optimiser steps", unit) if lines else ""


# ---- notes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageNote:
    """What the note of a stage's run tells."""

    verb: str
    name: str
    ending: str
    """How it ended: `done`, or in other words."""
    reason: str
    seconds: float
    metrics: dict[str, float]
    """The last values, `<verb>/<metric>`."""
    parents: dict[str, str] = field(default_factory=dict)
    """Path -> content hash of all that it read."""
    revision: str = ""
    release: str = ""
    """The page of the run it belongs to."""


def stage_note(note: StageNote) -> str:
    """Markdown for the head of a stage's run."""
    spent = f" in {duration(note.seconds)}" if note.seconds else ""
    parts = [f"**{note.verb} {note.name}** {note.ending}{spent}{': ' + note.reason if note.reason else ''}"]
    if figures := headline(note.verb, note.metrics):
        parts.append(table(("", ""), figures))
    if note.parents:
        parts.append(table(("Made from", "SHA-256"), [(path, short(digest)) for path, digest in note.parents.items()]))
    parts.append(_origin(note.revision, {}))
    if note.release:
        parts.append(f"Part of [the run above it]({note.release}).")
    return "\n\n".join(part for part in parts if part)


def headline(verb: str, metrics: dict[str, float]) -> list[tuple[str, str]]:
    """The figures of a stage that a person looks for first: (words, value)."""
    own = {key.removeprefix(f"{verb}/"): value for key, value in metrics.items() if key.startswith(f"{verb}/")}
    if verb in TRAINED:
        own = {key: own[key] for word in HEADLINES for key in sorted(own) if key.startswith(word) or key.endswith(word)}
    elif verb == "evaluate":
        own = {key: value for key, value in sorted(own.items()) if not key.rpartition("/")[2].startswith("num_")}
    return [(label(key), number(value)) for key, value in list(own.items())[:MOST_FIGURES]]


def release_note(done: Summary, verb: str, status: str, metrics: dict[str, float], pages: dict[tuple[str, str], str],
                 tags: dict[str, str]) -> str:  # fmt: skip
    """Markdown for the head of the run of a release, or of a verb alone.

    Args:
        done: what became of its stages.
        verb: `release`, or the verb.
        status: of its run.
        metrics: of its run.
        pages: (verb, name) of a stage -> the page of the run that made it.
        tags: of its run: data and code.
    """
    words = {"FINISHED": "done", "FAILED": "failed", "KILLED": "stopped"}[status]
    began = f"**{verb} {done.recipe}** {words}"
    parts = [f"{began}: {done.reason}" if done.reason else began]
    if done.receipt:
        new = "new" if done.receipt["is_new"] else "unchanged"
        parts.append(f"Version {done.receipt['version']} of `{done.recipe}` in the registry ({new}).")
    found = {each: headline(each, metrics) for each in ("evaluate", *TRAINED)}
    parts += [table((each, ""), rows) for each, rows in found.items() if rows]
    rows = [
        (f"[{row.verb} {row.name}]({page})" if (page := pages.get((row.verb, row.name))) else f"{row.verb} {row.name}",
         row.state, duration(row.work) if row.work >= 0.5 else "")
        for row in done.rows
    ]  # fmt: skip
    parts += [table(("Stage", "", "Work"), rows)] if rows else []
    parts.append(_origin(tags.get("git_revision", ""), tags))
    return "\n\n".join(part for part in parts if part)


def _origin(revision: str, tags: dict[str, str]) -> str:
    """Which code, and which data."""
    changed = " with changes that are not committed" if tags.get("git_dirty") == "true" else ""
    words = [f"Code {short(revision)}{changed}."] if revision else []
    words += [
        f"`{key.removeprefix('data ')}` is {short(tags[key])}." for key in sorted(tags) if key.startswith("data ")
    ]
    return " ".join(words)
