"""The last runs of a recipe side by side: what differs between them first, then what came out and what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components import registry, remembered, tracking
from components.markdown import number
from components.measures import told_of
from components.outcomes import Refused
from components.progress import duration
from components.recipes import Library
from components.wording import one_line, shown
from flows.showing import COMPARED

VERBS = ("release", *sorted(COMPARED))
"""Runs that are compared: of a release, or of one of these verbs alone."""
NOTHING = "–"
MOST_CHARS = 40
HASH_CHARS = 10
LOWER = ("loss", "perplexity", "bits_per_character", "bits_per_byte", "error_rate", "training_seconds")
HIGHER = ("_per_second", "utilisation_share", "reward", "accuracy")
"""Ends of a training's metrics that are better when they are lower, or higher; of others nobody says so."""
COSTS = ("training_seconds", "training_flops", "_per_second", "utilisation_share")
HIDDEN = (
    "learning_rate", "gradient_norm", "skipped_batches", "_bytes", "_seen", "_per_second",
    *(f"{part}_seconds" for part in ("data", "forward", "backward", "optimizer")),
)  # fmt: skip
"""Ends of a training's metrics that tell of its last step or of its recipe, and nothing of what came out."""


@dataclass(frozen=True)
class Line:
    """One row of the comparison: a cell for each run."""

    label: str
    cells: tuple[str, ...]
    best: int | None = None
    """The run with the best value, if there is one and it is not alone."""


@dataclass(frozen=True)
class Comparison:
    """The last runs of a recipe, newest first."""

    recipe: str
    runs: tuple[remembered.Remembered, ...]
    heads: tuple[Line, ...]
    """When and how each ran."""
    differing: tuple[Line, ...]
    """Parameters that are not the same in all."""
    num_same: int
    origins: tuple[Line, ...]
    """Data and code."""
    results: tuple[Line, ...]
    costs: tuple[Line, ...]


def compare(recipe: str, count: int) -> Comparison:
    """Read the last runs of a recipe from the tracking server.

    Raises:
        Refused: no such recipe, less than one run is asked for, or the tracking server does not answer.
    """
    library = Library()
    library.path("recipe", recipe)
    if count < 1:
        raise Refused(f"--last is {count}, expected 1 or more runs to compare.")
    tracking.require_server()
    with tracking.silence_told(lambda silence: Refused(f"{silence}. Start it again: mlflow/README.md.")):
        runs = remembered.runs_of(recipe, VERBS, count)
        versions = _versions(recipe) if runs else {}
    return _compared(library, recipe, runs, versions)


def _versions(recipe: str) -> dict[str, str]:
    """Run -> the version that it registered, with its aliases."""
    names: dict[str, list[str]] = {}
    for alias, version in registry.aliases(recipe).items():
        names.setdefault(version, []).append(alias)
    return {
        row.run_id: " ".join([row.version, *(f"({each})" for each in sorted(names.get(row.version, [])))])
        for row in registry.versions(recipe)
    }


def _compared(library: Library, recipe: str, runs: list[remembered.Remembered], versions: dict[str, str]) -> Comparison:
    keys = sorted({key for run in runs for key in run.parameters})
    lines = [_line(key, [run.parameters.get(key) for run in runs], str) for key in keys]
    differing = [line for line in lines if len(set(line.cells)) > 1]
    metrics = sorted({key for run in runs for key in run.metrics})
    rows = {key: _measured(library, key, runs) for key in metrics if _is_told(key)}
    costs = [key for key in rows if key.endswith(COSTS)]
    results = sorted(set(rows) - set(costs), key=lambda key: (not key.startswith("evaluate/"), key))
    heads = [
        _line("began", [run.began.strftime("%m-%d %H:%M") for run in runs], str),
        _line("what ran", [f"{run.verb} {run.status.lower()}" for run in runs], str),
        _line("version", [versions.get(run.run_id) for run in runs], str),
    ]
    spent = _line("whole run", [run.seconds for run in runs], duration)
    return Comparison(
        recipe, tuple(runs), tuple(heads), tuple(differing), len(lines) - len(differing), tuple(_origins(runs)),
        tuple(rows[key] for key in results), (spent, *(rows[key] for key in costs)),
    )  # fmt: skip


