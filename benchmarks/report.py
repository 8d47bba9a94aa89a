"""Results of benchmarks: one JSON file for each under `benchmarks/results/`, and one page with one table over all."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Spread
from components.markdown import fenced, number, table
from components.outcomes import Refused

RESULTS = Path("benchmarks/results")
PAGE_NAME = "README.md"
HEADER = ("benchmark", "figure", "Hiraku", "peer", "peer's figure", "ratio", "wanted")


@dataclass(frozen=True)
class Result:
    """What one benchmark found."""

    name: str
    command: str
    """What repeats it, from the project's root."""
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    """Sentences for a person: what was compared, and what the figures stand on."""
    machine: dict[str, Any] | None = None
    """`benchmarks.machine.describe()`; None where nobody wrote it down."""
    measured: Any = None
    """Everything that was measured, in plain types."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Name of a file -> SVG; notes show it. What was read back holds none."""


def require_repeats(repeats: int) -> None:
    """Refuse to measure nothing.

    Raises:
        Refused: fewer than one measurement is asked for.
    """
    if repeats < 1:
        raise Refused(f"--repeats is {repeats}, expected at least 1.")


def save(result: Result, folder: Path = RESULTS) -> Path:
    """Write a result, its pictures beside it, and the page over all results anew; the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = asdict(result)
    for name, svg in kept.pop("pictures").items():
        (folder / name).write_text(svg, encoding="utf-8")
    text = json.dumps(kept, ensure_ascii=False, indent=1)
    (folder / f"{result.name}.json").write_text(text + "\n", encoding="utf-8")
    page = folder / PAGE_NAME
    page.write_text(render(load_all(folder)), encoding="utf-8")
    return page


def load_all(folder: Path = RESULTS) -> list[Result]:
    """All results, in the order of their names."""
    return [_loaded(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def _loaded(raw: dict[str, Any]) -> Result:
    return Result(**{**raw, "rows": [_loaded_row(row) for row in raw["rows"]]})


def _loaded_row(raw: dict[str, Any]) -> Row:
    spreads = {key: Spread(**raw[key]) for key in ("theirs", "ours", "ratio") if raw[key]}
    return Row(**{**raw, **spreads})


def result_table(results: Iterable[Result]) -> str:
    """One Markdown table over the rows of results."""
    lines = [
        (result.name, row.figure, row.ours or "", row.peer, row.theirs, row.ratio or "", row.verdict)
        for result in results
        for row in result.rows
    ]
    return table(HEADER, lines)


def render(results: list[Result]) -> str:
    """The page: the table, and for each result its command, its machine and its notes, as Markdown."""
    how = (
        "Ratios are Hiraku's figure over the peer's, of the medians; in brackets the least and the greatest of "
        "repeated measurements. `make bench` measures again and writes this page."
    )
    parts = ["# Results", how, result_table(results)]
    for result in results:
        parts += [f"## {result.name}", fenced(result.command, "bash")]
        parts += ["\n".join(f"- {note}" for note in [*result.notes, f"Machine: {machine_words(result.machine)}."])]
    return "\n\n".join(parts) + "\n"


def machine_words(machine: dict[str, Any] | None) -> str:
    """A machine in one line."""
    if machine is None:
        return "not recorded"
    told = [f"{machine['processor']}, {number(machine['num_cores'])} cores ({', '.join(machine['instructions'])})"]
    told += [f"{machine['memory_gib']} GiB", *machine["gpus"]]
    told += [f"{name} {version}" for name, version in machine["versions"].items()]
    return ", ".join(told)
