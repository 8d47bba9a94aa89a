"""One repository on a Hugging Face Hub: what it holds, and the few ways in which we change it.

Commits are only ever added: nothing here forces, squashes or deletes history. Every change names the commit it is made
on, so the Hub refuses it (412) when somebody else was faster.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.outcomes import Refused
from components.progress import shows_bar
from components.wording import DISK, one_line, shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

MAIN = "main"
CANDIDATE = "candidate"
"""Branch on which a version is read back and loaded before `main` gets it."""
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable
OWN_FILES = frozenset({".gitattributes"})
"""What a Hub puts into a repository by itself."""
TRANSIENT = frozenset({408, 425, 429})
"""Answers to a client that ask it to come again: timeout, too early, too many requests."""
UNTOLD = frozenset({404, 429, 501})
"""Answers of a Hub that does not tell whose a token is, or not now: it limits how often it is asked."""
NOTHING_SENT = "Nothing was sent"


class Unfinished(ConnectionError):
    """The Hub failed to answer. Trying again goes on from what has arrived; the message says what is true."""


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
    """Every file of a folder, by name."""
    return [local_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def local_file(path: Path, folder: Path) -> LocalFile:
    """A file of a folder; both hashes in one reading: a model is gigabytes."""
    num_bytes = path.stat().st_size
    of_git = hashlib.sha1(f"blob {num_bytes}\0".encode(), usedforsecurity=False)
    of_bytes = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            of_git.update(block)
            of_bytes.update(block)
    return LocalFile(path.relative_to(folder).as_posix(), num_bytes, of_bytes.hexdigest(), of_git.hexdigest())


@dataclass
class Repository:
    """One repository, opened by `opened`."""

    name: str
    api: "HfApi"
    kind: str = "model"
    """Or `dataset`."""
    truth: str = NOTHING_SENT
    """What holds now, in words that begin a sentence; errors end with it."""

    # ---- what is there -----------------------------------------------------------------------------------------------

    def is_private(self) -> bool:
        """Whether only those who may see it do."""
        return bool(self.api.repo_info(self.name).private)

    def bar_to_writing(self) -> str:
        """What keeps the owner of the token from writing here, as far as the Hub tells; empty if nothing does."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            owner = self.api.whoami()
        except HfHubHTTPError as error:
            if _status(error) in UNTOLD:
                return ""
            raise
        return bar_of(owner, self.name)

    def branches(self) -> dict[str, str]:
        """Branch -> newest commit."""
        return {each.name: each.target_commit for each in self.api.list_repo_refs(self.name).branches}

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        return {each.name: each.target_commit for each in self.api.list_repo_refs(self.name).tags}

    def title(self, commit: str) -> str:
        """The first line of a commit's message."""
        return str(self.api.list_repo_commits(self.name, revision=commit)[0].title)

    def files(self, commit: str) -> dict[str, "RepoFile"]:
        """The files of a commit by path, without those of the Hub itself."""
        from huggingface_hub.hf_api import RepoFile

        rows = self.api.list_repo_tree(self.name, revision=commit, recursive=True, repo_type=self.kind)
        return {row.path: row for row in rows if isinstance(row, RepoFile) and row.path not in OWN_FILES}

    def matching(self, commit: str, patterns: tuple[str, ...]) -> dict[str, "RepoFile"]:
        """The files of a commit whose paths one of some patterns of a shell matches."""
        return {path: row for path, row in self.files(commit).items() if any(fnmatch(path, each) for each in patterns)}

    def differences(self, commit: str, files: list[LocalFile], only: set[str] | None = None) -> list[str]:
        """In what a commit, or `only` some of its files, differs from local files, one phrase each; or nothing."""
        there = {path: row for path, row in self.files(commit).items() if only is None or path in only}
        problems = [
            f"{path} is there and should not be" for path in sorted(there.keys() - {file.path for file in files})
        ]
        for file in files:
            row = there.get(file.path)
            if row is None:
                problems.append(f"{file.path} is missing")
            elif row.size != file.num_bytes or not is_same(row, file):
                problems.append(f"{file.path} has other bytes")
        return problems

    def is_like(self, commit: str, other: str) -> bool:
        """Whether two commits hold the same files, by the Hub's own hashes."""
        one, two = ({path: _hash_of(row) for path, row in self.files(each).items()} for each in (commit, other))
        return one == two

    def download(self, commit: str, folder: Path, only: list[str] | None = None) -> None:
        """The files of a commit, or `only` some, as the Hub serves them; into a folder that holds a part, the rest."""
        wanted = None if only is None else [escape(path) for path in only]
        self.api.snapshot_download(
            self.name,
            revision=commit,
            local_dir=folder,
            allow_patterns=wanted,
            ignore_patterns=sorted(OWN_FILES),
            repo_type=self.kind,
        )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the library notes of its download

    # ---- changes -----------------------------------------------------------------------------------------------------

    def create(self, is_private: bool) -> None:
        """Have the repository there; one that exists keeps who may see it."""
        if not self.api.repo_exists(self.name):
            self.api.create_repo(self.name, private=is_private, exist_ok=True)

    def send(self, folder: Path, files: list[LocalFile], branch: str, parent: str, title: str, text: str) -> str:
        """Commit local files to a branch, so that it holds exactly them; return the commit.

        One commit whatever the number of files (`upload_folder` makes several of a large folder). Large files go first,
        and those that the Hub has are not sent again, so an upload that was cut goes on where it ended: by file, or by
        chunk on a Hub with Xet.
        """
        from huggingface_hub import CommitOperationAdd

        added = [CommitOperationAdd(file.path, folder / file.path) for file in files]
        return self._commit(branch, parent, title, text, added)

    def bring(self, source: str, branch: str, parent: str, title: str, text: str) -> str:
        """Commit the files of another commit to a branch, so that it holds exactly them; large ones stay on the Hub."""
        from huggingface_hub import CommitOperationCopy

        copied = [CommitOperationCopy(path, path, src_revision=source) for path in sorted(self.files(source))]
        return self._commit(branch, parent, title, text, copied)

    def _commit(self, branch: str, parent: str, title: str, text: str, wanted: list[Any]) -> str:
        from huggingface_hub import CommitOperationDelete

        strays = sorted(self.files(parent).keys() - {each.path_in_repo for each in wanted})
        operations = [*wanted, *(CommitOperationDelete(path, is_folder=False) for path in strays)]
        done = self.api.create_commit(
            self.name,
            operations,
            commit_message=title,
            commit_description=text,
            revision=branch,
            parent_commit=parent,
        )
        return str(done.oid)

    def branch(self, name: str, commit: str) -> None:
        """A branch that begins at a commit; one that exists stays."""
        self.api.create_branch(self.name, branch=name, revision=commit, exist_ok=True)

    def tag(self, name: str, commit: str) -> None:
        """Name a commit."""
        self.api.create_tag(self.name, tag=name, revision=commit)


