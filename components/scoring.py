"""Scores of a model: how they are made, what they were made on, and where those of a registered version are found.

A payload of scores is a folder with `scores.json` (totals by task and metric), `items.parquet` (task, item, metric,
value) and, of tasks in which a model writes, `outputs.parquet` (task, item, prompt, output); of those in which it draws
`drawn.parquet` (see `components.drawn`). A version's are kept with its run together with `tasks.json`: the tasks, and
for each a hash of all that decides a score besides the model. Two models can be compared where these hashes are equal.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import paths
from components.devices import set_threads, uses_gpu
from components.drawn import write_drawn
from components.judges import parents_of
from components.lineage import WEIGHTS_HASH, state_of
from components.manifest import Manifest, read_manifest, tree_hash
from components.modalities import modality, schema_of
from components.outcomes import Refused
from components.progress import Progress
from components.recipes import Library, references
from components.records import iterate_records
from models import part_of

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

ITEMS_NAME = "items.parquet"
SCORES_NAME = "scores.json"
OUTPUTS_NAME = "outputs.parquet"
TASKS_NAME = "tasks.json"


@dataclass(frozen=True)
class Model:
    """What a task scores: a network in evaluation mode, on its device, and the encoder of its inputs."""

    network: Any
    encoder: Any
    folders: tuple[Path, ...] = ()
    """What both were loaded from; without it, no answer is kept for another run."""
    features: tuple[str, ...] = ()
    """Shards of what a part of the network has computed already of the corpora of tasks."""

    @cached_property
    def content(self) -> str:
        """SHA-256 of the folders; empty without them."""
        hashes = [tree_hash(folder) for folder in self.folders]
        return hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""


def open_foreign(family: str, package: Path) -> Model:
    """Load a layout of somebody else's model, its own encoder in it, onto the device that the settings name.

    Raises:
        Refused: models of this family cannot be scored as they come.
        models.objective.Mismatch: the folder holds something else.
    """
    name = part_of(family, "schema").MODALITY
    opened = getattr(modality(name), "open_foreign_encoder", None)
    if opened is None:
        raise Refused(
            f"Somebody else's models of family '{family}' cannot be scored as they come: nothing says how {name} "
            "becomes their input. Take the section 'evaluate' out, and let a recipe with an encoder start from it."
        )
    set_threads()
    convert = part_of(family, "convert")
    network = getattr(convert, "load_foreign", convert.load)(package)
    return Model(network.to("cuda" if uses_gpu() else "cpu").eval(), opened(package), (package,))


def open_model(family: str, weights: Path, encoder: Path) -> Model:
    """Load weights onto the device that the settings name.

    Args:
        family: whose `convert.load` reads them.
        weights: a folder of weights, or of a layout of a package.
        encoder: what `fit` left, or the same layout.

    Raises:
        models.objective.Mismatch: the folder holds something else.
    """
    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    network = part_of(family, "convert").load(weights)
    opened = modality(part_of(family, "schema").MODALITY).open_encoder(encoder)
    return Model(network.to(device).eval(), opened, (weights, encoder))


def write_scores(
    tasks: dict[str, Any], model: Model, folder: Path, pictures: dict[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Score a model on tasks into a folder that is made; return the totals by task and metric.

    A row with a `note` tells in words what could not be scored; notes stand beside the totals.

    Args:
        tasks: their sections by name.
        model: what is scored.
        folder: receives the payload of scores.
        pictures: receives what a task shows to a person, SVG by the name of a file.

    Raises:
        Refused: an item's value is no finite number.
    """
    folder.mkdir()
    columns: dict[str, list[Any]] = {"task": [], "item": [], "metric": [], "value": []}
    said: dict[str, list[str]] = {"task": [], "item": [], "prompt": [], "output": []}
    drawn: list[dict[str, Any]] = []
    scores: dict[str, dict[str, float]] = {}
    notes: dict[str, list[str]] = {}
    for name, task in tasks.items():
        scores[name] = {}
        for row in _score(name, task, model):
            if "drawn" in row:
                drawn.append({"task": name, **row["drawn"]})
            elif "output" in row:
                for key, value in {"task": name, **row}.items():
                    said[key].append(value)
            elif "picture" in row:
                (pictures if pictures is not None else {})[f"{name}-{row['picture']}"] = row["svg"]
            elif "note" in row:
                notes.setdefault(name, []).append(row["note"])
                logger.warning("%s: %s", name, row["note"])
            elif row["item"] is None:
                scores[name][row["metric"]] = row["value"]
            else:
                require_finite(name, row)
                for key, value in {"task": name, **row}.items():
                    columns[key].append(value)
    _write_tables(columns, said, folder)
    write_drawn(drawn, folder)
    told = {"tasks": scores, **({"notes": notes} if notes else {})}
    text = json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / SCORES_NAME).write_text(text + "\n", encoding="utf-8")
    return scores


