"""Versions to promote: a real package that loads, with scores item by item as a test wants them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components import gates, paths, registry, tracking
from components.manifest import Manifest, writing
from components.recipes import Library
from components.register import register
from components.registry import Version
from components.scoring import revisions_of
from tests.flows.conftest import RECIPE

TASK = "smoke-held-out"
NUM_ITEMS = 30
BETTER, WORSE, SAME = -5.0, 5.0, 0.0
"""Bits more than the first version needs for an item of about 100."""


def set_recipe(**sections: Any) -> None:
    """Change sections of the recipe; None takes one out."""
    path = Path("recipes") / f"{RECIPE}.yaml"
    recipe = yaml.safe_load(path.read_text()) | sections
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))


def make_package(root: Path) -> Path:
    """A real package of random weights with its card, made as `package` makes one, in the current folder `root`."""
    from components.evaluate import evaluate
    from components.package import package
    from tests.components.small_release import make_project

    make_project(root)
    evaluate("tiny")
    package("tiny")
    return (root / paths.state("package", "tiny")).resolve()


def add_version(package: Path, shift: float, loads: bool = True, **totals: float) -> Version:
    """Register a version whose items need so many bits more than the first one's, give or take one.

    Args:
        package: what `make_package` made.
        shift: bits an item.
        loads: have it known that it loads, as after a promotion that was tried before; saves seconds.
        totals: of the task, besides.
    """
    task = Library().read("task", TASK)
    number = len(registry.versions(RECIPE)) + 1
    bits = [100.0 + item + shift + (item * 7 * number % 11 - 5) / 5 for item in range(NUM_ITEMS)]
    metrics = {"bits": bits, "num_characters": [40.0] * NUM_ITEMS}
    rows = [
        {"task": TASK, "item": f"doc-{item}", "metric": metric, "value": value}
        for metric, values in metrics.items()
        for item, value in enumerate(values)
    ]
    data = {paths.payload(verb, task.corpus).as_posix(): "of a test" for verb in ("ingest", "validate")}
    scored = Manifest("evaluate", RECIPE, revisions_of(task), data)
    scored.details = {"tasks": {TASK: task.model_dump(mode="json")}}
    with writing(scored) as folder:
        scores = folder / paths.PAYLOAD["evaluate"]
        scores.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), scores / "items.parquet")
        (scores / "scores.json").write_text(json.dumps({"tasks": {TASK: {"bits_per_character": 2.5, **totals}}}))
    with writing(
        Manifest("package", RECIPE, {}, {paths.payload("evaluate", RECIPE).as_posix(): scored.payload_hash})
    ) as made:
        shutil.copytree(package / "transformers", made / "transformers")
        with (made / "transformers" / "README.md").open("a") as card:
            card.write(f"\nVersion {number} of a test.\n")
    run = tracking.Release(RECIPE, "tests")
    receipt = register(RECIPE, run)
    run.close("FINISHED")
    version = version_of(receipt["version"])
    if loads:
        registry.tag_version(version, "loaded", gates.proof_of_loading(version))
    return version_of(receipt["version"])


def version_of(number: str) -> Version:
    """A version as the registry has it now."""
    found = registry.read_version(RECIPE, number)
    assert found is not None
    return found


def champion() -> str | None:
    """The version that is the champion now."""
    return registry.aliases(RECIPE).get(registry.CHAMPION)
