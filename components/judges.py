"""Packaged models that tasks judge other models with: where they lie, and what scores depend on because of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths
from components.lineage import lineage_of
from components.outcomes import Refused
from components.recipes import Foreign, Library, references
from components.weights import package_hash
from models import FAMILIES


@dataclass(frozen=True)
class Judge:
    """A package by which something else is judged."""

    family: str
    folder: Path
    """Its first layout."""


def judge_of(name: str) -> Judge:
    """The package of a recipe, ours or somebody else's.

    Raises:
        Refused: there is no such recipe.
    """
    recipe = Library().read("recipe", name)
    layout = recipe.layout if isinstance(recipe, Foreign) else recipe.package.layouts[0]
    return Judge(recipe.family, paths.layout(name, layout))


def judges_of(tasks: Iterable[Any]) -> list[str]:
    """The recipes whose packages judge in some tasks, each once."""
    return list(dict.fromkeys(name for task in tasks for kind, name in references(task) if kind == "package"))


def parents_of(tasks: Iterable[Any]) -> dict[str, str]:
    """Where these packages lie -> hash of their content.

    Raises:
        Refused: one is not made yet.
    """
    library = Library()
    return {judge_of(name).folder.as_posix(): package_hash(library, name) for name in judges_of(tasks)}


def revisions_of(tasks: Iterable[Any]) -> dict[str, int]:
    """REVISION of the families that compute them."""
    modules = {FAMILIES[judge_of(name).family] for name in judges_of(tasks)}
    return {module: import_module(module).REVISION for module in sorted(modules)}


def require_independent(tasks: dict[str, Any], verb: str, name: str) -> None:
    """Refuse a judge that had a hand in what it judges, such as the filter of the training data.

    Args:
        tasks: their sections by name.
        verb: that left the weights.
        name: whose they are.

    Raises:
        Refused: as it says.
    """
    if not judges_of(tasks.values()):
        return
    made = {state.name for state in lineage_of(verb, name).of("package")}
    for task, section in tasks.items():
        if partial := sorted(made.intersection(judges_of([section]))):
            raise Refused(
                f"Task '{task}' judges by '{partial[0]}', but '{name}' was made with its help, as by a filter of its "
                "training data, so the score would praise that choice. Name another package in the task's key 'model'."
            )
