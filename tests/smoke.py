"""A small real project: the smoke recipes of tests/recipes, and a few hundred documents of the demo's town."""

import shutil
from pathlib import Path

from components.generators import GENERATORS
from tests.conftest import ROOT

LINES_PER_FILE = 100


def write_smoke_data(root: Path) -> None:
    """The first lines of each file of the demo's raw text, below `data/smoke/`."""
    whole = root / "whole"
    GENERATORS["world"](whole)
    place = root / "data" / "smoke"
    place.mkdir(parents=True)
    for file in sorted((whole / "demo" / "text").iterdir()):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[:LINES_PER_FILE]
        (place / file.name).write_text("".join(lines), encoding="utf-8")
    shutil.rmtree(whole)


def write_smoke_project(root: Path, recipes: Path = Path("recipes")) -> None:
    """Recipes and raw data of the smoke runs in a folder."""
    shutil.copytree(ROOT / "tests" / "recipes", root / recipes)
    write_smoke_data(root)
