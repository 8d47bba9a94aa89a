"""Scores that others have published: tables of facts with their source, beside which our own are shown."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from components import paths
from components.outcomes import Refused
from components.wording import one_line
from models.schema import Name, Strict

FOLDER = "published"


class PublishedColumn(Strict):
    """One score of a table."""

    words: str
    better: Literal["lower", "higher"]
    task: str = ""
    """Our task that measures the same, with `*` for what differs between versions of it; empty if none does."""
    metric: str = ""
    """The total of that task."""
    scale: float = 1
    """Ours times this has the unit of theirs."""
    count: str = ""
    """Our total that tells over how many tasks ours is a mean."""
    num_tasks: int | None = Field(default=None, ge=1)
    """Over so many is theirs."""


class PublishedModel(Strict):
    """One row of a table."""

    model: str
    recipes: list[Name] = []
    """Of ours, which re-create it, or take it in."""
    num_parameters: int | None = Field(default=None, ge=1)
    values: dict[str, float] = Field(min_length=1)


class PublishedTable(Strict):
    """A table of scores."""

    title: str
    source: str
    columns: dict[str, PublishedColumn] = Field(min_length=1)
    models: list[PublishedModel] = Field(min_length=1)

    @model_validator(mode="after")
    def values_have_columns(self) -> "PublishedTable":
        """A number that nobody can read is a mistake."""
        if strange := sorted({key for row in self.models for key in row.values} - self.columns.keys()):
            raise ValueError(f"'values' has {', '.join(strange)}, which 'columns' has not")
        return self


def read_tables(root: Path = paths.RECIPES) -> dict[str, PublishedTable]:
    """Every table below a folder of recipes, by the names of files.

    Raises:
        Refused: a file is no table; the message names the keys.
    """
    found = {}
    for path in sorted((root / FOLDER).glob("*.yaml")):
        try:
            raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
            found[path.stem] = TypeAdapter(PublishedTable).validate_python(raw)
        except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise Refused(f"{path} is no table of published scores: {one_line(error, 400)}. Mend the file.") from error
    return found


def our_value(column: PublishedColumn, scores: dict[str, dict[str, float]]) -> float | None:
    """Our score in the unit of a column; None where no task has it.

    Args:
        column: of a table.
        scores: task -> metric -> value.
    """
    totals = _totals(column, scores)
    return totals[column.metric] * column.scale if totals else None


def shortfall(column: PublishedColumn, scores: dict[str, dict[str, float]]) -> str:
    """` (7 of 8 tasks)` where our score is a mean over others than theirs; else empty.

    Args:
        column: of a table.
        scores: task -> metric -> value.
    """
    ours = _totals(column, scores).get(column.count)
    return "" if ours in (None, column.num_tasks) else f" ({ours:.0f} of {column.num_tasks} tasks)"


def _totals(column: PublishedColumn, scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of the first of our tasks that measures what a column does; empty if none was scored."""
    fitting = (scores[task] for task in sorted(scores) if fnmatchcase(task, column.task))
    return next((totals for totals in fitting if column.metric in totals), {})
