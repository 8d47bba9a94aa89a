"""`hiraku doctor`: what this machine can and cannot do for this project, and what to change."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.version import Version
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components import cost as planning
from components import paths, tracking
from components.devices import bf16_instructions, compiles_layers, num_devices, uses_gpu
from components.manifest import MANIFEST_NAME
from components.memory import step_key
from components.mixtures import demand_of
from components.outcomes import Refused
from components.recipes import Library, Recipe
from components.wording import either, shown
from flows import estimate, server, workspace
from flows.estimate import size
from flows.room import Room, fit_bytes, room

Level = Literal["good", "note", "bad"]
COLOURS = {"good": "green", "note": "yellow", "bad": "red"}
FASTAPI_LIMIT = Version("0.151")
"""Prefect 3.8 dies with fastapi 0.155 and later; no resolver notices."""
MAX_BYTES_SHARE = 0.9
LONG_SECONDS = 30 * planning.DAY_SECONDS
"""A training that takes longer on this CPU belongs elsewhere."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    level: Level
    topic: str
    text: str


def examine(recipe: str | None = None) -> list[Finding]:
    """Look at everything; a recipe adds what it needs itself.

    Raises:
        Refused: no such recipe.
    """
    library = Library()
    section = library.read("recipe", recipe) if recipe else None
    settings = _settings()
    findings = [*settings, *_python(), *_processor(section), *_memory(), *_accelerator(), *_project()]
    if recipe:
        findings += [*_fit(library, recipe), *_data(library, recipe)]
    if recipe and settings[0].level != "bad":
        findings += _training(library, recipe)
    return [*findings, *_disk(library, recipe), *_servers()]


def consult(recipe: str | None, num_trial_items: int | None, console: Console) -> int:
    """Look at everything, print it, and for a recipe what its training takes; 1 if something stands in the way.

    Args:
        recipe: a name, or none.
        num_trial_items: of optimiser steps to take with the recipe's network on random numbers; None takes none.
        console: receives it.

    Raises:
        Refused: no such recipe, or a trial without one, of nothing, or with less memory than it needs.
    """
    if num_trial_items is not None and recipe is None:
        raise Refused("A trial step needs a recipe's network. Name the recipe: hiraku doctor RECIPE --step TOKENS")
    if num_trial_items is not None and num_trial_items < 1:
        raise Refused(
            f"--step is {num_trial_items}, expected at least 1, of a language model tokens. For example: hiraku doctor "
            f"{recipe} --step 64"
        )
    code = print_findings(examine(recipe), console)
    if recipe is not None:
        library = Library()
        console.print()
        estimate.print_estimate(library, recipe, console)
        if num_trial_items is not None:
            console.print()
            estimate.print_trial(library, recipe, num_trial_items, console)
    return code