def _write_tables(items: dict[str, list[Any]], outputs: dict[str, list[Any]], folder: Path) -> None:
    """Rows of items, and what a model wrote, if it did."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"task": pa.string(), "item": pa.string(), "metric": pa.string(), "value": pa.float64()}
    table = pa.table({key: pa.array(values, types[key]) for key, values in items.items()})
    pq.write_table(table, folder / ITEMS_NAME, compression="zstd")
    if outputs["task"]:
        words = pa.table({key: pa.array(values, pa.string()) for key, values in outputs.items()})
        pq.write_table(words, folder / OUTPUTS_NAME, compression="zstd")


def require_finite(task: str, row: dict[str, Any]) -> None:
    """Refuse an item's score that is no number: such a model could be told neither worse than another nor better.

    Raises:
        Refused: as it says.
    """
    if not math.isfinite(row["value"]):
        raise Refused(
            f"Task '{task}' gives item '{row['item']}' the {row['metric']} {row['value']}, expected a finite number: "
            "the weights compute none. Look at the curve of their training, lower its learning rate or clip_norm, and "
            "train again."
        )


def _score(name: str, task: Any, model: Model) -> Iterator[dict[str, Any]]:
    """The rows of a task, with progress by item."""
    with Progress(f"evaluate {name}", 0, unit="item") as progress:

        def tell(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        yield from modality(task.modality).score(task, model, iterate_records, tell)


# ---- what scores were made on ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task as it was when a model was scored on it."""

    section: dict[str, Any]
    digest: str
    """SHA-256 over all that decides a score besides the model: section, data, code."""

    @property
    def parsed(self) -> Any:
        """The section as an instance of its class.

        Raises:
            Refused: there is no such kind of task in this version.
        """
        return parsed(self.section)


def parsed(section: dict[str, Any]) -> Any:
    """A task's section, as a manifest keeps it, as an instance of its class.

    Raises:
        Refused: there is no such kind of task in this version, or it has other keys now.
    """
    kind, name = section.get("kind", ""), section.get("modality", "")
    try:
        return schema_of(name).TASKS[kind].model_validate(section)
    except (KeyError, ValueError) as error:
        raise Refused(
            f"Scores were made on a task of kind '{kind}' ({name}), which this version does not read: {error}. "
            "Release the recipe again (hiraku release RECIPE), which scores it on the tasks as they are now."
        ) from error


def tasks_of(manifest: Manifest) -> dict[str, Task]:
    """The tasks of an `evaluate` state."""
    return {
        name: Task(section, _digest(section, manifest.parents, manifest.revisions))
        for name, section in manifest.details.get("tasks", {}).items()
    }


def tasks_today(library: Library, recipe: Any) -> dict[str, Task]:
    """The tasks of a recipe on the data that lie in this project.

    Raises:
        Refused: a corpus is not made here; the message names the command that makes it.
    """
    found = {}
    for name in recipe.evaluate.tasks:
        section = library.read("task", name)
        parents = {
            paths.payload(verb, corpus).as_posix(): read_manifest(verb, corpus).payload_hash
            for kind, corpus in references(section)
            if kind == "corpus"
            for verb in ("ingest", "validate")
        }
        if getattr(section, "OF_ENCODER", False):
            node = ("fit", recipe.encoder)
            parents[paths.payload(*node).as_posix()] = read_manifest(*node).payload_hash
        parents |= parents_of([section]) | files_of(section)
        dumped = section.model_dump(mode="json")
        found[name] = Task(dumped, _digest(dumped, parents, revisions_of(section)))
    return found


