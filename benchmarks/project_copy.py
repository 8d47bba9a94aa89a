"""A copy of the project in which recipes may be changed and stages run again, while its own states stay as they are."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.project import inside
from components import VERBS, paths
from components.outcomes import Refused


@contextmanager
def copied_project(left_out: Container[tuple[str, str]]) -> Iterator[None]:
    """Work in a copy: recipes, and links to what stages left.

    Args:
        left_out: verb and name of the states that are made anew.
    """
    with TemporaryDirectory() as folder:
        into = Path(folder)
        shutil.copytree(paths.RECIPES, into / paths.RECIPES)
        for verb in VERBS:
            source = Path(paths.ARTIFACTS) / VERBS[verb]
            (into / source).mkdir(parents=True)
            for state in source.iterdir() if source.is_dir() else ():
                if (verb, state.name) not in left_out:
                    (into / source / state.name).symlink_to(state.resolve())
        with inside(into):
            yield


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a YAML file of the copy says."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def run(verb: str, name: str, environment: Mapping[str, str] | None = None) -> None:
    """Run one stage of the copy.

    Raises:
        Refused: it failed.
    """
    done = subprocess.run([sys.executable, "-m", "components", verb, name], env=environment, check=False)
    if done.returncode:
        raise Refused(f"'{verb} {name}' ended with {done.returncode}; what it said stands above.")


def totals_of(name: str) -> dict[str, dict[str, float]]:
    """Task -> metric -> value of what `evaluate` left."""
    path = paths.payload("evaluate", name) / "scores.json"
    tasks: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks
