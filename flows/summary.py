"""What a person sees at the end of a release, and the list of what can be made."""

import os
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from components import paths, tracking
from components.graph import plan
from components.manifest import MANIFEST_NAME
from components.outcomes import Refused
from components.recipes import Library

STILL = "ready"
LOG_COLUMNS = 120


@dataclass
class Row:
    """What became of one stage."""

    verb: str
    name: str
    state: str
    """`ran`, `restored` (from the run cache), `ready` (nothing to do), `registered`."""
    work: float = 0.0
    start: float = 0.0
    """Seconds of interpreter and imports."""
    overhead: float = 0.0
    """Seconds of Prefect, DVC, MLflow and the remote."""


@dataclass
class Summary:
    """What became of a release."""

    recipe: str
    rows: list[Row] = field(default_factory=list)
    receipt: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    flow_run_id: str = ""
    seconds: float = 0.0
    troubles: list[str] = field(default_factory=list)


def print_summary(done: Summary, console: Console) -> None:
    """The stages with their times, then where everything is."""
    print_rows(done, console)
    library = Library()
    recipe = library.read("recipe", done.recipe)
    console.print()
    for layout in recipe.package.layouts:
        console.print(f"model        {paths.layout(done.recipe, layout)}")
    for corpus in [row.name for row in done.rows if row.verb == "validate"]:
        console.print(f"data report  {paths.state('validate', corpus) / 'report.html'}")
    if done.receipt:
        console.print(f"registry     {done.receipt['uri']} (alias {done.receipt['alias']})")
    mlflow, prefect = tracking.tracking_uri(), os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    console.print(f"MLflow UI    {mlflow if mlflow.startswith('http') else 'hiraku ui, then http://127.0.0.1:5000'}")
    console.print(f"Prefect UI   {prefect or 'hiraku ui, then http://127.0.0.1:4200'}")


def as_text(done: Summary) -> str:
    """What `print_summary` prints of a release, or `print_rows` of anything else, for a log."""
    console = Console(file=StringIO(), width=LOG_COLUMNS)
    with console.capture() as captured:
        (print_summary if done.receipt and len(done.rows) > 1 else print_rows)(done, console)
    return captured.get().rstrip()


def print_rows(done: Summary, console: Console) -> None:
    """The stages of a flow run with their times."""
    if done.rows:
        console.print(_table(done.rows))
    for trouble in done.troubles:
        console.print(f"[yellow]warning:[/] {trouble}")
    if done.rows and all(row.state == STILL for row in done.rows):
        console.print(f"Everything was ready: nothing ran. {done.seconds:.1f} s in all.")
    elif done.rows:
        console.print(f"{done.seconds:.1f} s in all.")


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("stage", "state"):
        table.add_column(title)
    for title in ("work s", "start s", "overhead s"):
        table.add_column(title, justify="right")
    for row in rows:
        times = [f"{value:.1f}" if value >= 0.05 else "" for value in (row.work, row.start, row.overhead)]
        table.add_row(f"{row.verb} {row.name}", row.state, *times)
    return table


def print_recipes(console: Console) -> None:
    """Every recipe, and how far it is made."""
    library = Library()
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "stands at", "what it is"):
        table.add_column(title)
    for name in library.files["recipe"]:
        recipe = library.read("recipe", name)
        table.add_row(name, _standing(library, name), getattr(recipe, "description", ""))
    console.print(table)


def _standing(library: Library, name: str) -> str:
    """In a few words; whether a state is still up to date is what `hiraku release` finds out."""
    try:
        stages = plan(library, name)
    except Refused as error:
        return f"[red]{str(error).splitlines()[0]}[/]"
    made = [stage for stage in stages if (Path(stage.out) / MANIFEST_NAME).is_file()]
    for verb in ("publish", "register"):
        if paths.receipt(verb, name).is_file():
            return paths.receipt(verb, name).parent.name
    if len(made) == len(stages):
        return "packaged"
    return f"{len(made)} of {len(stages)} stages made" if made else "not begun"
