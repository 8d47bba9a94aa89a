"""A small real project: the smoke recipes of tests/recipes, and a few hundred documents of the demo's town."""

import itertools
import json
import shutil
from pathlib import Path

from components.generators import GENERATORS
from tests.conftest import ROOT

LINES_PER_FILE = 100


def write_smoke_data(root: Path) -> None:
    """The first lines of each file of the demo's raw text, below `data/smoke/`."""
    place = root / "data" / "smoke"
    place.mkdir(parents=True)
    for name, lines in _town(root).items():
        (place / name).write_text("".join(lines[:LINES_PER_FILE]), encoding="utf-8")
    write_smoke_conversations(root)


def write_smoke_news(root: Path, place: Path) -> None:
    """As many lines again, of one file, which the smoke data have not."""
    (lines,) = (lines for name, lines in _town(root).items() if name.startswith("errands"))
    place.write_text("".join(lines[LINES_PER_FILE : 2 * LINES_PER_FILE]), encoding="utf-8")


def _town(root: Path) -> dict[str, list[str]]:
    """The demo's raw text: file name -> its lines."""
    whole = root / "whole"
    GENERATORS["world"](whole)
    files = sorted((whole / "demo" / "text").iterdir())
    found = {file.name: file.read_text(encoding="utf-8").splitlines(keepends=True) for file in files}
    shutil.rmtree(whole)
    return found


def write_smoke_conversations(root: Path) -> None:
    """Questions about the same documents, which sentence comes after the first, and pairs of answers to them."""
    rows: list[dict[str, str]] = []
    for file in sorted((root / "data" / "smoke").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines():
            sentences = json.loads(line)["text"].split("。")
            if len(sentences) > 3:
                rows.append({"prompt": f"「{sentences[0]}。」の次は？", "response": f"{sentences[1]}。"})
    pairs = [
        {"prompt": row["prompt"], "chosen": row["response"], "rejected": f"{other['response']}わからない。"}
        for row, other in itertools.pairwise(rows)
    ]
    for name, found in (("smoke-chat", rows), ("smoke-preferences", pairs)):
        place = root / "data" / name
        place.mkdir()
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (place / "questions.jsonl").write_text(text, encoding="utf-8")


def write_smoke_project(root: Path, recipes: Path = Path("recipes")) -> None:
    """Recipes and raw data of the smoke runs in a folder."""
    shutil.copytree(ROOT / "tests" / "recipes", root / recipes)
    write_smoke_data(root)
