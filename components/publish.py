"""`publish`: the package of a recipe becomes a repository on a Hugging Face Hub, read back and verified.

Not a DVC stage: it acts on a server. The server is asked what it has before anything is sent, so running it again
changes nothing; the receipt is a copy of its answer. Only a version of the registry goes out, and what somebody else
has put into a repository stays. Without a token nothing is sent: it says what would be.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import paths, registry, tracking
from components.manifest import MANIFEST_NAME, Manifest, file_hash, read_manifest, tree_hash
from components.outcomes import Refused
from components.recipes import Foreign, Library
from components.wording import one_line, shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

OWN_FILES = frozenset({".gitattributes"})
"""What a Hub puts into a repository by itself."""

TRANSIENT = frozenset({408, 425, 429})
"""Answers to a client that ask it to come again: timeout, too early, too many requests."""

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
    """Publish a recipe's package.

    A repository on a Hub is one folder that a library loads, so it holds one layout: the first of `package.layouts`.

    Args:
        name: the recipe; its `publish.repository` says where.
        say: receives what was or would be done.

    Returns:
        The receipt, also left at `artifacts/published/<recipe>.json`; without HF_TOKEN the plan, and nothing is left.

    Raises:
        Refused: the recipe names no repository, there is no package or another one than its manifest says, it is no
            version of a registry that answers, the repository holds what somebody else has put there, or the Hub does
            not accept it or returns it otherwise.
        httpx2.HTTPError, OSError: the Hub does not answer, or fails; trying again may help.
    """
    recipe = Library().read("recipe", name)
    if isinstance(recipe, Foreign):
        raise Refused(
            f"Recipe '{name}' is somebody else's model, taken from {recipe.source}, expected one of our own: it stays "
            "where its makers publish it. Name a recipe with a section 'publish'."
        )
    section = recipe.publish
    if section is None:
        raise Refused(f"Recipe '{name}' names no place to publish. Add: publish: {{repository: ORGANISATION/{name}}}")
    manifest = read_manifest("package", name)
    _check_untouched(name, manifest)
    folder = paths.layout(name, recipe.package.layouts[0])
    files = local_files(folder)
    if not files:
        raise Refused(
            f"The package of '{name}' has the layouts {manifest.details.get('layouts', [])}, expected "
            f"'{recipe.package.layouts[0]}' among them. Run: hiraku package {name}"
        )
    plan = {"repository": section.repository, "folder": folder.as_posix(), "content_hash": manifest.payload_hash}
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        _tell_plan(section.repository, folder, files, say)
        return {**plan, "is_published": False}
    version = _require_version(name, manifest, say)
    commit, is_new = _upload(section, folder, files, token, name)
    receipt = {**plan, "version": version, "commit": commit, "files": {file.path: file.sha256 for file in files}}
    place = paths.receipt("publish", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(place)
    say(f"{section.repository} holds {len(files)} files at commit {commit}, read back and verified.")
    return {**receipt, "is_published": True, "is_new": is_new}


def _check_untouched(name: str, manifest: Manifest) -> None:
    """What goes out must be what the load-back has seen."""
    folder = paths.state("package", name)
    digest = tree_hash(folder, without=MANIFEST_NAME)
    if digest != manifest.payload_hash:
        raise Refused(
            f"{folder} has the content {digest[:12]}, but its manifest says {manifest.payload_hash[:12]}: it was "
            f"changed after it was made and verified. Run: hiraku package {name}"
        )


def _require_version(name: str, manifest: Manifest, say: Say) -> str:
    """The version of the registry that a package is; empty if the registry does not answer."""
    silence: tuple[type[Exception], ...] = (Refused, *tracking.troubles())
    try:
        tracking.require_server()
        found = registry.find_version(name, manifest.payload_hash)
    except silence as error:
        say(f"Whether '{name}' is registered is unknown, since the registry does not answer: {one_line(shown(error))}")
        return ""
    if found is None:
        raise Refused(
            f"The package of '{name}' with the content {manifest.payload_hash[:12]} is no version in the registry, "
            f"expected one, since only versions are published. Run: hiraku register {name}"
        )
    return found.version


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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    hub = f"The Hub at {shown(api.endpoint)}"
    advice = "Check HF_TOKEN (it must be able to write), HF_ENDPOINT, HF_HUB_OFFLINE, publish.repository; run again."
    wrong_settings = (HFValidationError, OfflineModeIsEnabled, httpx2.UnsupportedProtocol, httpx2.InvalidURL)
    try:
        commit, is_new = _bring(api, section, folder, files, f"hiraku publish {name}")
        problems = _differences(api, section.repository, commit, files) if is_new else []
    except Refused:
        raise
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        is_final = 400 <= status < 500 and status not in TRANSIENT
        if is_final or isinstance(error, wrong_settings):
            words = one_line(shown(error), 400)
            raise Refused(f"{hub} did not take {section.repository}: {words}. {advice}") from error
        error.add_note(f"{hub} does not answer as it should. {advice}")
        raise
    if problems:
        raise Refused(f"{section.repository} at {commit} is not what was sent: {'; '.join(problems)}. Run again.")
    return commit, is_new


def _bring(api: "HfApi", section: Any, folder: Path, files: list[LocalFile], message: str) -> tuple[str, bool]:
    """Create the repository and commit the files, each only if it has to be.

    The message is also what tells our commits from those of others: a receipt is lost with its folder.
    """
    api.create_repo(section.repository, private=section.private, exist_ok=True)
    head = api.repo_info(section.repository).sha or ""
    if head and not _differences(api, section.repository, head, files):
        return head, False
    if head and (there := _files_at(api, section.repository, head)):
        newest = api.list_repo_commits(section.repository, revision=head)[0].title
        if newest.partition(" (part ")[0] != message:  # a large folder goes up in several commits
            raise Refused(
                f"{section.repository} has {len(there)} files, and its newest commit is '{one_line(newest, 80)}', "
                f"expected an empty repository or '{message}': publishing would delete what others have put there. "
                "Move it elsewhere and delete its files on the Hub, or name another place under publish.repository."
            )
    done = api.upload_folder(
        repo_id=section.repository,
        folder_path=folder,
        commit_message=message,
        delete_patterns="*",  # what an older version had and this one has not
        parent_commit=head or None,  # what has been looked at; the Hub refuses if it has changed since
    )
    return str(done.oid), True


def _files_at(api: "HfApi", repository: str, commit: str) -> dict[str, "RepoFile"]:
    """The files of a commit by path, without those of the Hub itself."""
    from huggingface_hub.hf_api import RepoFile

    rows = api.list_repo_tree(repository, revision=commit, recursive=True)
    return {row.path: row for row in rows if isinstance(row, RepoFile) and row.path not in OWN_FILES}


def _differences(api: "HfApi", repository: str, commit: str, files: list[LocalFile]) -> list[str]:
    """In what a commit differs from local files, one phrase each; empty if it holds exactly them."""
    there = _files_at(api, repository, commit)
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
