"""Raw data under `data/`: made by a generator, copied from a folder, downloaded, or fetched from the DVC remote.

`data.dvc` is their version. Only the paths of one corpus are recorded at a time, so data of other corpora that is not
on this machine stays in it.
"""

import filecmp
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from components import downloads, fetching, foreign, paths
from components.generators import GENERATORS
from components.graph import Stage
from components.hub import Unfinished
from components.outcomes import Busy, Refused
from components.recipes import Corpus, Foreign, Library
from components.sources import ANY, ENDINGS, endings_of, is_there
from components.wording import one_line, unknown_name
from flows import events, raw_data, workspace
from flows.launch import StageFailed

KNOWN_ENDINGS = tuple(ENDINGS)
EMPTY_DATA_FILE = "outs:\n- hash: md5\n  path: data\n"

Say = Callable[[str], None]


def raw_paths(corpus: Corpus) -> list[Path]:
    """Where the raw files of a corpus are; empty if it has none of its own."""
    return [paths.DATA / path for path in getattr(corpus.source, "raw_paths", [])]


def missing(library: Library, stages: Iterable[Stage]) -> list[str]:
    """The corpora among some stages whose raw data are not all there."""
    names = [stage.name for stage in stages if stage.verb == "ingest"]
    return [name for name in names if _lacking(library.read("corpus", name))]


def missing_models(library: Library, stages: Iterable[Stage]) -> list[str]:
    """Models among some stages that have to be fetched from a Hub or the registry.

    Raises:
        Refused: the registry does not answer, or has no such version.
    """
    recipes = {stage.name: library.read("recipe", stage.name) for stage in stages if stage.verb == "package"}
    sources = {name: each.source for name, each in recipes.items() if isinstance(each, Foreign)}
    return [name for name, source in sources.items() if foreign.is_missing(source) or fetching.is_stale(source)]


def require_obtainable(library: Library, stages: Iterable[Stage]) -> None:
    """Refuse raw data that is missing and that neither a generator, `data.dvc` nor a Hub can bring.

    Raises:
        Refused: the message names every such corpus, and every folder of items that a task reads, and the commands that
            bring them.
    """
    stages = list(stages)
    for name in missing_models(library, stages):
        fetching.require_reachable(name, library.read("recipe", name).source)
    absent = _absent_items(library, stages)
    corpora = {name: library.read("corpus", name) for name in missing(library, stages)}
    brought = {name: each for name, each in corpora.items() if not getattr(each.source, "generator", None)}
    known: set[Path] = set()
    if brought and workspace.DATA_FILE.is_file():
        with workspace.open_repo() as repo:
            known = raw_data.listed_data(repo) or set()
    lacking = {name: [path for path in _lacking(corpus) if not _holds(known, path)] for name, corpus in brought.items()}
    if told := [*(_absent(library, name, missed) for name, missed in lacking.items() if missed), *absent]:
        raise Refused("\n".join(told))


def _absent_items(library: Library, stages: list[Stage]) -> list[str]:
    """What is said of items of tasks that are not here; single files below a folder that is may be missing."""
    own = {stage.name: raw_paths(library.read("corpus", stage.name)) for stage in stages if stage.verb == "ingest"}
    return [
        f"The tasks of '{stage.name}' read {path}, which is not here. Put a folder for each task into it (the task's "
        f"YAML says which files), then record it: dvc add {path}. If data.dvc names it: dvc pull {path}"
        for stage in stages
        if stage.verb in ("evaluate", "ingest")
        for path in dict.fromkeys(Path(each) for each in stage.deps)
        if path.is_relative_to(paths.DATA) and path not in own.get(stage.name, ()) and not path.exists()
    ]


def _lacking(corpus: Corpus) -> list[Path]:
    """Paths of a corpus without data: an empty folder is none."""
    return [path for path in raw_paths(corpus) if not is_there(path, _format(corpus, path))]


def _format(corpus: Corpus, path: Path) -> str:
    """What a path must hold: tables, or in the folder of the files that they name, anything."""
    is_table = any(path == paths.DATA / each for each in corpus.source.paths)
    return corpus.source.format if is_table else ANY


def _holds(known: set[Path], path: Path) -> bool:
    """Whether a path, or anything below it, is among some files."""
    return any(path == each or path in each.parents for each in known)


def _absent(library: Library, name: str, lacking: list[Path]) -> str:
    endings = ", ".join(endings_of(library.read("corpus", name).source.format))
    empty = f"which holds no file that ends in {endings}"
    names = ", ".join(f"{path.as_posix()}, {empty if path.is_dir() else 'which is not here'}" for path in lacking)
    is_listed = library.read("corpus", name).source.download is not None
    return (
        f"Corpus '{name}' reads {names}. {library.path('corpus', name)} says where the data come from. Bring them: "
        f"hiraku collect {name}{'' if is_listed else ' --from FOLDER'}"
    )