def files_of(task: Any) -> dict[str, str]:
    """What a task reads besides states, such as prompts and raw data: path -> hash of its content.

    Raises:
        Refused: a path is not there.
    """
    found = {}
    for path in getattr(task, "files", ()):
        if not path.exists():
            raise Refused(
                f"{path} is not here, and a task of the recipe reads it. Bring it, then record it: dvc add {path}"
            )
        found[path.as_posix()] = tree_hash(path)
    return found


def revisions_of(task: Any) -> dict[str, int]:
    """REVISION of the code that scores a task."""
    from components.modalities import MODALITIES

    modules = ("components.evaluate", MODALITIES[task.modality])
    return {module: import_module(module).REVISION for module in modules}


def _digest(section: dict[str, Any], parents: dict[str, str], revisions: dict[str, int]) -> str:
    task = parsed(section)
    names = {name for _, name in references(task)}
    files = {path.as_posix() for path in getattr(task, "files", ())}
    nodes = {path: state_of(path) for path in parents}
    own_verbs = ("pretrain", "align") if getattr(task, "OF_ENCODER", False) else ("pretrain", "align", "fit")
    data = {
        path: parents[path]
        for path, node in nodes.items()
        if path in files or (node is not None and node[0] not in own_verbs and (node[1] in names or node[0] == "fit"))
    }
    code = {module: revisions.get(module) for module in revisions_of(task)}
    text = json.dumps([section, data, code], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# ---- scores that are kept with a version -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """What a model was given."""

    items: "pa.Table"
    totals: dict[str, dict[str, float]]
    """Task -> metric -> value."""
    tasks: dict[str, Task]

    def joined(self, other: "Scores") -> "Scores":
        """These scores, and those of another for the tasks that it has."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kept = self.items.filter(pc.invert(pc.is_in(self.items["task"], pa.array(list(other.tasks), pa.string()))))
        items = pa.concat_tables([kept, other.items])
        return Scores(items, self.totals | other.totals, self.tasks | other.tasks)


def gather(folder: Path, tasks: dict[str, Task], into: Path) -> None:
    """Copy a payload of scores, and beside it what they were made on."""
    into.mkdir(parents=True, exist_ok=True)
    for name in (ITEMS_NAME, SCORES_NAME):
        shutil.copyfile(folder / name, into / name)
    rows = {name: {"section": task.section, "digest": task.digest} for name, task in tasks.items()}
    (into / TASKS_NAME).write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_scores(folder: Path) -> Scores:
    """What `gather` wrote."""
    import pyarrow.parquet as pq

    totals = json.loads((folder / SCORES_NAME).read_text(encoding="utf-8"))["tasks"]
    rows = json.loads((folder / TASKS_NAME).read_text(encoding="utf-8"))
    return Scores(pq.read_table(folder / ITEMS_NAME), totals, {name: Task(**row) for name, row in rows.items()})


def scores_behind(package: Manifest) -> tuple[Path, dict[str, Task]] | None:
    """The scores that a package tells of and their tasks, if they lie in this project as they were then."""
    place = paths.payload("evaluate", package.name)
    if not (place / ITEMS_NAME).is_file():
        return None
    manifest = read_manifest("evaluate", package.name)
    is_told = package.parents.get(place.as_posix()) == manifest.payload_hash
    # Somebody else's model is scored after it is packaged; scores of earlier versions tell the package as a whole.
    is_told |= manifest.parents.get(paths.payload("package", package.name).as_posix()) == package.payload_hash
    if WEIGHTS_HASH in package.details:
        (layout,) = package.details["layouts"]
        is_told |= manifest.parents.get(paths.layout(package.name, layout).as_posix()) == package.details[WEIGHTS_HASH]
    return (place, tasks_of(manifest)) if is_told else None
