"""Make a model again from its raw bytes, in a folder that is thrown away, and compare every state's content hash.

Nothing that was made before can answer: the folder has a DVC cache of its own, which is empty, no remote, and no
checkpoint. The code is that of the commit which made the model, where git has it, else the present code if it is the
same in all that decides what comes out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from components import paths
from components.graph import GRAPH_NAME, render
from components.hub_files import HUB
from components.lineage import Input, Lineage, Node, nearest_parents
from components.manifest import MANIFEST_NAME, Manifest, tree_hash
from components.modalities import MODALITIES
from components.outcomes import Refused
from components.recipes import Library
from components.sections import section_hashes
from components.settings import STATE
from components.wording import nearest_name, one_line
from flows import ancestry, workspace
from flows.launch import LEFT_OVER_SECONDS, StageFailed, end_group, stage_environment

CODE = ("components", "flows", "models")
CONFIG = '[core]\n    analytics = false\n    no_scm = true\n[cache]\n    type = "reflink,hardlink,copy"\n'
ANYWHERE, HERE = "on any machine", "on one machine and device"
EXACT_VERBS = ("ingest", "validate", "fit", "shard")
"""Verbs that pass through no network where the data are text."""
SHORT = 12

Say = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """One state, made again."""

    verb: str
    name: str
    recorded: str
    """Content hash; of a package that only its layout tells of, empty."""
    made: str
    is_same: bool
    promise: str
    """What two runs of it can be expected to agree in."""


def reproduce(model: str, until: str, say: Say) -> list[Verdict]:
    """Make a model again and compare.

    Args:
        model: a recipe, a folder, or `registry:NAME@ALIAS_OR_VERSION`.
        until: the last verb to run; empty for all.
        say: receives the lines of the stages.

    Raises:
        Refused: no such model or verb, raw bytes other than the recorded ones, or code that cannot make it.
        flows.launch.StageFailed: a stage did not come to its end.
    """
    origin = ancestry.origin_of(model)
    lineage = origin.lineage
    wanted = _wanted(lineage, until)
    _require_raw(lineage)
    commit = _commit_of(origin.tags)
    if not commit:
        _require_same_code(lineage)
    with _folder(commit) as folder:
        say(f"Making {origin.model} again in {folder}, by {f'commit {commit[:SHORT]}' if commit else 'this code'}.")
        _bring_raw(lineage, folder)
        _run(folder, wanted, say)
        return [_verdict(state, origin, folder, model) for state in made_for(lineage, wanted)]


def _wanted(lineage: Lineage, until: str) -> list[Manifest]:
    """The states to make; all that they need is made before them."""
    if not until:
        return [lineage.states[-1]]
    found = lineage.of(until)
    if not found:
        known = list(dict.fromkeys(state.verb for state in lineage.states))
        near = nearest_name(until, known)
        hint = f"Did you mean '{near}'?" if near else f"There are: {', '.join(known)}."
        raise Refused(f"--until is '{until}', and no such verb made this model. {hint}")
    return found


def made_for(lineage: Lineage, wanted: list[Manifest]) -> list[Manifest]:
    """States that are made on the way to some of them, and those; a corpus that only later ones read is none."""
    parents = nearest_parents(lineage)
    found: set[Node] = set()
    ahead = [(state.verb, state.name) for state in wanted]
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead += parents[node]
    return [state for state in lineage.states if (state.verb, state.name) in found]


# ---- what must be there ----------------------------------------------------------------------------------------------


def _here(lineage: Lineage) -> list[Input]:
    """The raw data that lie on this machine; a data set of a Hub comes by its commit, which its corpus names."""
    return [each for each in lineage.inputs if not each.path.startswith(HUB)]


def _require_raw(lineage: Lineage) -> None:
    """Refuse raw data that are not those of the model, before anything runs."""
    if not lineage.inputs:
        raise Refused("This model tells of no raw data, so there is nothing to make it from.")
    problems = []
    for each in _here(lineage):
        path = Path(each.path)
        if path.is_absolute() or not path.exists():
            problems.append(f"{path} is not here")
        elif (found := tree_hash(path)) != each.content_hash:
            problems.append(f"{path} has the content {found[:SHORT]}, and {each.content_hash[:SHORT]} was recorded")
    if problems:
        raise Refused(
            "\n  ".join(
                [
                    "The raw data are not those that this model was made from:",
                    *problems,
                    "Bring the recorded version: git checkout COMMIT data.dvc && dvc pull data.dvc, or hiraku collect.",
                ]
            )
        )


def _commit_of(tags: dict[str, str]) -> str:
    """The commit to make the model with; empty for the code that lies here."""
    commit = tags.get("git_revision", "")
    if not commit or tags.get("git_dirty") == "true":
        return ""
    here = workspace.git_revision()
    if here.commit == commit and not here.is_dirty:
        return ""
    known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    return commit if known.returncode == 0 else ""


def _require_same_code(lineage: Lineage) -> None:
    """Refuse if the present code or recipes would make something else."""
    library = Library()
    problems = []
    numbers = {module: number for state in lineage.states for module, number in state.revisions.items()}
    for module, number in sorted(numbers.items()):
        try:
            now = import_module(module).REVISION
        except ImportError:
            now = None
        if now != number:
            problems.append(f"{module} has REVISION {now}, and {number} made it")
    present = section_hashes(library, lineage.states[-1].name)
    for node, sections in lineage.sections.items():
        for path, digest in sections.items():
            if present.get(node, {}).get(path) != digest:
                problems.append(f"{path} says something else to '{' '.join(node)}'")
    if problems:
        raise Refused(
            "\n  ".join(
                [
                    "The code or the recipes here are not those that made this model, and git has no commit of them:",
                    *problems,
                    "Check out the version that made it, then run this again.",
                ]
            )
        )


# ---- the folder ------------------------------------------------------------------------------------------------------


@contextmanager
def _folder(commit: str) -> Iterator[Path]:
    """A project of its own with code and recipes, removed at the end."""
    root = STATE / "reproduce"
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root)).resolve()
    try:
        if commit:
            words = ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit]
            done = subprocess.run(words, check=False, capture_output=True, text=True, errors="replace")
            if done.returncode:
                raise Refused(
                    f"git cannot check out commit {commit[:SHORT]} into {folder}: {one_line(done.stderr, 300)}. Mend "
                    "that, or check out the commit yourself and run this again there."
                )
            (folder / workspace.DATA_FILE).unlink(missing_ok=True)  # it stands for data that are not all here
            if not (folder / "recipes" / "mine").exists() and Path("recipes/mine").exists():
                shutil.copytree("recipes/mine", folder / "recipes" / "mine")
        else:
            _copy_code(folder)
        (folder / ".dvc").mkdir(exist_ok=True)
        (folder / ".dvc" / "config").write_text(CONFIG, encoding="utf-8")
        for lock in [*folder.glob("dvc.lock"), *folder.glob("recipes/mine/dvc.lock")]:
            lock.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if commit:
            subprocess.run(["git", "worktree", "prune"], check=False, capture_output=True)


def _copy_code(folder: Path) -> None:
    """The code that runs here, and the recipes with the graph that they say."""
    here = Path(__file__).resolve().parent.parent
    without = shutil.ignore_patterns("__pycache__")
    for part in CODE:
        shutil.copytree(here / part, folder / part, ignore=without)
    shutil.copytree(paths.RECIPES, folder / paths.RECIPES)
    for path, text in render(Library()).items():
        (folder / path).write_text(text, encoding="utf-8")


def _bring_raw(lineage: Lineage, folder: Path) -> None:
    """Link the raw files, which no stage writes to; copy them where the disk cannot link."""
    for each in _here(lineage):
        source = Path(each.path)
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if file.is_file():
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(file.resolve(), place)
                except OSError:
                    shutil.copy2(file, place)


def _run(folder: Path, wanted: list[Manifest], say: Say) -> None:
    """Have DVC alone make the states, without its run cache."""
    targets = [_address(folder, state) for state in wanted]
    kept = {key: value for key, value in stage_environment().items() if not key.startswith("PYTHONPATH")}
    own = {"HIRAKU_CHECKPOINT_ROOT": str(folder / ".hiraku" / "checkpoints"), "DVC_NO_ANALYTICS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--no-run-cache", *targets],
        cwd=folder,
        env=kept | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert process.stdout is not None  # noqa: S101 (we asked for a pipe)
        for line in process.stdout:
            say(line.rstrip("\n"))
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
        end_group(process.pid, LEFT_OVER_SECONDS)
    if code:
        raise StageFailed(f"dvc repro {' '.join(targets)} ended with exit code {code}; nothing was compared.")


def _address(folder: Path, state: Manifest) -> str:
    """What `dvc repro` takes for a state."""
    key = f"{state.verb}-{state.name}"
    for graph in (folder / GRAPH_NAME, folder / paths.RECIPES / "mine" / GRAPH_NAME):
        if graph.is_file() and key in yaml.safe_load(graph.read_text(encoding="utf-8"))["stages"]:
            return f"{graph.relative_to(folder).as_posix()}:{key}"
    raise Refused(f"The recipes that made this model know no stage {key}. Run: hiraku graph")


# ---- the comparison --------------------------------------------------------------------------------------------------


def _verdict(state: Manifest, origin: ancestry.Origin, folder: Path, model: str) -> Verdict:
    place = folder / paths.state(state.verb, state.name)
    modalities = {module for module in state.revisions if module in MODALITIES.values()}
    is_exact = state.verb in EXACT_VERBS and modalities <= {MODALITIES["text"]}
    promise = ANYWHERE if is_exact else HERE
    recorded = origin.content_hash if state is origin.lineage.states[-1] else state.payload_hash
    if not (place / MANIFEST_NAME).is_file():
        return Verdict(state.verb, state.name, recorded, "", False, promise)
    inner = paths.PAYLOAD[state.verb]
    made = tree_hash(place / inner) if inner else tree_hash(place, without=MANIFEST_NAME)
    is_same = made == recorded if recorded else _has_layout(place, Path(model))
    return Verdict(state.verb, state.name, recorded, made, is_same, promise)


def _has_layout(package: Path, folder: Path) -> bool:
    """Whether a layout of a package is a folder, file by file; what a downloader adds does not count."""
    for layout in package.glob("*/"):
        files = [file.relative_to(layout) for file in layout.rglob("*") if file.is_file()]
        if all((folder / file).is_file() and tree_hash(folder / file) == tree_hash(layout / file) for file in files):
            return True
    return False


def show(verdicts: list[Verdict], console: Console) -> bool:
    """Print what became of each state; return whether all are the same."""
    table = Table(box=None, pad_edge=False)
    for title in ("state", "recorded", "made", "", "two runs agree"):
        table.add_column(title)
    for each in verdicts:
        words = "[green]same[/]" if each.is_same else "[bold red]differs[/]" if each.made else "[red]not made[/]"
        made = each.made[:SHORT]
        table.add_row(f"{each.verb} {each.name}", each.recorded[:SHORT] or "its files", made, words, each.promise)
    console.print(table)
    if all(each.is_same for each in verdicts):
        console.print(f"All {len(verdicts)} states are the same.")
        return True
    first = next(each for each in verdicts if not each.is_same)
    console.print(f"{first.verb} {first.name} is the first that differs; what comes after it reads it.", markup=False)
    if first.promise == HERE:
        console.print("A network gives the same bits on one machine and device only: compare there, or by scores.")
    return False