def complete(library: Library, name: str, repo: Any, say: Say) -> None:
    """Bring the raw data of a corpus that is missing: from its generator, or from the DVC remote.

    Raises:
        Refused: neither has it; the message names the command that brings it.
    """
    corpus = library.read("corpus", name)
    generator = getattr(corpus.source, "generator", None)
    if generator:
        _generate(generator, name, say)
        return
    lacking = _lacking(corpus)
    if raw_data.pull(repo, lacking):
        say(f"Raw data of {name} came from the DVC remote.")
    if still := _lacking(corpus):
        raise Refused(_absent(library, name, still))


def complete_model(library: Library, name: str, repo: Any, say: Say) -> None:
    """Bring a model that is missing or was superseded: from the DVC remote, the Hub or the registry.

    Raises:
        Refused: none has it; as `components.fetching.fetch`.
        components.hub.Unfinished: the Hub does not answer.
    """
    source = library.read("recipe", name).source
    pulled = foreign.is_missing(source) and raw_data.pull(repo, [foreign.place_of(source)])
    if pulled and not foreign.is_missing(source) and not fetching.is_stale(source):
        say(f"The model of {name} came from the DVC remote.")
        return
    fetching.fetch(name, source, say)


def collect(name: str, source: Path | None, say: Say) -> None:
    """Bring the raw data of one corpus, or somebody else's model, under `data/` and record them in `data.dvc`.

    Args:
        name: the corpus, or a recipe that takes its model from a Hub or from the registry.
        source: a folder to copy from; None runs the generator of the corpus. Where the corpus names lists of addresses,
            these are copied, and what they name is then downloaded, as far as it is not there.
        say: receives what was done.

    Raises:
        Refused: no such corpus or folder, nothing in it, or `data.dvc` cannot be added to.
    """
    library = Library()
    if name in library.files["recipe"] and name not in library.files["corpus"]:
        _collect_model(library, name, source, say)
        return
    corpus = library.read("corpus", name)
    workspace.require_project()
    generator = getattr(corpus.source, "generator", None)
    targets = raw_paths(corpus)
    if not targets:
        raise Refused(f"Corpus '{name}' has no raw files of its own: its source is '{corpus.source.kind}'.")
    to_download = getattr(corpus.source, "download", None)
    if source is not None:
        copied = [paths.DATA / path for path in to_download.lists] if to_download else targets
        _copy(name, source, copied, endings_to_copy(corpus), say)
    if to_download:
        downloads.download(name, corpus.source, say)
    elif source is not None:
        pass
    elif generator:
        _generate(generator, name, say)
    elif still := _lacking(corpus):
        raise Refused(_absent(library, name, still))
    try:
        record(library, targets, say)
    except Busy as busy:
        raise Refused(f"{busy} When it has ended, run the same command again.") from busy
    events.corpus_landed(name, "".join(workspace.data_hashes().values()), events.PERSON)


def _collect_model(library: Library, name: str, source: Path | None, say: Say) -> None:
    recipe = library.read("recipe", name)
    workspace.require_project()
    if not isinstance(recipe, Foreign) or recipe.source.startswith("path:"):
        raise Refused(
            f"Recipe '{name}' takes no model from a Hub or from the registry, and corpora are what else is collected. "
            f"What it needs: hiraku release {name} says."
        )
    if source is not None:
        raise Refused(f"Recipe '{name}' takes its model from {recipe.source}; run it without --from.")
    try:
        place = fetching.fetch(name, recipe.source, say)
    except Unfinished as error:
        raise StageFailed(f"collect {name}: {error}") from None  # no cause: its words hold addresses in full
    try:
        record(library, [place], say)
    except Busy as busy:
        raise Refused(f"{busy} When it has ended, run the same command again.") from busy


def _generate(generator: str, name: str, say: Say) -> None:
    if generator not in GENERATORS:
        raise Refused(unknown_name("generator", generator, GENERATORS, f"Change source.generator of corpus '{name}'."))
    GENERATORS[generator](paths.DATA)
    say(f"Raw data of {name} were written by the generator '{generator}'.")


# ---- copying ---------------------------------------------------------------------------------------------------------


def endings_to_copy(corpus: Corpus) -> tuple[str, ...]:
    """How the names of a corpus's raw files may end: those of tables, or where these bring files along, anyhow."""
    return tuple(endings_of(ANY)) if corpus.source.files_field else KNOWN_ENDINGS


