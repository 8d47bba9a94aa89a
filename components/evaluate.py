"""evaluate: weights + tasks -> scores, and one row per item, since paired comparison of models needs them."""

from dataclasses import replace
from importlib import import_module
from typing import Any

from components import contamination, judges, paths
from components.corpora import scored_on
from components.devices import gpu_held
from components.encoders import models_behind
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES
from components.outcomes import Refused
from components.recipes import Foreign, Library
from components.scoring import Model, files_of, open_foreign, open_model, write_scores
from components.weights import parents_of, weights_of
from models import FAMILIES
from models.objective import Mismatch

REVISION = 5


def evaluate(name: str) -> None:
    """Score a recipe's weights on its tasks into `artifacts/evaluated/<name>/scores/`.

    `scores.json` holds the totals of each task and notes on what could not be scored, `items.parquet` one row per item
    (task, item, metric, value), `outputs.parquet` what a model wrote. Items are looked for in all that the model was
    trained on; `contaminated.md` beside the payload lists those that stand there.

    Raises:
        Refused: the recipe has nothing to score, weights, encoder or records are missing, or a score is not finite.
    """
    library = Library()
    recipe = library.read("recipe", name)
    _require_tasks(name, recipe)
    scored = weights_of(library, name)
    tasks = {task: library.read("task", task) for task in recipe.evaluate.tasks}
    judges.require_independent(tasks, *scored)
    # A corpus is what `ingest` read and what `validate` accepted; both decide a score.
    corpora = scored_on(tasks.values())
    trained_on = contamination.corpora_to_read(library, name)
    parents = parents_of(library, [name, *_behind(library, recipe)])
    nodes = [] if isinstance(recipe, Foreign) else [("fit", recipe.encoder)]
    nodes += [("shard", shards) for shards in recipe.evaluate.features]
    nodes += [(verb, corpus) for corpus in sorted(corpora.union(trained_on)) for verb in ("ingest", "validate")]
    manifests = {node: read_manifest(*node) for node in nodes}
    files = {path: content for task in tasks.values() for path, content in files_of(task).items()}
    journal = Journal("evaluate", name)
    journal.parameters({task: section.model_dump() for task, section in tasks.items()})
    manifest = Manifest(
        verb="evaluate",
        name=name,
        revisions=_revisions(recipe, tasks),
        parents=parents
        | {paths.payload(*node).as_posix(): found.payload_hash for node, found in manifests.items()}
        | judges.parents_of(tasks.values())
        | files,
        details={"tasks": {task: section.model_dump(mode="json") for task, section in tasks.items()}},
    )
    with gpu_held(), writing(manifest) as folder:
        try:
            model = replace(_opened(name, recipe, scored), features=tuple(recipe.evaluate.features))
        except Mismatch as error:
            raise Refused(f"{error} Run: hiraku {scored[0]} {scored[1]}") from error
        place = folder / paths.PAYLOAD["evaluate"]
        pages: dict[str, str] = {}
        scores = write_scores(tasks, model, place, pages)
        if section := recipe.evaluate.contamination:
            found = contamination.look(library, section, tasks, trained_on) if trained_on else {}
            scores = contamination.add_to(place, section, tasks, found)
            if listed := contamination.page(section, found):
                pages[contamination.PAGE_NAME] = listed
            manifest.details["contamination"] = contamination.facts_of(library, name, section, found, trained_on)
        for file_name, page in pages.items():
            (folder / file_name).write_text(page, encoding="utf-8")
            journal.note(file_name, page)
        manifest.counts = {"num_tasks": len(tasks)}
        for task, totals in scores.items():
            journal.metrics(0, **{f"{task}/{metric}": value for metric, value in totals.items()})


def _require_tasks(name: str, recipe: Any) -> None:
    if recipe.evaluate is None:
        raise Refused(
            f"Recipe '{name}' is somebody else's model (it has a 'source') and names no task, so there is nothing to "
            "evaluate. Add evaluate: {tasks: [TASK, ...]} to it. Without scores it is taken in by: "
            f"hiraku package {name}"
        )


def _behind(library: Library, recipe: Any) -> list[str]:
    """The recipes whose weights the encoder computes with; somebody else's package has its encoder in it."""
    return [] if isinstance(recipe, Foreign) else models_behind(library, recipe.encoder)


def _opened(name: str, recipe: Any, scored: tuple[str, str]) -> Model:
    if isinstance(recipe, Foreign):
        return open_foreign(recipe.family, paths.layout(name, recipe.layout))
    return open_model(recipe.family, paths.payload(*scored), paths.payload("fit", recipe.encoder))


def _revisions(recipe: Any, tasks: dict[str, Any]) -> dict[str, int]:
    modules = {FAMILIES[recipe.family], *(MODALITIES[task.modality] for task in tasks.values())}
    own = {__name__: REVISION} | {module: import_module(module).REVISION for module in sorted(modules)}
    return own | judges.revisions_of(tasks.values())
