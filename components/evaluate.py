"""evaluate: weights + tasks -> scores, and one row per item, since paired comparison of models needs them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths
from components.devices import gpu_held, set_threads, uses_gpu
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES, modality
from components.outcomes import Refused
from components.progress import Progress
from components.recipes import Foreign, Library, Recipe, references
from components.records import iterate_records
from models import FAMILIES, part_of
from models.objective import Mismatch

REVISION = 1


@dataclass(frozen=True)
class Model:
    """What a task scores: a network in evaluation mode, on its device, and the encoder of its inputs."""

    network: Any
    encoder: Any


def evaluate(name: str) -> None:
    """Score a recipe's weights on its tasks into `artifacts/evaluated/<name>/scores/`.

    `scores.json` holds the totals of each task, `items.parquet` one row per item (task, item, metric, value).

    Raises:
        Refused: the recipe has nothing to score, weights, encoder or records are missing, or a score is not finite.
    """
    library = Library()
    recipe = library.read("recipe", name)
    if isinstance(recipe, Foreign):
        raise Refused(
            f"Recipe '{name}' is somebody else's model (it has a 'source') and names no task, so there is nothing to "
            f"evaluate. Run: hiraku package {name}"
        )
    trained = ("align" if recipe.align else "pretrain", name)
    tasks = {task: library.read("task", task) for task in recipe.evaluate.tasks}
    # A corpus is what `ingest` read and what `validate` accepted; both decide a score.
    corpora = sorted({found for task in tasks.values() for kind, found in references(task) if kind == "corpus"})
    nodes = [trained, ("fit", recipe.encoder)]
    nodes += [(verb, corpus) for corpus in corpora for verb in ("ingest", "validate")]
    manifests = {node: read_manifest(*node) for node in nodes}
    journal = Journal("evaluate", name)
    journal.parameters({task: section.model_dump() for task, section in tasks.items()})
    manifest = Manifest(
        verb="evaluate",
        name=name,
        revisions=_revisions(recipe, tasks),
        parents={paths.payload(*node).as_posix(): found.payload_hash for node, found in manifests.items()},
        details={"tasks": {task: section.model_dump(mode="json") for task, section in tasks.items()}},
    )
    with gpu_held(), writing(manifest) as folder:
        model = _open_model(recipe, trained)
        scores = _write_scores(tasks, model, folder / paths.PAYLOAD["evaluate"])
        manifest.counts = {"num_tasks": len(tasks)}
        for task, totals in scores.items():
            journal.metrics(0, **{f"{task}/{metric}": value for metric, value in totals.items()})


def _revisions(recipe: Recipe, tasks: dict[str, Any]) -> dict[str, int]:
    modules = {FAMILIES[recipe.family], *(MODALITIES[task.modality] for task in tasks.values())}
    return {__name__: REVISION} | {module: import_module(module).REVISION for module in sorted(modules)}


def _open_model(recipe: Recipe, trained: tuple[str, str]) -> Model:
    """Load the weights onto the device that the settings name."""
    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    try:
        network = part_of(recipe.family, "convert").load(paths.payload(*trained))
    except Mismatch as error:
        raise Refused(f"{error} Run: hiraku {trained[0]} {trained[1]}") from error
    encoder = modality(part_of(recipe.family, "schema").MODALITY).open_encoder(paths.payload("fit", recipe.encoder))
    return Model(network.to(device).eval(), encoder)


def _score(name: str, task: Any, model: Model) -> Iterator[dict[str, Any]]:
    """The rows of a task, with progress by item."""
    with Progress(f"evaluate {name}", 0, unit="item") as progress:

        def tell(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        yield from modality(task.modality).score(task, model, iterate_records, tell)


def _write_scores(tasks: dict[str, Any], model: Model, folder: Path) -> dict[str, dict[str, float]]:
    """Write the payload; return the totals by task and metric."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    columns: dict[str, list[Any]] = {"task": [], "item": [], "metric": [], "value": []}
    scores: dict[str, dict[str, float]] = {}
    for name, task in tasks.items():
        scores[name] = {}
        for row in _score(name, task, model):
            if row["item"] is None:
                scores[name][row["metric"]] = row["value"]
            else:
                for key, value in {"task": name, **row}.items():
                    columns[key].append(value)
    types = {"task": pa.string(), "item": pa.string(), "metric": pa.string(), "value": pa.float64()}
    table = pa.table({key: pa.array(values, types[key]) for key, values in columns.items()})
    pq.write_table(table, folder / "items.parquet", compression="zstd")
    text = json.dumps({"tasks": scores}, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "scores.json").write_text(text + "\n", encoding="utf-8")
    return scores
