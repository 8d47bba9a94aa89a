"""Where a model comes from: its lineage found by a recipe's name, a folder or a version of the registry, as a tree."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from components import paths, registry, remembered, tracking
from components.lineage import Input, Lineage, Node, lineage_of, nearest_parents, read_lineage
from components.manifest import MANIFEST_NAME, Manifest, read_manifest, tree_hash
from components.outcomes import Refused
from components.recipes import Foreign, Library
from components.wording import unknown_name

REGISTRY = "registry:"
SHORT = 12
MOST_FILES = 8
TRAINED = ("pretrain", "align")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Origin:
    """A model and all it was made from."""

    model: str
    """The recipe that made it."""
    place: str
    """Where its lineage was read."""
    content_hash: str
    """Of the package; empty where a single layout does not tell it."""
    lineage: Lineage
    tags: dict[str, str]
    """Of the run that made the package, as far as the tracking server knows it: revision of the code, data."""


@contextlib.contextmanager
def files_of(model: str) -> Iterator[tuple[Path, str, str]]:
    """The files of a model, where they come from, and the content hash that whoever keeps them vouches for.

    Args:
        model: a recipe, a folder, or `registry:NAME@ALIAS_OR_VERSION`.

    Raises:
        Refused: there is no such model.
    """
    if model.startswith(REGISTRY):
        name, _, version = model.removeprefix(REGISTRY).partition("@")
        found = _asked(lambda: registry.read_version(name, version or registry.CHAMPION))
        if found is None:
            known = _asked(lambda: [*registry.aliases(name), *(row.version for row in registry.versions(name))])
            there = f"There are: {', '.join(known)}." if known else "It has none."
            raise Refused(f"The registry has no version '{version or registry.CHAMPION}' of '{name}'. {there}")
        with registry.fetched(found) as folder:
            yield folder, f"registry, version {found.version}", found.content_hash
    elif Path(model).is_dir():
        yield Path(model), model, ""
    else:
        library = Library()
        if model not in library.files["recipe"]:
            ways = "Or name a folder, or registry:NAME@ALIAS_OR_VERSION."
            raise Refused(unknown_name("recipe or folder", model, library.files["recipe"], ways))
        folder = paths.state("package", model)
        yield folder, str(folder), read_manifest("package", model).payload_hash


def _asked(question: Callable[[], Answer]) -> Answer:
    """What the registry answers.

    Raises:
        Refused: it does not.
    """
    tracking.require_server()
    with tracking.silence_told(lambda silence: Refused(f"{silence}. Start it again: mlflow/README.md.")):
        return question()


def origin_of(model: str) -> Origin:
    """Find what a model was made from.

    Raises:
        Refused: no such model, it tells no lineage, or its files are not what somebody vouches for.
    """
    with files_of(model) as (folder, place, vouched):
        own = tree_hash(folder, without=MANIFEST_NAME) if (folder / MANIFEST_NAME).is_file() or vouched else ""
        if vouched and own != vouched:
            raise Refused(
                f"{place} has the content {own[:SHORT]}, and {vouched[:SHORT]} was recorded: it was changed after it "
                f"was made. Make it again, or get it again."
            )
        lineage = _foreign(model) or read_lineage(folder)
    name = lineage.states[-1].name
    return Origin(name, place, own, lineage, _run_tags(own))


def _foreign(model: str) -> Lineage | None:
    """The lineage of somebody else's model, whose package tells none."""
    library = Library()
    is_foreign = model in library.files["recipe"] and isinstance(library.read("recipe", model), Foreign)
    return lineage_of("package", model) if is_foreign else None


def _run_tags(content_hash: str) -> dict[str, str]:
    """The tags of the run that made a package; none where no tracking server knows it."""
    if not content_hash:
        return {}
    with contextlib.suppress(Refused, *tracking.troubles()):
        tracking.require_server()
        return remembered.tags_of_maker(content_hash)
    return {}


# ---- for a terminal --------------------------------------------------------------------------------------------------