def print_findings(findings: list[Finding], console: Console) -> int:
    """Print them; return 1 if something stands in the way."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        colour = COLOURS[finding.level]
        table.add_row(f"[{colour}]{finding.level}[/]", escape(finding.topic), escape(finding.text))
    console.print(table)
    return int(any(finding.level == "bad" for finding in findings))


# ---- the machine -----------------------------------------------------------------------------------------------------


def _settings() -> list[Finding]:
    try:
        num_devices()  # reads them all
    except Refused as error:
        return [Finding("bad", "settings", str(error))]
    return [Finding("good", "settings", "every HIRAKU_ variable is known, and this machine has what they ask for")]


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    is_right = found.startswith("3.11.")
    yield Finding("good" if is_right else "bad", "python", found if is_right else f"{found}, expected 3.11. Run: make")
    for name in ("torch", "prefect", "mlflow", "dvc"):
        try:
            yield Finding("good", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("bad", name, "not installed. Run: make")
    fastapi = metadata.version("fastapi")
    if Version(fastapi) >= FASTAPI_LIMIT:
        yield Finding("bad", "fastapi", f"{fastapi} breaks Prefect 3.8. Run: pip install 'fastapi<{FASTAPI_LIMIT}'")
    else:
        yield Finding("good", "fastapi", fastapi)
    spec = util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        yield Finding("bad", "mlflow", "import mlflow finds the folder mlflow/ and not the package. Run: make")


def _processor(section: Any) -> Iterator[Finding]:
    has = bf16_instructions()
    cores = psutil.cpu_count(logical=True)
    precision = getattr(planning.training_of(section), "precision", None)
    if has:
        yield Finding("good", "processor", f"{cores} cores with {', '.join(has)}: precision bf16 or fp32 on the CPU")
        return
    text = f"{cores} cores without bf16 instructions: use precision fp32 on the CPU, bf16 is over ten times slower"
    level: Level = "note" if precision == "bf16" else "good"
    yield Finding(level, "processor", text + (" (this recipe says bf16)" if level == "note" else ""))


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield Finding("good", "memory", f"{size(memory.available)} free of {size(memory.total)}")


def _accelerator() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("good", "GPU", "none: training runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        precision = "bf16 or fp32" if torch.cuda.is_bf16_supported() else "fp32"
        yield Finding("good", "GPU", f"{found.name}, {size(found.total_memory)}: precision {precision}")


def _fit(library: Library, recipe: str) -> Iterator[Finding]:
    """Whether the fit of a recipe's encoder, if it is still to be made, finds the memory that it takes."""
    section = library.read("recipe", recipe)
    if not isinstance(section, Recipe) or (paths.state("fit", section.encoder) / MANIFEST_NAME).is_file():
        return
    found = fit_bytes(library, section.encoder)
    if found is None:
        return
    text, needed = found
    free = psutil.virtual_memory().available
    said = f"{section.encoder} reads about {size(text)} of text, which takes about {size(needed)} of memory"
    said += f", {size(free)} are free"
    if needed < free * planning.MEMORY_SHARE:
        yield Finding("good", "fit", said)
        return
    is_sampled = getattr(library.read("encoder", section.encoder), "sample_chars", None) is not None
    what = "smaller sample_chars" if is_sampled else "lower share of its corpora"
    ways = [f"a {what} in {library.path('encoder', section.encoder)}", "a machine with more memory"]
    yield Finding("bad", "fit", f"{said}. Ways out: {either(ways)}")


def _data(library: Library, recipe: str) -> Iterator[Finding]:
    """Whether the tokens at hand are as many as a recipe's schedule will see."""
    demand = demand_of(library, recipe)
    if demand is not None:
        yield Finding("note" if demand.is_short else "good", "data", demand.words())


def _training(library: Library, recipe: str) -> Iterator[Finding]:
    """Whether a recipe's training fits this machine's memory, and on a CPU a person's patience."""
    on_gpu = uses_gpu()
    cost = planning.cost_of(library, recipe, on_gpu, compiles_layers(on_gpu))
    if cost is None:
        return
    training = planning.training_of(library.read("recipe", recipe))
    count = 1 if training.strategy == "single" else num_devices()
    found = planning.held(cost, training, training.strategy, count, training.activation_checkpointing)
    there = _memory_there(on_gpu) / (1 if on_gpu else count)  # processes of a CPU share its memory
    device = "each GPU" if on_gpu and count > 1 else "the GPU" if on_gpu else "the CPU"
    text = f"{recipe} takes about {size(found.total)} of memory on {device}, {size(there)} are there"
    seconds = 0.0 if on_gpu else estimate.on_this_cpu(cost, training).seconds
    if found.total < there * planning.MEMORY_SHARE:
        if seconds > LONG_SECONDS:
            text += f"; it would take {estimate.duration(seconds)}, so train it elsewhere (see the table below)"
        yield Finding("note" if seconds > LONG_SECONDS else "good", "training", text)
        return
    ways = []
    if found.total - found.activations - found.loss < there * planning.MEMORY_SHARE:
        ways.append(f"a smaller {step_key(training)}")
    less = planning.held(cost, training, training.strategy, count, recompute=True).total
    if less < there * planning.MEMORY_SHARE:
        ways.append(f"activation_checkpointing: true ({size(less)})")
    enough = planning.devices_needed(cost, training, there) if on_gpu else None
    ways.append(f"strategy: fsdp2 on {enough} such GPUs" if enough else "another machine (see the table below)")
    yield Finding("bad", "training", f"{text}. Ways out: {either(ways)}")


