"""How a model that is taken and not trained comes here: a pinned commit from a Hub, a version from the registry.

What an alias such as `champion` names is asked anew by each flow, before it looks at what is stale.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from components import hub, registry, tracking
from components.foreign import Pinned, Registered, is_missing, pinned, place_of, registered
from components.manifest import MANIFEST_NAME, tree_hash
from components.outcomes import Refused
from models.foreign import PICKLES

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "LICENSE*")
"""Weights, configurations and tokenizers; whatever runs code when it is read stays on the Hub."""

Say = Callable[[str], None]


def version_of(wanted: Registered) -> registry.Version:
    """What the registry says today.

    Raises:
        Refused: it does not answer, or has no such version.
    """
    tracking.require_server()
    with tracking.silence_told(lambda silence: Refused(f"{silence}. Start it again: mlflow/README.md.")):
        found = registry.read_version(wanted.model, wanted.version)
        if found is None:
            known = [*registry.aliases(wanted.model), *(row.version for row in registry.versions(wanted.model))]
            there = f"There are: {', '.join(known)}." if known else f"It has none: hiraku release {wanted.model}"
            raise Refused(f"The registry has no version '{wanted.version}' of '{wanted.model}'. {there}")
    return found


def is_stale(source: str) -> bool:
    """Whether a source names a version of the registry that is not the one here; asks the registry.

    Raises:
        Refused: as `version_of`.
    """
    found = registered(source)
    return found is not None and _content(found.place) != version_of(found).content_hash


def require_reachable(name: str, source: str) -> None:
    """Refuse a version that the registry does not have, or a model to be fetched while the Hub is switched off.

    Args:
        name: the recipe.
        source: its key `source`.

    Raises:
        Refused: as it says.
    """
    from huggingface_hub.constants import is_offline_mode

    if (version := registered(source)) is not None:
        version_of(version)
    elif is_missing(source) and is_offline_mode():
        raise Refused(
            f"Recipe '{name}' takes its model from {source}, which is not at {place_of(source)} yet, and "
            f"HF_HUB_OFFLINE says that no Hub may be asked. Unset it and run: hiraku collect {name}; or copy that "
            "folder from a machine that has it."
        )


def fetch(name: str, source: str, say: Say) -> Path:
    """Have somebody else's model here, or a version of our own.

    Args:
        name: the recipe, for messages.
        source: its key `source`.
        say: receives what was done.

    Returns:
        The folder.

    Raises:
        Refused: the Hub may not be asked, does not have it, or has only pickles; the registry does not have it; or a
            person has to bring the source.
        components.hub.Unfinished: the Hub does not answer.
    """
    if (version := registered(source)) is not None:
        return _fetch_version(version, say)
    if (commit := pinned(source)) is not None:
        return _fetch_commit(name, source, commit, say)
    raise Refused(f"Recipe '{name}' has 'source: {source}', a folder that you bring yourself; nothing else has it.")


def _fetch_version(wanted: Registered, say: Say) -> Path:
    """Have a version of the registry here; one that is here already stays."""
    found = version_of(wanted)
    if _content(wanted.place) == found.content_hash:
        return wanted.place
    partial = wanted.place.with_name(f".{wanted.place.name}.partial-{os.getpid()}")
    with registry.fetched(found) as folder:
        got = tree_hash(folder, without=MANIFEST_NAME)
        if got != found.content_hash:
            raise Refused(
                f"Version {found.version} of '{wanted.model}' holds {got[:12]} in the registry, and "
                f"{found.content_hash[:12]} was registered: its files were changed. Register it again: hiraku release "
                f"{wanted.model}"
            )
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(folder, partial)
            shutil.rmtree(wanted.place, ignore_errors=True)
            partial.rename(wanted.place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    say(f"{wanted.place} holds version {found.version} of {wanted.model}, from the registry.")
    return wanted.place


def _content(place: Path) -> str:
    """The content hash of a package that was fetched; empty if none was."""
    manifest = place / MANIFEST_NAME
    return str(json.loads(manifest.read_text(encoding="utf-8"))["payload_hash"]) if manifest.is_file() else ""


def _fetch_commit(name: str, source: str, found: Pinned, say: Say) -> Path:
    """Ask the Hub for what has not arrived of a commit, compare it with the Hub's hashes, and name it.

    A fetch that was stopped goes on by file, and within a file by bytes.
    """
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
