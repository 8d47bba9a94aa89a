"""The scores of a model for a person: as a table, beside what others have published, and as pictures."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import paths
from components.card_scores import with_error
from components.contamination import in_words
from components.manifest import MANIFEST_NAME, read_manifest
from components.markdown import label, table
from components.measures import Measure, told_of
from components.outcomes import Refused
from components.published import PublishedTable, our_value, read_tables, shortfall
from components.recipes import Library
from components.score_charts import Bar, Point, bars, scatter
from components.scoring import ITEMS_NAME, SCORES_NAME, parsed
from components.standard_errors import standard_errors
from components.weights import weights_folder

if TYPE_CHECKING:
    from rich.console import Console

BARS, SIZES = "charts/tasks.svg", "charts/{table}-{column}.svg"
"""Pictures of a run of `evaluate`."""
MOST_MODELS = 12
HIDDEN = "num_"
"""Begins the names of totals that count and judge nothing; of parts of a task, what stands after the last slash."""


@dataclass(frozen=True)
class Score:
    """One total of one task."""

    task: str
    metric: str
    value: float
    error: float | None
    """Its standard error, where single items tell it."""
    over: str = ""
    """Of a mean over tasks, over how many: ` over 7 tasks`."""


def totals_of(name: str) -> dict[str, dict[str, float]]:
    """Task -> metric -> value of a recipe that was evaluated; empty if it was not."""
    found: dict[str, dict[str, float]] = _told(name).get("tasks", {})
    return found


def notes_of(name: str) -> list[str]:
    """What could not be scored, `task: why` each."""
    found: dict[str, list[str]] = _told(name).get("notes", {})
    return [f"{task}: {note}" for task, notes in sorted(found.items()) for note in notes]


def _told(name: str) -> dict[str, Any]:
    path = paths.payload("evaluate", name) / SCORES_NAME
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def rows_of(name: str) -> list[Score]:
    """Every total of a recipe that was evaluated, by task, with standard errors."""
    totals = totals_of(name)
    errors = _errors(name) if totals else {}
    return [
        Score(task, metric, value, errors.get(task, {}).get(metric), _over(metric, found))
        for task, found in sorted(totals.items())
        for metric, value in sorted(found.items())
    ]


def _over(metric: str, totals: dict[str, float]) -> str:
    group, _, last = metric.rpartition("/")
    count = totals.get(f"{group}/{last.replace('average', 'num_tasks')}") if last.startswith("average") else None
    return "" if count is None else f" over {count:.0f} task{'s' if count != 1 else ''}"


def _judging(name: str) -> list[Score]:
    return [row for row in rows_of(name) if not row.metric.rpartition("/")[2].startswith(HIDDEN)]


def _errors(name: str) -> dict[str, dict[str, float]]:
    import pyarrow.parquet as pq

    path = paths.payload("evaluate", name) / ITEMS_NAME
    if not path.is_file():
        return {}
    items = pq.read_table(path)
    return {task: standard_errors(items, task, measures) for task, measures in _measures(name).items()}


def _measures(name: str) -> dict[str, tuple[Measure, ...]]:
    """What has a standard error in each task of a recipe that was evaluated; nothing if it was not."""
    found: dict[str, tuple[Measure, ...]] = {}
    if not (paths.state("evaluate", name) / MANIFEST_NAME).is_file():
        return found
    for task, section in read_manifest("evaluate", name).details.get("tasks", {}).items():
        with contextlib.suppress(Refused):  # made by a version that had other kinds of tasks
            found[task] = told_of(parsed(section))
    return found


# ---- as a table ------------------------------------------------------------------------------------------------------


def as_markdown(name: str) -> str:
    """The score table of a recipe, and beside it what others have published; empty if it was not evaluated."""
    rows = _judging(name)
    if not rows:
        return ""
    parts = [f"**Scores of {name}**"]
    cells = [(row.task, label(row.metric), f"{with_error(row.value, row.error)}{row.over}") for row in rows]
    parts.append(table(("Task", "Metric", "Value"), cells))
    parts += notes_of(name)
    if (paths.state("evaluate", name) / MANIFEST_NAME).is_file():
        parts.append(in_words(read_manifest("evaluate", name).details.get("contamination", {})))
    parts += [_beside(name, each) for each in read_tables().values()]
    return "\n\n".join(part for part in parts if part)


def _beside(name: str, published: PublishedTable) -> str:
    """Our scores in a published table, where a recipe re-creates or takes in a model of it; empty if it does not."""
    theirs = [row for row in published.models if name in row.recipes]
    if not theirs:
        return ""
    totals = totals_of(name)
    ours = {
        key: f"{value:.4g}{shortfall(column, totals)}"
        for key, column in published.columns.items()
        if (value := our_value(column, totals)) is not None
    }
    cells = [
        (row.model, published.columns[key].words, f"{value:g}", ours.get(key, ""))
        for row in theirs
        for key, value in row.values.items()
    ]
    head = ("Model", "Score", "Published", name)
    return f"{published.title} ({published.source}):\n\n{table(head, cells)}"


def show(name: str, console: "Console") -> None:
    """Print the scores of a recipe with their standard errors; nothing if it was not evaluated."""
    from rich.markup import escape
    from rich.table import Table

    rows = _judging(name)
    if not rows:
        return
    shown = Table(box=None, pad_edge=False)
    shown.add_column("task")
    shown.add_column("score")
    shown.add_column("± standard error", justify="right")
    last = ""
    for row in rows:
        value = f"{with_error(row.value, row.error)}{row.over}"
        shown.add_row("" if row.task == last else escape(row.task), row.metric, value)
        last = row.task
    console.print()
    console.print(shown)
    for note in notes_of(name):
        console.print(note, markup=False, soft_wrap=True)


# ---- as pictures -----------------------------------------------------------------------------------------------------


def pictures(name: str) -> dict[str, str]:
    """Path among a run's artifacts -> SVG: tasks of all models evaluated here, and score against parameters."""
    others = [each for each in _evaluated() if each != name]
    found = {}
    if groups := _groups([name, *others][:MOST_MODELS]):
        found[BARS] = bars(groups, f"{name} and other models evaluated here")
    for key, published in read_tables().items():
        for column in published.columns:
            if points := _points(name, others, published, column):
                words = published.columns[column].words
                path = SIZES.format(table=key, column=column)
                found[path] = scatter(points, f"{published.title}: {words}", f"{words}; grey: {published.source}")
    return found


