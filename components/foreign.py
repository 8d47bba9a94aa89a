"""Somebody else's model: where its files lie, and how they come from a Hub at a pinned commit.

`path:<folder>` is a folder that a person brought. `hub:<organisation>/<name>@<commit>` is a commit of a repository,
fetched once below `data/` before any stage reads it, and an input like other raw data from then on.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components import hub, paths
from components.outcomes import Refused
from models.foreign import PICKLES

SOURCE_PATTERN = r"^(path:.+|hub:[\w.-]+/[\w.-]+@[0-9a-f]{40})$"
WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "LICENSE*")
"""Weights, configurations and tokenizers; whatever runs code when it is read stays on the Hub."""

Say = Callable[[str], None]


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


def pinned(source: str) -> Pinned | None:
    """The commit that a source names; None for a folder that a person brings."""
    found = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})", source)
    return Pinned(*found.groups()) if found else None


def place_of(source: str) -> Path:
    """The folder of a source, whether it is there yet or not."""
    found = pinned(source)
    return found.place if found else Path(source.removeprefix("path:"))


def is_missing(source: str) -> bool:
    """Whether a source has to be fetched from a Hub first."""
    found = pinned(source)
    return found is not None and not found.place.is_dir()


def require_reachable(name: str, source: str) -> None:
    """Refuse a model that has to be fetched while the Hub is switched off.

    Args:
        name: the recipe.
        source: its key `source`.

    Raises:
        Refused: as it says.
    """
    from huggingface_hub.constants import is_offline_mode

    if is_missing(source) and is_offline_mode():
        raise Refused(
            f"Recipe '{name}' takes its model from {source}, which is not at {place_of(source)} yet, and "
            f"HF_HUB_OFFLINE says that no Hub may be asked. Unset it and run: hiraku collect {name}; or copy that "
            "folder from a machine that has it."
        )


def fetch(name: str, source: str, say: Say) -> Path:
    """Have a pinned model here: ask the Hub for what has not arrived, compare it with the Hub's hashes, and name it.

    A fetch that was stopped goes on by file, and within a file by bytes.

    Args:
        name: the recipe, for messages.
        source: its key `source`.
        say: receives what was done.

    Returns:
        The folder.

    Raises:
        Refused: the Hub may not be asked, does not have it, or has only pickles; or the source is no commit of a Hub.
        components.hub.Unfinished: the Hub does not answer.
    """
    found = pinned(source)
    if found is None:
        raise Refused(f"Recipe '{name}' has 'source: {source}', a folder that you bring yourself; no Hub has it.")
    if found.place.is_dir():
        return found.place
    require_reachable(name, source)
    with hub.opened(found.repository, is_reading=True) as there:
        wanted = there.matching(found.commit, WANTED)
        if not any(path.endswith(".safetensors") for path in wanted):
            pickles = sorted(there.matching(found.commit, PICKLES))[:3]
            instead = f" but {', '.join(pickles)}" if pickles else ""
            raise Refused(
                f"{source} holds no safetensors{instead}: a pickle can run code when it is read. "
                "Name a commit that has them (its tab 'Community' often offers one), or convert "
                f"them on a machine you can lose and write 'source: path:FOLDER' into the recipe '{name}'."
            )
        num_bytes = sum(row.size for row in wanted.values())
        say(f"{found.repository} at {found.commit[:8]}: {len(wanted)} files, {num_bytes:,} bytes, from the Hub.")
        found.partial.mkdir(parents=True, exist_ok=True)
        _require_room(found.partial, num_bytes)
        there.download(found.commit, found.partial, sorted(wanted))
        if problems := there.differences(found.commit, hub.local_files(found.partial), set(wanted)):
            shutil.rmtree(found.partial)
            raise Refused(
                f"What the Hub sent of {source} is not what it says of it: {'; '.join(problems[:3])}. It was thrown "
                "away; run the same command again, and check HF_ENDPOINT if it stays so."
            )
    found.partial.rename(found.place)
    say(f"{found.place} holds it.")
    return found.place


def _require_room(folder: Path, num_bytes: int) -> None:
    needed = num_bytes - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Refused(f"{folder} needs {needed:,} bytes more, but the disk has {free:,} left. Free some.")
