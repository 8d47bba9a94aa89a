"""Any two models compared on the same items, as promotion compares a challenger with its champion."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import paths, registry, run_page, tracking
from components.card_scores import with_error
from components.comparison import Comparison, compare
from components.decisions import comparison_rows
from components.evidence import scores_of
from components.manifest import read_manifest
from components.measures import measures_of
from components.outcomes import Refused
from components.recipes import Library
from components.score_charts import forest
from components.scoring import ITEMS_NAME, SCORES_NAME, Scores, tasks_of
from components.standard_errors import standard_errors
from components.wording import one_line, shown, unknown_name
from flows.ancestry import REGISTRY
from flows.scoreboard import totals_of

if TYPE_CHECKING:
    from rich.console import Console

EXPERIMENT = "comparisons"
PICTURE, TABLE = "comparison.svg", "tables/comparison.json"
HEAD = ("task", "measure", "n", "{one}", "{other}", "gain, 95 % interval", "p", "verdict")


@dataclass(frozen=True)
class Pairing:
    """Two models beside each other."""

    one: str
    other: str
    comparison: Comparison
    left_out: dict[str, str]
    """Task, or measure of one, that only one was scored on, or both otherwise -> why it is not compared."""
    errors: tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]
    """Task -> metric -> standard error, of each model."""

    @property
    def picture(self) -> str:
        """A forest plot, as SVG."""
        return forest(self.comparison, self.one, self.other)


def paired(one: str, other: str) -> Pairing:
    """Compare two models on every task that both were scored on in the same way.

    Args:
        one: a recipe that was evaluated here, or `registry:NAME@ALIAS_OR_VERSION`.
        other: the model whose gains over the first are told.

    Raises:
        Refused: there is no such model, it has no scores, or no task is common to both.
    """
    before, after = (_scores(model) for model in (one, other))
    left_out = {}
    for task in sorted(before.tasks.keys() ^ after.tasks.keys()):
        left_out[task] = f"only {one if task in before.tasks else other} was scored on it"
    common = {}
    for task in sorted(before.tasks.keys() & after.tasks.keys()):
        if before.tasks[task].digest == after.tasks[task].digest:
            common[task] = after.tasks[task].parsed
        else:
            left_out[task] = _why_not(after.tasks[task].parsed)
    if not common:
        told = "; ".join(f"{task}: {why}" for task, why in left_out.items()) or "neither has a task"
        raise Refused(
            f"'{one}' and '{other}' were scored on no task in the same way, so nothing can be compared. {told}. Name "
            "the same tasks in both recipes' 'evaluate.tasks' and run: hiraku evaluate RECIPE"
        )
    measures = measures_of(common)
    found = compare(before.items, after.items, measures)
    errors = tuple(
        {task: standard_errors(scores.items, task, rows) for task, rows in measures.items()}
        for scores in (before, after)
    )
    for each in found.unpaired:
        having = one if each.is_lost else other
        left_out[f"{each.task}: {each.measure.name}"] = f"only {having} has it; the other's scores say why in 'notes'"
    return Pairing(one, other, found, left_out, (errors[0], errors[1]))


def _why_not(task: Any) -> str:
    own = ", or the encoder that makes its right answers is another one" if getattr(task, "OF_ENCODER", False) else ""
    return f"its section, its data or its code differ between the two: evaluate both again{own}"


def _scores(model: str) -> Scores:
    if model.startswith(REGISTRY):
        return _registered(model)
    library = Library()
    if model not in library.files["recipe"]:
        ways = "Or name registry:NAME@ALIAS_OR_VERSION."
        raise Refused(unknown_name("recipe", model, library.files["recipe"], ways))
    import pyarrow.parquet as pq

    place = paths.payload("evaluate", model)
    manifest = read_manifest("evaluate", model)
    if not (place / ITEMS_NAME).is_file():
        raise Refused(f"{place} has no {ITEMS_NAME} beside {SCORES_NAME}. Run: hiraku evaluate {model}")
    return Scores(pq.read_table(place / ITEMS_NAME), totals_of(model), tasks_of(manifest))


def _registered(model: str) -> Scores:
    name, _, version = model.removeprefix(REGISTRY).partition("@")
    tracking.require_server()
    with tracking.silence_told(lambda silence: Refused(f"{silence}. Start it again: mlflow/README.md.")):
        found = registry.read_version(name, version or registry.CHAMPION)
        scores = scores_of(found) if found else None
    if found is None:
        raise Refused(f"The registry has no version '{version or registry.CHAMPION}' of '{name}'. Run: hiraku recipes")
    if scores is None:
        raise Refused(
            f"Version {found.version} of '{name}' was registered without its scores, item by item. Release it again: "
            f"hiraku release {name}"
        )
    return scores


# ---- for a person ----------------------------------------------------------------------------------------------------


def rows_of(found: Pairing) -> list[tuple[str, ...]]:
    """One row a test; each score with its standard error."""
    rows = []
    for test, row in zip(found.comparison.tests, comparison_rows(found.comparison), strict=True):
        key = test.measure.total or test.measure.metric
        before, after = (errors.get(test.task, {}).get(key) for errors in found.errors)
        rows.append((*row[:3], with_error(test.champion, before), with_error(test.challenger, after), *row[5:]))
    return rows


def show(found: Pairing, console: "Console") -> None:
    """Print a comparison."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in HEAD:
        table.add_column(escape(title.format(one=found.one, other=found.other)), overflow="fold")
    for row in rows_of(found):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(found.comparison.method, markup=False, soft_wrap=True)
    for task, why in found.left_out.items():
        console.print(f"{task} is left out: {why}", markup=False, soft_wrap=True)


def keep(found: Pairing, picture: Path | None) -> str:
    """Write the picture, and log it with the figures as a run of MLflow; return what was done, in words.

    A tracking server that does not answer costs the run and nothing else.
    """
    words = []
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(found.picture, encoding="utf-8")
        words.append(f"The picture is {picture}.")
    try:
        tracking.require_server()
        run = tracking.Release(f"{found.one} {found.other}", EXPERIMENT, verb="compare")
        run.open()
        status = "FAILED"
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: run.close(status))
            columns = [title.format(one=found.one, other=found.other) for title in HEAD]
            cells = list(zip(*rows_of(found), strict=True))
            run_page.log_table(run.run_id, TABLE, {name: list(cell) for name, cell in zip(columns, cells, strict=True)})
            run.write(PICTURE, found.picture)
            run.metrics({f"gain/{test.task}/{test.measure.metric}": test.gain for test in found.comparison.tests})
            status = "FINISHED"
        words.append(f"MLflow keeps it in the experiment '{EXPERIMENT}', run {run.run_id[:8]}.")
    except Exception as error:
        if not isinstance(error, (Refused, *tracking.troubles())):
            raise
        words.append(f"MLflow did not take it: {one_line(shown(error), 200)}.")
    return " ".join(words)