def _evaluated() -> list[str]:
    folder = paths.state("evaluate", "any").parent
    return sorted(path.parent.parent.name for path in folder.glob(f"*/*/{SCORES_NAME}"))


def _groups(names: list[str]) -> dict[str, list[Bar]]:
    """What the first model is compared by, and means of it -> a bar for each model scored on the same task."""
    board = {name: {(row.task, row.metric): row for row in rows_of(name)} for name in names}
    compared = {
        (task, measure.total or measure.metric)
        for task, measures in _measures(names[0]).items()
        for measure in measures
        if measure.mean_of or not measure.told_only
    }
    found: dict[str, list[Bar]] = {}
    for key, row in board[names[0]].items():
        if row.error is None or key not in compared:
            continue
        having = [(name, rows[key]) for name, rows in board.items() if key in rows]
        found[f"{key[0]}: {label(key[1])}"] = [Bar(name, each.value, each.error) for name, each in having]
    return found


def _points(name: str, others: list[str], published: PublishedTable, column: str) -> list[Point]:
    """The published models with their sizes, and ours; none if ours has not the score."""
    head = published.columns[column]
    if our_value(head, totals_of(name)) is None:
        return []
    theirs = [row for row in published.models if row.num_parameters and column in row.values]
    points = [Point(row.model, int(row.num_parameters or 0), row.values[column], is_ours=False) for row in theirs]
    for each in [name, *others]:
        totals, size = totals_of(each), num_parameters(each)
        if size and (value := our_value(head, totals)) is not None:
            points.append(Point(f"{each}{shortfall(head, totals)}", size, value, is_ours=True))
    return points


def num_parameters(name: str) -> int:
    """How many numbers a recipe's weights hold, by the headers of their files; 0 if they are not here."""
    from safetensors import safe_open

    total = 0
    library = Library()
    if name not in library.files["recipe"]:
        return 0
    for path in sorted(Path(weights_folder(library, name)).glob("model*.safetensors")):
        opened: Any = safe_open
        with opened(path, framework="numpy") as tensors:
            shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118
        for shape in shapes:
            size = 1
            for length in shape:
                size *= length
            total += size
    return total
