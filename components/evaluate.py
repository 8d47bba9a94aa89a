"""evaluate: weights + tasks -> scores, and one row per item, since paired comparison of models needs them."""

from importlib import import_module
from typing import Any

from components import paths
from components.devices import gpu_held
from components.encoders import models_behind
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES
from components.outcomes import Refused
from components.recipes import Foreign, Library, Recipe, references
from components.scoring import files_of, open_model, write_scores
from components.training_stage import weights_of
from models import FAMILIES
from models.objective import Mismatch

REVISION = 2


def evaluate(name: str) -> None:
    """Score a recipe's weights on its tasks into `artifacts/evaluated/<name>/scores/`.

    `scores.json` holds the totals of each task and notes on what could not be scored, `items.parquet` one row per item
    (task, item, metric, value).

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
    nodes += [weights_of(library, each) for each in models_behind(library, recipe.encoder)]
    nodes += [(verb, corpus) for corpus in corpora for verb in ("ingest", "validate")]
    manifests = {node: read_manifest(*node) for node in nodes}
    files = {path: content for task in tasks.values() for path, content in files_of(task).items()}
    journal = Journal("evaluate", name)
    journal.parameters({task: section.model_dump() for task, section in tasks.items()})
    manifest = Manifest(
        verb="evaluate",
        name=name,
        revisions=_revisions(recipe, tasks),
        parents={paths.payload(*node).as_posix(): found.payload_hash for node, found in manifests.items()} | files,
        details={"tasks": {task: section.model_dump(mode="json") for task, section in tasks.items()}},
    )
    with gpu_held(), writing(manifest) as folder:
        try:
            model = open_model(recipe.family, paths.payload(*trained), paths.payload("fit", recipe.encoder))
        except Mismatch as error:
            raise Refused(f"{error} Run: hiraku {trained[0]} {trained[1]}") from error
        scores = write_scores(tasks, model, folder / paths.PAYLOAD["evaluate"])
        manifest.counts = {"num_tasks": len(tasks)}
        for task, totals in scores.items():
            journal.metrics(0, **{f"{task}/{metric}": value for metric, value in totals.items()})


def _revisions(recipe: Recipe, tasks: dict[str, Any]) -> dict[str, int]:
    modules = {FAMILIES[recipe.family], *(MODALITIES[task.modality] for task in tasks.values())}
    return {__name__: REVISION} | {module: import_module(module).REVISION for module in sorted(modules)}
