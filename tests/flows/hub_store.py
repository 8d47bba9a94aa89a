"""What a stand-in Hub holds: repositories with commits, branches and tags, and the bytes of large files."""

import hashlib
import threading
from dataclasses import dataclass, field

TOKEN = "hf_" + "x" * 34
READ_TOKEN = "hf_" + "r" * 34
"""May read everything and write nothing."""
INITIAL = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
"""What a Hub puts into a new repository."""


@dataclass(frozen=True)
class Commit:
    """A state of a repository: path -> bytes."""

    sha: str
    parent: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """One repository: commits are only ever added, names point at them."""

    name: str
    is_private: bool = True
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a name of its own."""
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def add(self, branch: str, title: str, files: dict[str, bytes]) -> Commit:
        """A commit on a branch that holds exactly these files."""
        parent = self.branches.get(branch, "")
        sha = hashlib.sha1(f"{self.name} {len(self.commits)} {parent}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, dict(files))
        self.branches[branch] = sha
        return self.commits[sha]

    def log(self, revision: str) -> list[Commit]:
        """A commit and those before it, newest first."""
        found, at = [], self.resolve(revision)
        while at is not None:
            found.append(at)
            at = self.commits.get(at.parent)
        return found


@dataclass
class Hub:
    """The whole server, and the faults that a test asks it to have."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""
    calls: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    """SHA-256 of every large file whose bytes were sent, in order, those that arrived only in part included."""
    damages: str = ""
    """A path whose bytes the server loses on commit."""
    serves_damaged: str = ""
    """A path whose bytes are others when they are read, though the tree says nothing."""
    status: int = 0
    """What every request to write something is answered with, if not 0."""
    read_status: int = 0
    """The same of every request to read."""
    cuts_after: int | None = None
    """After so many large files the connection breaks in the middle of each next one; None for never."""
    num_cut: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def is_cut(self, oid: str) -> bool:
        """Note a large file that is being sent, and tell whether its connection breaks; files may come side by side."""
        with self._lock:
            whole = len(self.uploads) - self.num_cut
            is_cut = self.cuts_after is not None and whole >= self.cuts_after
            self.uploads.append(oid)
            self.num_cut += is_cut
            return is_cut

    def sha(self, repository: str, revision: str = "main") -> str:
        """The commit that a name points at; empty if there is none."""
        found = self.repositories[repository].resolve(revision)
        return found.sha if found else ""

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a commit, without what the Hub itself has put there."""
        found = self.repositories[repository].resolve(revision)
        assert found is not None
        return {path: data for path, data in found.files.items() if path not in INITIAL}

    def titles(self, repository: str, revision: str = "main") -> list[str]:
        """Of a commit and those before it, newest first."""
        return [commit.title for commit in self.repositories[repository].log(revision)]

    def add(self, repository: str, title: str, files: dict[str, bytes], branch: str = "main") -> Commit:
        """A commit by somebody, in a repository that is made if it must be."""
        return self.repositories.setdefault(repository, Repository(repository)).add(branch, title, files)

    def writes(self) -> list[str]:
        """The requests so far that have changed a repository, or tried to."""
        words = ("/commit/", "/branch/", "/tag/", "/upload", "/repos/create")
        return [call for call in self.calls if not call.startswith(("GET", "HEAD")) and any(w in call for w in words)]


def is_large(path: str) -> bool:
    """Whether a file goes to the store of large files."""
    return path.endswith(".safetensors")


def row_of(path: str, data: bytes) -> dict[str, object]:
    """What a tree says of a file."""
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    row: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if is_large(path):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return row
