"""The model registry: versions of packaged folders, their aliases, and what was decided of them.

`components.tracking` connects to it; a version's files lie with the run that registered it.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.outcomes import Refused
from components.tracking import MAX_VALUE_CHARS, client, tag_key, troubles

CHALLENGER = "challenger"
"""Alias of the version that was registered last."""
CHAMPION = "champion"
"""Alias of the version that was promoted last."""
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
UPLOAD_SECONDS = 600
"""How long a server may take to store one file of a model before it answers; the timeout of other requests is short."""
FILES = "model"
"""Folder of a version's files among the artifacts of its run."""
MAX_DESCRIPTION_CHARS = 5000
"""Width of the column in MLflow's database."""
SCORES = "scores"
"""Folder of a version's scores, as `components.scoring` writes them, among the artifacts of its run."""
DATA_LICENCES = "data_licences"
"""Tag of a version: the licences of all that it was made from, as a JSON list."""


@dataclass(frozen=True)
class Version:
    """One version of a model in the registry."""

    model: str
    version: str
    content_hash: str
    run_id: str
    source: str
    tags: dict[str, str] = field(default_factory=dict, compare=False)


def find_version(model: str, content_hash: str) -> Version | None:
    """The newest version with this content; the registry is asked, not a receipt."""
    return next((row for row in versions(model) if row.content_hash == content_hash), None)


def versions(model: str) -> list[Version]:
    """Every version of a model that can be read, newest first; none if the model is unknown."""
    quoted = model.replace("'", "''")
    found = client().search_model_versions(f"name = '{quoted}'")
    ready = [row for row in found if row.status == "READY"]
    return [_version(row) for row in sorted(ready, key=lambda row: int(row.version), reverse=True)]


def aliases(model: str) -> dict[str, str]:
    """Alias -> version; empty if the model is unknown."""
    quoted = model.replace("'", "''")
    found = client().search_registered_models(f"name = '{quoted}'")
    return {alias: str(version) for row in found for alias, version in row.aliases.items()}


def read_version(model: str, version: str) -> Version | None:
    """A version by its number or by an alias; None if there is none."""
    number = aliases(model).get(version, version)
    return next((row for row in versions(model) if row.version == number), None)


@contextlib.contextmanager
def fetched(version: Version) -> Iterator[Path]:
    """The files of a version in a temporary folder: a package as `components.paths.state` holds one, by layouts.

    Raises:
        Refused: the disk of temporary files has no room for them.
    """
    with tempfile.TemporaryDirectory() as temporary, _patience():
        needed, free = _num_bytes(version.run_id, FILES), shutil.disk_usage(temporary).free
        if needed > free:
            raise Refused(
                f"Version {version.version} of '{version.model}' has {needed:,} bytes, and {tempfile.gettempdir()} has "
                f"room for {free:,}. Free some there, or name another place: export TMPDIR=FOLDER"
            )
        yield Path(client().download_artifacts(version.run_id, FILES, temporary))


def _num_bytes(run_id: str, path: str) -> int:
    """Of all files of a folder among a run's artifacts."""
    rows = client().list_artifacts(run_id, path)
    return sum(_num_bytes(run_id, row.path) if row.is_dir else int(row.file_size or 0) for row in rows)


def add_version(model: str, run_id: str, folder: Path, tags: dict[str, str]) -> Version:
    """Keep a folder with a run, then name it as the next version; a kill in between leaves no version.

    Keeping takes minutes: a version of the same content hash that somebody has made meanwhile is returned instead.
    """
    with _patience():
        client().log_artifacts(run_id, str(folder), FILES)
    if (digest := tags.get("content_hash", "")) and (found := find_version(model, digest)):
        return found
    with contextlib.suppress(*troubles()):  # it exists; if the server is silent, the next call says so
        client().create_registered_model(model)
    source = f"{client().get_run(run_id).info.artifact_uri}/{FILES}"
    kept = {tag_key(key): value for key, value in tags.items()}
    return _version(client().create_model_version(model, source, run_id=run_id, tags=kept), kept)


def keep(run_id: str, folder: Path, name: str) -> None:
    """Keep a folder of a few small files with a version's run, beside the version's own; what is there is replaced."""
    with _patience():
        client().log_artifacts(run_id, str(folder), name)


@contextlib.contextmanager
def kept(version: Version, name: str) -> Iterator[Path | None]:
    """What `keep` stored, in a temporary folder; None if nothing was."""
    if not client().list_artifacts(version.run_id, name):
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary, _patience():
        yield Path(client().download_artifacts(version.run_id, name, temporary))


def set_alias(model: str, alias: str, version: str) -> None:
    """Point an alias of a model at a version."""
    if aliases(model).get(alias) != version:
        client().set_registered_model_alias(model, alias, version)


def remove_alias(model: str, alias: str) -> None:
    """Have an alias point at nothing."""
    client().delete_registered_model_alias(model, alias)


def tag_version(version: Version, key: str, value: str) -> None:
    """Tag a version; a value longer than MLflow takes is cut."""
    client().set_model_version_tag(version.model, version.version, tag_key(key), value[:MAX_VALUE_CHARS])


def remove_tag(version: Version, key: str) -> None:
    """Take a tag from a version."""
    client().delete_model_version_tag(version.model, version.version, tag_key(key))


def model_tags(model: str) -> dict[str, str]:
    """The tags of a model as a whole; none if it is unknown."""
    quoted = model.replace("'", "''")
    found = client().search_registered_models(f"name = '{quoted}'")
    return {key: value for row in found for key, value in row.tags.items()}


def tag_model(model: str, key: str, value: str) -> None:
    """Tag a model as a whole; a value longer than MLflow takes is cut."""
    client().set_registered_model_tag(model, tag_key(key), value[:MAX_VALUE_CHARS])


def remove_model_tag(model: str, key: str) -> None:
    """Take a tag from a model, if it has it."""
    if tag_key(key) in model_tags(model):
        client().delete_registered_model_tag(model, tag_key(key))


def describe_version(version: Version, text: str) -> None:
    """What MLflow's page shows of a version, as Markdown; what is too long for its database is cut."""
    client().update_model_version(version.model, version.version, text[:MAX_DESCRIPTION_CHARS])


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Requests may take long meanwhile: a server answers an upload when it has stored the file."""
    usual = os.environ.get(TIMEOUT, "")
    os.environ[TIMEOUT] = str(max(UPLOAD_SECONDS, int(usual or 0)))
    try:
        yield
    finally:
        if usual:
            os.environ[TIMEOUT] = usual
        else:
            del os.environ[TIMEOUT]


def _version(row: Any, tags: dict[str, str] | None = None) -> Version:
    known = dict(tags or row.tags or {})
    digest = known.get("content_hash", "")
    return Version(row.name, str(row.version), digest, row.run_id or "", row.source or "", known)
