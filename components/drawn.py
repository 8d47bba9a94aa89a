"""Pictures that a model drew for a task, kept with its scores: a grid for a card, and grids of models side by side.

`drawn.parquet` beside `items.parquet` has the first pictures of each task: task, item, prompt, seed, picture, and
`word`, what a judge says of it. The same task gives the same prompts and seeds to every model, so pictures of an item
can be laid beside each other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import paths
from components.grids import Strip, Tile, strips
from components.outcomes import Refused

DRAWN_NAME = "drawn.parquet"
GRID_NAME = "pictures.svg"
"""The grid on a card."""
COLUMNS = ("task", "item", "prompt", "seed", "picture", "word", "is_right")
MOST_PROMPTS = 10
MOST_PICTURES = 6
"""Of one prompt."""


@dataclass(frozen=True)
class Drawn:
    """One picture."""

    task: str
    item: str
    prompt: str
    seed: int
    picture: bytes
    word: str = ""
    """What a judge says of it."""
    is_right: bool = False
    """Whether it is what was asked for, where a judge says so."""

    @property
    def tile(self) -> Tile:
        """As a grid shows it."""
        return Tile(self.picture, self.word, self.is_right)


def write_drawn(rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Write rows with the fields of `Drawn`; no file where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.string(), pa.string(), pa.int64(), pa.binary(), pa.string(), pa.bool_())
    found = [vars(Drawn(**row)) for row in rows]
    if found:
        table = pa.Table.from_pylist(found, schema=pa.schema(list(zip(COLUMNS, types, strict=True))))
        pq.write_table(table, folder / DRAWN_NAME, compression="zstd")


def read_drawn(folder: Path) -> list[Drawn]:
    """What `write_drawn` left in a payload of scores; nothing where no task draws."""
    if not (folder / DRAWN_NAME).is_file():
        return []
    import pyarrow.parquet as pq

    return [Drawn(**row) for row in pq.read_table(folder / DRAWN_NAME).to_pylist()]


def grid(rows: Iterable[Drawn]) -> str:
    """A line of pictures for each prompt, as SVG; those that a judge finds right are framed."""
    lines = list(_by_prompt(rows).items())[:MOST_PROMPTS]
    told = [Strip(prompt, [each.tile for each in found[:MOST_PICTURES]]) for prompt, found in lines]
    return strips("Generated pictures by their prompts, of fixed seeds", told)


def card_grid(folder: Path) -> str:
    """The grid of a payload of scores, of its first task that draws; empty where none does."""
    rows = read_drawn(folder)
    return grid(each for each in rows if each.task == rows[0].task) if rows else ""


def _by_prompt(rows: Iterable[Drawn]) -> dict[str, list[Drawn]]:
    found: dict[str, list[Drawn]] = {}
    for each in rows:
        found.setdefault(each.prompt, []).append(each)
    return found


# ---- several models --------------------------------------------------------------------------------------------------


def side_by_side(recipes: list[str], task: str = "") -> tuple[str, int]:
    """The pictures of several recipes for the same prompts and seeds, each recipe in a column of its own.

    Args:
        recipes: those that have been evaluated, in the order of the columns.
        task: whose pictures; empty for the first that all of them have.

    Returns:
        SVG, and how many prompts and seeds stand in it.

    Raises:
        Refused: a recipe has no pictures, or they have no prompt and seed in common.
    """
    found = {recipe: read_drawn(paths.payload("evaluate", recipe)) for recipe in recipes}
    for recipe, rows in found.items():
        if not rows:
            raise Refused(
                f"There are no pictures of '{recipe}' in {paths.payload('evaluate', recipe)}. Name a task that draws "
                f"under its 'evaluate.tasks', then run: hiraku evaluate {recipe}"
            )
    known = [list(dict.fromkeys(each.task for each in rows)) for rows in found.values()]
    shared = [each for each in known[0] if all(each in others for others in known[1:])]
    if task not in ("", *shared) or not shared:
        told = "; ".join(f"{recipe}: {', '.join(each)}" for recipe, each in zip(found, known, strict=True))
        what = f"the task '{task}'" if task else "a task that draws"
        raise Refused(f"These recipes do not share {what}. They have pictures of {told}.")
    chosen = task or shared[0]
    columns = [{(each.prompt, each.seed): each for each in rows if each.task == chosen} for rows in found.values()]
    keys = [key for key in columns[0] if all(key in column for column in columns[1:])]
    if not keys:
        raise Refused(
            f"The pictures of task '{chosen}' are of other prompts or seeds in each recipe: they were drawn when the "
            f"task or its corpus was another one. Run: hiraku evaluate {recipes[0]}, and so for the others."
        )
    lines: dict[str, list[tuple[str, int]]] = {}
    for key in keys:
        lines.setdefault(key[0], []).append(key)
    firsts = [(prompt, own[0]) for prompt, own in lines.items()][:MOST_PROMPTS]
    shown = [Strip(prompt, [column[key].tile for column in columns]) for prompt, key in firsts]
    return strips(f"The same prompts and seeds ({chosen})", shown, recipes), len(shown)
