"""What a person sees at the end of a release, and the list of what can be made."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components import paths, tracking
from components.graph import plan
from components.manifest import MANIFEST_NAME
from components.outcomes import Refused
from components.recipes import Library
from components.wording import shown

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
    key: str = ""
    """Names the inputs of a stage; see `flows.workspace.input_key`."""


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
    reason: str = ""
    """Why it did not come to its end."""


def print_summary(done: Summary, console: Console) -> None:
    """The stages with their times, then where everything is."""
    print_rows(done, console)
    lines = [f"model        {layout}" for layout in sorted(paths.state("package", done.recipe).glob("*/"))]
    corpora = [row.name for row in done.rows if row.verb == "validate"]
    lines += [f"data report  {paths.state('validate', corpus) / 'report.html'}" for corpus in corpora]
    if done.receipt:
        lines.append(f"registry     {done.receipt['uri']} (alias {done.receipt['alias']})")
    mlflow, prefect = shown(tracking.tracking_uri()), shown(os.environ.get("PREFECT_API_URL", "")).removesuffix("/api")
    pages = f"{_script()} ui, then http://127.0.0.1"
    lines.append(f"MLflow UI    {mlflow if mlflow.startswith('http') else f'{pages}:5000'}")
    lines.append(f"Prefect UI   {prefect or f'{pages}:4200'}")
    console.print()
    for line in lines:
        console.print(line, markup=False)


def _script() -> str:
    """How `hiraku` is called in this shell: an environment that is not activated is not on its path."""
    script = Path(sys.executable).with_name("hiraku")
    if shutil.which("hiraku") or not script.is_file():
        return "hiraku"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


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
        console.print(f"[yellow]warning:[/] {escape(trouble)}")
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
        table.add_row(escape(f"{row.verb} {row.name}"), row.state, *times)
    return table


def print_recipes(console: Console) -> None:
    """Every recipe, and how far it is made."""
    library = Library()
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "stands at", "runs by itself", "what it is"):
        table.add_column(title)
    for name in library.files["recipe"]:
        try:
            recipe = library.read("recipe", name)
            table.add_row(name, _standing(library, name), _clock(recipe), escape(recipe.description))
        except Refused as error:
            table.add_row(name, "[red]broken[/]", "", escape(str(error)))
    console.print(table)


def _clock(recipe: Any) -> str:
    """The schedule by which `hiraku serve` runs a recipe; empty if it has none."""
    schedule = getattr(recipe, "schedule", None)
    if schedule is None:
        return ""
    return f"{schedule.cron} {schedule.timezone}" if schedule.is_active else "switched off"


def _standing(library: Library, name: str) -> str:
    """In a few words; whether a state is still up to date is what `hiraku release` finds out."""
    try:
        stages = plan(library, name)
    except Refused as error:
        return f"[red]{escape(str(error).splitlines()[0])}[/]"
    made = [stage for stage in stages if (Path(stage.out) / MANIFEST_NAME).is_file()]
    for verb in ("publish", "register"):
        if paths.receipt(verb, name).is_file():
            return paths.receipt(verb, name).parent.name
    if len(made) == len(stages):
        return "packaged"
    return f"{len(made)} of {len(stages)} stages made" if made else "not begun"
