"""The version that is published: a package as the registry keeps it, or as it lies here, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from components import hub, paths, registry, tracking
from components.decisions import PROMOTED_AT
from components.licences import require_releasable
from components.loadback import gap_between
from components.manifest import MANIFEST_NAME, read_manifest, tree_hash
from components.outcomes import Refused
from components.wording import one_line
from models import part_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Chosen:
    """The version that is published."""

    name: str
    recipe: Any
    version: str
    content_hash: str
    folder: Path
    """Its first layout: a repository is one folder that a library loads."""
    files: list[hub.LocalFile]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.num_bytes for file in self.files)

    @property
    def tag(self) -> str:
        """What names its commit on `main`."""
        return f"v{self.version}"

    def check(self, copy: Path) -> None:
        """Refuse a copy that has other bytes, does not load, or computes something else."""
        here = {file.path: file.sha256 for file in self.files}
        there = {file.path: file.sha256 for file in hub.local_files(copy)}
        if wrong := sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path)):
            raise Refused(f"What came back has other bytes in {', '.join(wrong)}")
        family = self.recipe.family
        probes = part_of(family, "release").probes(self.recipe.package.example_prompt)
        if gap := gap_between(family, probes, self.folder, copy):
            raise Refused(f"What came back computes something else than what was sent: {gap}")


@contextmanager
def opened_version(
    name: str, recipe: Any, version: str, files: Path | None = None, must_be_promoted: bool = False
) -> Iterator[Chosen]:
    """A version of a recipe's model with its files.

    Args:
        name: the recipe.
        recipe: its sections.
        version: a version of the registry, or an alias of one; empty for the one that the package here is.
        files: those of the version, compared with its content hash already; else the registry is asked for them.
        must_be_promoted: whether a version that never was the champion is refused.

    Raises:
        Refused: there is no such version, its files are not what was registered, the registry does not answer, or
            nobody has approved it.
    """
    with ExitStack() as stack:
        if version:
            found = _asked(name, lambda: registry.read_version(name, version))
            if found is None:
                known = ", ".join(row.version for row in _asked(name, lambda: registry.versions(name))) or "none"
                raise Refused(
                    f"The registry has no version '{version}' of '{name}'. There are: {known}. Name one of them, or "
                    f"run: hiraku register {name}"
                )
            _require_promoted(found, must_be_promoted)
            folder = files or _as_registered(found, stack)
        else:
            folder, found = paths.state("package", name), _version_here(name)
            _require_promoted(found, must_be_promoted)
        layout = folder / recipe.package.layouts[0]
        if not (local := hub.local_files(layout)):
            raise Refused(
                f"Version {found.version} of '{name}' has no layout '{layout.name}', which the recipe names first, so "
                f"nothing can be published. Run: hiraku package {name}, then hiraku register {name}"
            )
        require_releasable(name, layout)
        yield Chosen(name, recipe, found.version, found.content_hash, layout, local)


def _require_promoted(version: registry.Version, must_be: bool) -> None:
    if must_be and PROMOTED_AT not in version.tags:
        raise Refused(
            f"Version {version.version} of '{version.model}' was never promoted, expected one that was: the recipe "
            f"asks for a person's approval (promote.approval). Nothing was sent. Run: hiraku promote {version.model} "
            f"--version {version.version}, which asks and publishes; or publish it all the same: --unapproved"
        )


def _as_registered(version: registry.Version, stack: ExitStack) -> Path:
    folder = _asked(version.model, lambda: stack.enter_context(registry.fetched(version)))
    if (digest := tree_hash(folder, without=MANIFEST_NAME)) != version.content_hash:
        raise Refused(
            f"The files of version {version.version} of '{version.model}' in the registry have the content "
            f"{digest[:12]}, expected {version.content_hash[:12]}: they were changed after they were registered. "
            f"Nothing was sent. Package and register it again: hiraku release {version.model}"
        )
    return folder


def _version_here(name: str) -> registry.Version:
    """The version of the registry that the package here is; what goes out must be what its load-back has seen."""
    manifest, folder = read_manifest("package", name), paths.state("package", name)
    digest = tree_hash(folder, without=MANIFEST_NAME)
    if digest != manifest.payload_hash:
        raise Refused(
            f"{folder} has the content {digest[:12]}, but its manifest says {manifest.payload_hash[:12]}: it was "
            f"changed after it was made and verified. Run: hiraku package {name}"
        )
    found = _asked(name, lambda: registry.find_version(name, digest))
    if found is None:
        raise Refused(
            f"The package of '{name}' with the content {digest[:12]} is no version in the registry, expected one, "
            f"since only versions are published. Run: hiraku register {name}"
        )
    return found


def _asked(name: str, question: Callable[[], Result]) -> Result:
    """What the registry answers."""
    try:
        tracking.require_server()
        with tracking.silence_told(Refused, "registry"):
            return question()
    except Refused as error:
        raise Refused(
            f"Only versions of the registry are published, and it does not answer for '{name}': "
            f"{one_line(error, 400).rstrip('.')}. Nothing was sent. Start it (mlflow/README.md) and run again."
        ) from None  # its cause may hold a password