def _is_told(metric: str) -> bool:
    """Whether a metric tells of what came out, or of what it cost."""
    key = metric.rpartition("/")[2]
    is_plain = not key.endswith(HIDDEN) and not key.startswith("num_")
    return metric.partition("/")[0] in COMPARED and (is_plain or key.startswith("mean_"))


def _line(label: str, values: list[Any], words: Callable[[Any], str], best: int | None = None) -> Line:
    cells = (NOTHING if value is None else one_line(words(value), MOST_CHARS) for value in values)
    return Line(label, tuple(cells), best)


def _origins(runs: list[remembered.Remembered]) -> list[Line]:
    """The hash of the raw data and the revision of the code; `+` where files differed from it."""
    data = sorted({key for run in runs for key in run.tags if key.startswith("data ")})
    lines = [_line(key, [run.tags.get(key, "")[:HASH_CHARS] or None for run in runs], str) for key in data]
    code = [
        run.tags.get("git_revision", "")[:HASH_CHARS] + ("+" if run.tags.get("git_dirty") == "true" else "")
        for run in runs
    ]
    return [*lines, _line("code", [each or None for each in code], str)]


def _measured(library: Library, key: str, runs: list[remembered.Remembered]) -> Line:
    values = [run.metrics.get(key) for run in runs]
    known = [value for value in values if value is not None]
    is_lower, best = is_lower_better(library, key), None
    if is_lower is not None and len(set(known)) > 1:
        best = values.index(min(known) if is_lower else max(known))
    return _line(key, values, number, best)


def is_lower_better(library: Library, metric: str) -> bool | None:
    """Which way a metric improves; None where nobody says so, as of a count.

    Args:
        library: the tasks, whose kinds declare their `MEASURES`.
        metric: `<verb>/<metric>` of a training, or `evaluate/<task>/<metric>`.
    """
    verb, _, rest = metric.partition("/")
    task, _, key = rest.partition("/")
    if verb != "evaluate":
        return True if rest.endswith(LOWER) else False if rest.endswith(HIGHER) else None
    if key.startswith("num_") or task not in library.files["task"]:
        return None
    measures = told_of(library.read("task", task))
    named = {each.better for each in measures if key in (each.metric, each.total)}
    ways = named or {each.better for each in measures}
    return ways == {"lower"} if len(ways) == 1 else None


# ---- for a terminal --------------------------------------------------------------------------------------------------


def show(found: Comparison, console: Console) -> None:
    """Print a comparison: a column for each run, newest first; the best of a row in bold with a star."""
    if not found.runs:
        server = shown(tracking.tracking_uri())
        words = f"No run of '{found.recipe}' on {server} yet. Run: hiraku release {found.recipe}"
        console.print(words, markup=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(found.recipe)
    for run in found.runs:
        table.add_column(run.run_id[:8], justify="right", overflow="fold")
    same = f"{found.num_same} parameters are the same" if found.num_same else "no parameter is known"
    _add(table, found.heads)
    _add(table, found.differing, f"parameters that differ ({same})" if found.differing else same)
    _add(table, found.origins, "data and code")
    _add(table, found.results, "what came out (* is the best)")
    _add(table, found.costs, "what it cost")
    console.print(table)


def _add(table: Table, lines: tuple[Line, ...], title: str = "") -> None:
    if title:
        table.add_row()
        table.add_row(f"[dim]{escape(title)}[/]")
    for line in lines:
        cells = [escape(cell) for cell in line.cells]
        if line.best is not None:
            cells[line.best] = f"[bold green]* {cells[line.best]}[/]"
        table.add_row(escape(line.label), *cells)
