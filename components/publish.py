"""`publish`: the package of a recipe becomes a repository on a Hugging Face Hub, read back and verified.

Not a DVC stage: it acts on a server. The server is asked what it has before anything is sent, so running it again
changes nothing; the receipt is a copy of its answer. Without a token nothing is sent: it says what would be.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import paths
from components.manifest import file_hash, read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.wording import one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REVISION = 1
OWN_FILES = frozenset({".gitattributes"})
"""What a Hub puts into a repository by itself."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class LocalFile:
    """One file of a package, with the two names a Hub knows its content by."""

    path: str
    num_bytes: int
    sha256: str
    """What the Hub says of a large file."""
    git_oid: str
    """SHA-1 of git's blob: what the Hub says of a small file."""


def local_files(folder: Path) -> list[LocalFile]:
    """Every file of a package, by name."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        num_bytes = path.stat().st_size
        digest = hashlib.sha1(f"blob {num_bytes}\0".encode(), usedforsecurity=False)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        name = path.relative_to(folder).as_posix()
        found.append(LocalFile(name, num_bytes, file_hash(path), digest.hexdigest()))
    return found


def publish(name: str, say: Say = print) -> dict[str, Any]:
    """Publish the first layout of a recipe's package.

    Args:
        name: the recipe; its `publish.repository` says where.
        say: receives what was or would be done.

    Returns:
        The receipt, also left at `artifacts/published/<recipe>.json`; without HF_TOKEN the plan, and nothing is left.

    Raises:
        Refused: the recipe names no repository, there is no package, or the Hub does not accept or return it.
    """
    recipe = Library().read("recipe", name)
    section = getattr(recipe, "publish", None)
    if section is None:
        raise Refused(f"Recipe '{name}' names no place to publish. Add: publish: {{repository: ORGANISATION/{name}}}")
    manifest = read_manifest("package", name)
    folder = paths.layout(name, recipe.package.layouts[0])
    files = local_files(folder)
    if not files:
        raise Refused(f"{folder} has no files. Run: hiraku package {name}")
    plan = {"repository": section.repository, "folder": folder.as_posix(), "content_hash": manifest.payload_hash}
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        _tell_plan(section.repository, folder, files, say)
        return {**plan, "is_published": False}
    commit, is_new = _upload(section, folder, files, token, name)
    receipt = {**plan, "commit": commit, "files": {file.path: file.sha256 for file in files}}
    place = paths.receipt("publish", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(place)
    say(f"{section.repository} holds {len(files)} files at commit {commit}, read back and verified.")
    return {**receipt, "is_published": True, "is_new": is_new}


def _tell_plan(repository: str, folder: Path, files: list[LocalFile], say: Say) -> None:
    total = sum(file.num_bytes for file in files)
    say(f"There is no HF_TOKEN, so nothing was sent. {len(files)} files, {total:,} bytes, would go to {repository}:")
    for file in files:
        say(f"  {file.num_bytes:>14,}  {file.path}")
    say(f"The folder is {folder}. To publish it, set HF_TOKEN (and HF_ENDPOINT for a Hub of your own) and run again.")


def _upload(section: Any, folder: Path, files: list[LocalFile], token: str, name: str) -> tuple[str, bool]:
    """Bring the repository to exactly these files; return the commit and whether it is a new one."""
    if os.environ.get("HF_ENDPOINT"):
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # a Hub without a Xet server fails hard otherwise
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    try:
        api.create_repo(section.repository, private=section.private, exist_ok=True)
        head = api.repo_info(section.repository).sha or ""
        if head and not _differences(api, section.repository, head, files):
            return head, False
        done = api.upload_folder(
            repo_id=section.repository,
            folder_path=folder,
            commit_message=f"hiraku publish {name}",
            delete_patterns="*",  # what an older version had and this one has not
        )
        commit = str(done.oid)
        problems = _differences(api, section.repository, commit, files)
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise Refused(
            f"The Hub at {api.endpoint} did not take {section.repository}: {one_line(error, 400)}. "
            "Check HF_TOKEN (it needs write access), HF_ENDPOINT and publish.repository, then run again."
        ) from error
    if problems:
        raise Refused(f"{section.repository} at {commit} is not what was sent: {'; '.join(problems)}. Run again.")
    return commit, True


def _differences(api: "HfApi", repository: str, commit: str, files: list[LocalFile]) -> list[str]:
    """In what a commit differs from local files, one phrase each; empty if it holds exactly them."""
    from huggingface_hub.hf_api import RepoFile

    there = {
        row.path: row
        for row in api.list_repo_tree(repository, revision=commit, recursive=True)
        if isinstance(row, RepoFile) and row.path not in OWN_FILES
    }
    problems = [f"{path} is there and should not be" for path in sorted(there.keys() - {file.path for file in files})]
    for file in files:
        row = there.get(file.path)
        if row is None:
            problems.append(f"{file.path} is missing")
        elif row.size != file.num_bytes or not _is_same(row, file):
            problems.append(f"{file.path} has other bytes")
    return problems


def _is_same(row: Any, file: LocalFile) -> bool:
    return bool(row.lfs.sha256 == file.sha256 if row.lfs else row.blob_id == file.git_oid)