def show(origin: Origin, console: Console) -> None:
    """Print a lineage as a tree, the model at its root and raw bytes at its leaves."""
    lineage = origin.lineage
    head = f"[bold]{escape(origin.model)}[/]  {escape(origin.place)}"
    root = Tree(head + (f"  SHA-256 {origin.content_hash[:SHORT]}" if origin.content_hash else ""))
    _grow(root.add("[dim]made from[/]"), lineage)
    _recipes(root, lineage)
    _code(root, origin)
    _raw(root, origin)
    trained = [state.name for verb in TRAINED for state in lineage.of(verb) if state.name != origin.model]
    parents = ", ".join(trained) or "none: it began with random weights"
    root.add(f"[dim]models it starts from[/]  {escape(parents)}")
    root.add(f"[dim]licences[/]  {escape(', '.join(lineage.licences()))}")
    if lineage.obstacles:
        barred = root.add("[dim]may not be released[/]")
        for reason in lineage.obstacles:
            barred.add(escape(reason))
    console.print(root, soft_wrap=True)


def _grow(root: Tree, lineage: Lineage) -> None:
    """The states, each under what was made from it; one that was shown above is not unfolded again."""
    made = {(state.verb, state.name): state for state in lineage.states}
    raw = {each.path: each for each in lineage.inputs}
    nearest, seen = nearest_parents(lineage), set[Node]()

    def add(tree: Tree, state: Manifest) -> None:
        node = (state.verb, state.name)
        again = "  [dim](as above)[/]" if node in seen else ""
        own = tree.add(f"{state.verb} [bold]{escape(state.name)}[/]  {state.payload_hash[:SHORT]}{again}")
        if again:
            return
        seen.add(node)
        for path in sorted(state.parents):
            if path in raw:
                own.add(f"{escape(path)}  {raw[path].content_hash[:SHORT]}")
        for parent in reversed(nearest[node]):
            add(own, made[parent])

    add(root, lineage.states[-1])


def _recipes(root: Tree, lineage: Lineage) -> None:
    """Each file of a recipe, and the hash of what each verb read there."""
    files: dict[str, list[str]] = {}
    for (verb, _), sections in lineage.sections.items():
        for path, digest in sections.items() if verb != "package" else ():
            files.setdefault(path, []).append(f"{verb} {digest[:SHORT]}")
    if files:
        tree = root.add("[dim]recipes, by what each verb read there[/]")
        for path in sorted(files):
            tree.add(f"{escape(path)}  {', '.join(sorted(set(files[path])))}")


def _code(root: Tree, origin: Origin) -> None:
    numbers = {module: number for state in origin.lineage.states for module, number in state.revisions.items()}
    commit = origin.tags.get("git_revision", "")
    changed = " with changes that were not committed" if origin.tags.get("git_dirty") == "true" else ""
    where = f"git {commit[:SHORT]}{changed}" if commit else "git revision: only the tracking server of its makers knows"
    tree = root.add(f"[dim]code[/]  {where}")
    tree.add(", ".join(f"{module} {number}" for module, number in sorted(numbers.items())))


def _raw(root: Tree, origin: Origin) -> None:
    """The raw data: what was recorded, and whether the same bytes lie here."""
    recorded = {key: value for key, value in origin.tags.items() if key.startswith("data ")}
    tree = root.add("[dim]raw data[/]")
    for key, digest in sorted(recorded.items()):
        tree.add(f"data.dvc, {escape(key.removeprefix('data '))}: md5 {digest}")
    for each in origin.lineage.inputs:
        own = tree.add(f"{escape(each.path)}  SHA-256 {each.content_hash[:SHORT]}  {_standing(each)}")
        files = sorted(file for file in Path(each.path).rglob("*") if file.is_file()) if _is_here(each) else []
        for file in files[:MOST_FILES]:
            own.add(f"{escape(file.name)}  {file.stat().st_size:,} bytes")
        if len(files) > MOST_FILES:
            own.add(f"and {len(files) - MOST_FILES} more")


def _is_here(each: Input) -> bool:
    return Path(each.path).exists() and tree_hash(Path(each.path)) == each.content_hash


def _standing(each: Input) -> str:
    if not Path(each.path).exists():
        return "[yellow]not on this machine[/]"
    return "[green]these bytes are here[/]" if _is_here(each) else "[red]other bytes are here[/]"