def _memory_there(on_gpu: bool) -> int:
    """Bytes of one GPU, or those of the machine that are free."""
    import torch

    if on_gpu:
        return min(torch.cuda.get_device_properties(each).total_memory for each in range(torch.cuda.device_count()))
    return int(psutil.virtual_memory().available)


# ---- the project -----------------------------------------------------------------------------------------------------


def _project() -> Iterator[Finding]:
    try:
        workspace.require_project()
    except Refused as error:
        yield Finding("bad", "project", str(error))
        return
    revision = workspace.git_revision()
    state = "with changes that are not committed" if revision.is_dirty else "clean"
    yield Finding("good", "git", f"{revision.commit[:12] or 'no commit yet'}, {state}")
    with workspace.open_repo() as repo:
        if not workspace.has_remote(repo):
            yield Finding("note", "DVC remote", workspace.NO_REMOTE)
        elif workspace.remote_answers(repo):
            yield Finding("good", "DVC remote", str(repo.config["core"]["remote"]))
        else:
            yield Finding("note", "DVC remote", "does not answer, so results stay on this machine")
    try:
        stale = workspace.stale_graph()
    except Refused as error:
        yield Finding("bad", "recipes", str(error))
        return
    if stale:
        yield Finding("note", "graph", f"{', '.join(map(str, stale))} is rendered at the next run, or by: hiraku graph")


def _disk(library: Library, recipe: str | None) -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    if recipe is None:
        yield Finding("good", "disk", f"{size(free)} free (hiraku doctor RECIPE compares it with a recipe's need)")
        return
    needed = room(library, recipe)
    text = f"{recipe} takes about {size(needed.total)} more, {size(free)} are free{_parts(library, needed)}"
    if needed.total < free * MAX_BYTES_SHARE:
        yield Finding("note" if needed.absent else "good", "disk", text)
    else:
        yield Finding("bad", "disk", f"{text}. Free some, or keep DVC's cache on a larger disk: dvc cache dir FOLDER")


def _parts(library: Library, needed: Room) -> str:
    """What the need is made of where raw data are still to come; empty where they are here."""
    if not needed.absent:
        return ""
    names = ", ".join(needed.absent)
    text = f". Raw data of {names} are not here: about {size(needed.raw)} of text, which records, shards and the "
    text += f"copies of a DVC remote bring to {size(needed.data)}"
    if needed.unknown:
        files = ", ".join(str(library.path("corpus", name)) for name in needed.unknown)
        text += f", not counting {', '.join(needed.unknown)} (say how large: expected_gigabytes in {files})"
    return f"{text}. Checkpoints and weights take {size(needed.training)}"


# ---- servers ---------------------------------------------------------------------------------------------------------


def _servers() -> Iterator[Finding]:
    for name, port, flag in (("MLflow", 5000, "--mlflow-port"), ("Prefect", 4200, "--prefect-port")):
        if server.is_free(port):
            yield Finding("good", f"port {port}", f"free for the pages of {name} (hiraku ui)")
        else:
            yield Finding("note", f"port {port}", f"in use; for the pages of {name} say: hiraku ui {flag} NUMBER")
    yield _server("MLflow", tracking.require_server, os.environ.get("MLFLOW_TRACKING_URI"))
    yield _server("Prefect", server.require_server, os.environ.get("PREFECT_API_URL"))


def _server(name: str, require: Callable[[], None], url: str | None) -> Finding:
    if not url:
        return Finding("good", name, "embedded, under .hiraku/")
    try:
        require()
    except Refused as error:
        return Finding("bad", name, str(error))
    return Finding("good", name, f"{shown(url)} answers")