def _copy(name: str, source: Path, targets: list[Path], endings: tuple[str, ...], say: Say) -> None:
    """Copy files beside their place and rename them into it, so that a stopped copy leaves no half file."""
    if not source.is_dir():
        raise Refused(f"{source} is not a folder. Give the folder that holds the files of corpus '{name}'.")
    pairs = [pair for target in targets for pair in pairs_of(source, target, endings, is_only=len(targets) == 1)]
    if not pairs:
        expected = f": expected names that end in {', '.join(endings)}" if all(endings) else ""
        raise Refused(f"{source} holds no file for corpus '{name}'{expected}.")
    new = [pair for pair in pairs if not is_same(*pair)]
    needed = sum(origin.stat().st_size for origin, _ in new)
    paths.DATA.mkdir(exist_ok=True)
    free = shutil.disk_usage(paths.DATA).free
    if needed > free:
        raise Refused(
            f"{source} holds {needed:,} bytes for corpus '{name}', but the disk has {free:,} left. Free some."
        )
    for origin, place in new:
        if not copy_file(origin, place):
            raise Refused(f"{origin} changed while it was copied. Run the same command again when it is complete.")
    kept = {origin for origin, _ in pairs}
    left = [path.name for path in sorted(source.rglob("*")) if path.is_file() and path not in kept]
    say(f"{len(new)} files ({needed:,} bytes) were copied for corpus '{name}'.")
    if len(new) < len(pairs):
        say(f"{len(pairs) - len(new)} files are the same as those that are there.")
    if left:
        say(f"Left where they are, since nothing reads them: {one_line(', '.join(left))}")


def is_same(origin: Path, place: Path) -> bool:
    """Whether a file is at its place: by size and time, and by its bytes if only the time differs."""
    if not place.is_file():
        return False
    there, wanted = place.stat(), origin.stat()
    if there.st_size != wanted.st_size:
        return False
    return there.st_mtime_ns == wanted.st_mtime_ns or filecmp.cmp(origin, place, shallow=False)


def copy_file(origin: Path, place: Path) -> bool:
    """Copy a file beside its place and rename it into it; False, and nothing is left, if it changed meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}")
    try:
        before = origin.stat()
        shutil.copyfile(origin, partial)
        after = origin.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return False
        os.utime(partial, ns=(after.st_atime_ns, after.st_mtime_ns))  # by which a copy is known again
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
    return True


def pairs_of(source: Path, target: Path, endings: tuple[str, ...], is_only: bool) -> list[tuple[Path, Path]]:
    """(file of the source, its place) for one path of a corpus."""
    if target.name.endswith(KNOWN_ENDINGS):
        origin = source / target.name
        if not origin.is_file():
            raise Refused(f"{source} has no {target.name}, which the corpus reads as {target}.")
        return [(origin, target)]
    folder = source if is_only else source / target.name
    if not folder.is_dir():
        raise Refused(f"{source} has no folder {target.name}, which the corpus reads as {target}.")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(endings)]
    if not all(endings):  # of what may be called anything, hidden files are an editor's or a synchroniser's
        files = [path for path in files if not is_hidden(path, folder)]
    return [(path, target / path.relative_to(folder)) for path in files]


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path below a folder, or a folder on the way, begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


# ---- recording -------------------------------------------------------------------------------------------------------


def record(library: Library, targets: list[Path], say: Say) -> None:
    """Record paths in `data.dvc`, and nothing else of what lies under `data/`.

    Raises:
        Busy: another process holds DVC's lock, or a stage reads raw data.
        Refused: as `collect`.
    """
    with workspace.open_repo() as repo:
        if not workspace.DATA_FILE.is_file():
            workspace.DATA_FILE.write_text(EMPTY_DATA_FILE, encoding="utf-8")
        elif raw_data.listed_data(repo) is None:
            _restore_list(library, repo, say)
        raw_data.add(repo, targets)
    say(f"{workspace.DATA_FILE} records {', '.join(path.as_posix() for path in targets)}.")


def _restore_list(library: Library, repo: Any, say: Say) -> None:
    """Make again the list of files that `data.dvc` stands for, which neither cache nor remote has.

    A fresh clone is in this state: its `data.dvc` names what the generators write. So they write it, and if the hash
    is the same, that is the list. If not, adding to it would drop what it names, and that is refused.
    """
    before = workspace.DATA_FILE.read_text(encoding="utf-8")
    generated: dict[Path, str] = {}
    for name in library.files["corpus"]:
        corpus = library.read("corpus", name)
        generator = getattr(corpus.source, "generator", None)
        if generator in GENERATORS:
            generated.update(dict.fromkeys(raw_paths(corpus), generator))
    for generator in dict.fromkeys(generated.values()):
        _generate(generator, "the demo", say)
    workspace.DATA_FILE.write_text(EMPTY_DATA_FILE, encoding="utf-8")
    try:
        if generated:
            raw_data.add(repo, list(generated))
        is_same = _hash_lines(before) == _hash_lines(workspace.DATA_FILE.read_text(encoding="utf-8"))
    except BaseException:
        workspace.DATA_FILE.write_text(before, encoding="utf-8")
        raise
    if not is_same:
        workspace.DATA_FILE.write_text(before, encoding="utf-8")
        raise Refused(
            f"{workspace.DATA_FILE} names raw data whose list is neither in the DVC cache nor in its remote, so adding "
            "to it would lose them. Run: dvc pull data.dvc (with the remote they were pushed to), or start over with "
            f"what is here: rm {workspace.DATA_FILE}"
        )


def _hash_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "md5:" in line]
