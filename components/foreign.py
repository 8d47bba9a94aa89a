"""A model that is taken and not trained: where its files lie.

`path:<folder>` is a folder that a person brought. `hub:<organisation>/<name>@<commit>` is a commit of a repository,
and `registry:<model>@<version>` a version that was registered, by its number or by an alias such as `champion`. Both
are fetched below `data/` before any stage reads them (`components.fetching`), and are inputs like other raw data from
then on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from components import paths

SOURCE_PATTERN = r"^(path:.+|hub:[\w.-]+/[\w.-]+@[0-9a-f]{40}|registry:[\w.-]+@[\w-]+)$"


@dataclass(frozen=True)
class Pinned:
    """A commit of a repository on a Hub."""

    repository: str
    commit: str

    @property
    def place(self) -> Path:
        """Its folder here; complete if it is there at all."""
        return paths.hub_model(self.repository, self.commit)

    @property
    def partial(self) -> Path:
        """What has arrived so far; DVC ignores its name."""
        return self.place.with_name(f".{self.commit}.partial-hub")


@dataclass(frozen=True)
class Registered:
    """A version of a model in the registry."""

    model: str
    version: str
    """Its number, or an alias."""

    @property
    def place(self) -> Path:
        """Its folder here, a package by layouts; complete if it is there at all."""
        return paths.registered_model(self.model, self.version)


def pinned(source: str) -> Pinned | None:
    """The commit that a source names; None for one of another kind."""
    found = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})", source)
    return Pinned(*found.groups()) if found else None


def registered(source: str) -> Registered | None:
    """The version of the registry that a source names; None for one of another kind."""
    found = re.fullmatch(r"registry:([\w.-]+)@([\w-]+)", source)
    return Registered(*found.groups()) if found else None


def place_of(source: str) -> Path:
    """The folder of a source, whether it is there yet or not."""
    found = pinned(source) or registered(source)
    return found.place if found else Path(source.removeprefix("path:"))


def files_of(source: str, layout: str) -> Path:
    """The folder below a source's place that holds the model in a layout."""
    return place_of(source) / layout if registered(source) else place_of(source)


def is_missing(source: str) -> bool:
    """Whether a source has to be fetched first."""
    return not source.startswith("path:") and not place_of(source).is_dir()