def is_same(row: Any, file: LocalFile) -> bool:
    """Whether a local file has the hash that the Hub says."""
    return bool(row.lfs.sha256 == file.sha256 if row.lfs else row.blob_id == file.git_oid)


def _hash_of(row: Any) -> str:
    return str(row.lfs.sha256 if row.lfs else row.blob_id)


def bar_of(owner: dict[str, Any], repository: str) -> str:
    """What keeps the owner of a token from writing to a repository; empty if nothing does.

    Args:
        owner: the Hub's answer to whoami-v2: name, orgs with roleInOrg, and auth.accessToken with its role; the scopes
            of a fine-grained one name entities and permissions such as repo.write.
        repository: NAME, or ORGANISATION/NAME.
    """
    name, place = str(owner.get("name", "")), repository.partition("/")[0]
    if "/" not in repository or place.casefold() == name.casefold():
        place = name
    token = owner.get("auth", {}).get("accessToken", {})
    roles = {each["name"].casefold(): each.get("roleInOrg", "") for each in owner.get("orgs", [])}
    if token.get("role") == "read":
        return "it may only read"
    if "orgs" in owner and place != name and place.casefold() not in roles:
        return f"its owner '{name}' is no member of '{place}'"
    if roles.get(place.casefold()) == "read":
        return f"its owner '{name}' may only read in '{place}'"
    known = {place.casefold(), repository.casefold()}
    scopes = token.get("fineGrained", {}).get("scoped", [])
    named = [each for each in scopes if each.get("entity", {}).get("name", "").casefold() in known]
    if token.get("role") == "fineGrained" and not any("repo.write" in each.get("permissions", []) for each in named):
        return f"it is fine-grained, and none of its permissions is to write to repositories of '{place}'"
    return ""


# ---- access ----------------------------------------------------------------------------------------------------------


def token() -> str:
    """The token of this process; empty if there is none."""
    return os.environ.get(TOKEN, "")


def endpoint() -> str:
    """The address of the Hub: an organisation's own, or Hugging Face's."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@contextmanager
def opened(name: str, is_reading: bool = False, kind: str = "model") -> Iterator[Repository]:
    """A repository of the Hub that `HF_ENDPOINT` names, for the owner of `HF_TOKEN`.

    Args:
        name: ORGANISATION/NAME.
        is_reading: nothing will be written; words of errors go by it.
        kind: `model` or `dataset`.

    Raises:
        Refused: the Hub does not accept what is asked; the message says what is true now and what to check.
        Unfinished: the Hub does not answer, or fails; trying again may help.
    """
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars

    if not shows_bar():
        disable_progress_bars()  # they would fill a log
    if os.environ.get("HF_ENDPOINT"):
        # A Hub without a Xet server fails hard otherwise. The library has read the variable when it was imported.
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
        constants.HF_HUB_DISABLE_XET = os.environ["HF_HUB_DISABLE_XET"].upper() in constants.ENV_VARS_TRUE_VALUES
    there = Repository(name, HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token()), kind)
    wrong_settings = (HFValidationError, OfflineModeIsEnabled, httpx2.UnsupportedProtocol, httpx2.InvalidURL)
    try:
        yield there
    except Refused:
        raise
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RuntimeError) as error:
        cause = _cause(error)
        words = one_line(shown(cause), 400).rstrip(".")
        hub = f"The Hub at {shown(there.api.endpoint)}"
        status = _status(cause)
        is_final = isinstance(cause, wrong_settings) or "LFS batch API returned errors" in words
        if is_final or (400 <= status < 500 and not is_passing(status)):
            if is_reading:
                raise Refused(f"{hub} did not give {name}: {words}. {_advice_to_reader(status, name)}") from None
            raise Refused(f"{hub} did not take {name}: {words}. {there.truth}. {_advice(status)}") from None
        if not isinstance(cause, httpx2.HTTPError | OSError | JSONDecodeError) or getattr(cause, "errno", 0) in DISK:
            raise  # a fault of ours, or of this machine
        truth = "" if is_reading else f"{there.truth}. "
        raise Unfinished(
            f"{hub} did not answer as it should for {name}: {words}. {truth}Check the network and HF_ENDPOINT; "
            "the same command goes on from what has arrived."
        ) from None  # the library's own words may hold the password of an address


def is_passing(status: int) -> bool:
    """Whether an HTTP status asks to come again: the Hub fails, or limits how often it is asked."""
    return status >= 500 or status in TRANSIENT


def _cause(error: BaseException) -> BaseException:
    """The library says of a large file only that it did not arrive; why stands in what that came from."""
    return error.__cause__ if type(error) is RuntimeError and error.__cause__ else error


def _status(error: BaseException) -> int:
    """The HTTP status that an error, or what it came from, tells of; 0 for none."""
    answers = (getattr(each, "response", None) for each in (error, error.__cause__))
    return next((int(answer.status_code) for answer in answers if answer is not None), 0)


def _advice(status: int) -> str:
    if status == 401:
        return f"The Hub does not know the token of {TOKEN}. Make one that can write, set it, run again."
    if status == 403:
        return (
            f"The token of {TOKEN} may not write there. Make one with write permission for this organisation "
            "(a fine-grained one: for its repositories), check publish.repository, run again."
        )
    if status == 412:
        return "Somebody else has committed meanwhile. Look at the repository, then run again."
    return f"Check {TOKEN} (it must be able to write), HF_ENDPOINT, HF_HUB_OFFLINE, publish.repository; run again."


def _advice_to_reader(status: int, name: str) -> str:
    if status in (401, 403):
        return (
            f"If {name} exists, its makers ask for a login: accept their terms on its page, set {TOKEN} to a token of "
            "that account that may read, run again."
        )
    if status == 404:
        return f"Check repository and commit in the key 'source'; a private repository needs {TOKEN}. Run again."
    return f"Check the key 'source', {TOKEN}, HF_ENDPOINT and HF_HUB_OFFLINE; run again."
