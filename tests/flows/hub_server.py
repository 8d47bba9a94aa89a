"""A stand-in for a Hugging Face Hub on loopback that speaks the real protocol, without Xet.

The unmodified `huggingface_hub` client creates, uploads, commits on branches, tags, lists and deletes with it, and
`from_pretrained` of transformers downloads from it, and `load_dataset` of datasets.
"""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from tests.flows.hub_metadata import problems_of
from tests.flows.hub_store import INITIAL, READ_TOKEN, TOKEN, Commit, Hub, Repository, is_large, row_of

__all__ = ["READ_TOKEN", "TOKEN", "Hub", "serving"]

OTHER_BYTES = b"damaged"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        """Keep the test's output clean."""

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _answer(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(body).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        marks = {"X-Error-Code": code} if code else {}
        self._answer({"error": message}, status, {**marks, "X-Error-Message": message, **(headers or {})})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # ---- who may what ------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_read(self, repository: Repository) -> bool:
        return not repository.is_private or self._token in (TOKEN, READ_TOKEN)

    def _may_write(self) -> bool:
        if self.hub.status:
            self._refuse(self.hub.status, "", "told to")
        elif self._token == READ_TOKEN:
            self._refuse(403, "", "You don't have the rights to create a model under this namespace")
        elif self._token != TOKEN:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        else:
            return True
        return False

    # ---- requests ----------------------------------------------------------------------------------------------------

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Who am I, repositories, trees, commits, names, files."""
        words = self._words()
        if self.hub.read_status:
            return self._refuse(self.hub.read_status, "", "told to")
        if words == ["api", "whoami-v2"]:
            return self._whoami()
        is_api = words[0] == "api"
        place = words[2:] if is_api else words[1:] if words[0] == "datasets" else words
        repository = self.hub.repositories.get("/".join(place[:2]))
        if repository is None or not self._may_read(repository):
            return self._refuse(404, "RepoNotFound", "Repository not found")
        what, rest = (place[2], place[3:]) if place[2:] else ("revision", ["main"])
        if what == "refs":
            return self._refs(repository)
        commit = repository.resolve(rest[0])
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[0]}")
        answers: dict[str, Callable[[Repository, Commit, list[str]], None]] = {
            "revision": self._revision,
            "tree": self._tree,
            "commits": self._commits,
            "resolve": self._resolve,
        }
        return answers[what](repository, commit, rest[1:])

    def do_POST(self) -> None:
        """Create, check, preupload, batch, verify, commit, branch, tag."""
        words, body = self._words(), self._body()
        if words[:1] == ["verify"]:
            return self._answer({})
        if words == ["api", "validate-yaml"]:
            found = problems_of(json.loads(body)["content"])
            return self._answer({"errors": [{"message": each} for each in found]}, 400 if found else 200)
        if words[4:5] == ["paths-info"]:
            return self._paths_info(words, body)
        if not self._may_write():
            return None
        if words == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if words[-2:] == ["objects", "batch"]:
            return self._batch(json.loads(body))
        repository = self.hub.repositories.get("/".join(words[2:4]))
        if repository is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        answers = {"preupload": self._preupload, "commit": self._commit, "branch": self._branch, "tag": self._tag}
        return answers[words[4]](repository, words[5], body)

    def do_DELETE(self) -> None:
        """A branch or a tag."""
        words = self._words()
        if not self._may_write():
            return None
        repository = self.hub.repositories["/".join(words[2:4])]
        names = repository.branches if words[4] == "branch" else repository.tags
        if words[5] == "main" or names.pop(words[5], None) is None:
            return self._refuse(403 if words[5] == "main" else 404, "", f"{words[5]} cannot be deleted")
        return self._answer({})

    def do_PUT(self) -> None:
        """The bytes of a large file."""
        self._words()
        wanted = parse_qs(urlparse(self.path).query)["oid"][0]
        if self.hub.is_cut(wanted):
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        data = self._body()
        assert hashlib.sha256(data).hexdigest() == wanted
        self.hub.stored[wanted] = data
        self._answer({})

    def _words(self) -> list[str]:
        """The parts of the path; a name of a branch may hold a slash, which is quoted."""
        path = urlparse(self.path).path
        self.hub.calls.append(f"{self.command} {path}")
        return [unquote(word) for word in path.strip("/").split("/")]

    # ---- what is there -----------------------------------------------------------------------------------------------

    def _whoami(self) -> None:
        if self._token not in (TOKEN, READ_TOKEN):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        role = "write" if self._token == TOKEN else "read"
        token = {"type": "access_token", "accessToken": {"displayName": "tests", "role": role}}
        return self._answer({"type": "user", "name": "tests", "orgs": [{"name": "hiraku"}], "auth": token})

    def _refs(self, repository: Repository) -> None:
        rows = {
            kind: [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for kind, folder, names in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
            )
        }
        self._answer({**rows, "converts": []})

    def _revision(self, repository: Repository, commit: Commit, _rest: list[str]) -> None:
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        name = repository.name
        facts = {"id": name, "modelId": name, "sha": commit.sha, "private": repository.is_private, "siblings": siblings}
        self._answer(facts)

    def _tree(self, _repository: Repository, commit: Commit, rest: list[str]) -> None:
        below = "/".join(rest) + "/" if rest else ""
        rows = [row_of(path, data) for path, data in sorted(commit.files.items()) if path.startswith(below)]
        if below and not rows:
            return self._refuse(404, "EntryNotFound", f"{below} does not exist")
        return self._answer(rows)

    def _commits(self, repository: Repository, commit: Commit, _rest: list[str]) -> None:
        date = "2026-01-01T00:00:00.000Z"
        rows = [
            {"id": each.sha, "title": each.title, "message": "", "authors": [], "date": date}
            for each in repository.log(commit.sha)
        ]
        self._answer(rows)

    def _resolve(self, _repository: Repository, commit: Commit, rest: list[str]) -> None:
        path = "/".join(rest)
        marks = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            return self._refuse(404, "EntryNotFound", "Entry not found", marks)
        data = commit.files[path]
        row = row_of(path, data)
        if path == self.hub.serves_damaged:
            data = bytes(len(data))
        if is_large(path):
            linked: Any = row["lfs"]
            marks |= {"X-Linked-Etag": f'"{linked["oid"]}"', "X-Linked-Size": str(len(data))}
        marks |= {"ETag": f'"{row["oid"]}"', "Accept-Ranges": "bytes"}
        begin, _, end = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if not begin:
            return self._send(data, 200, marks)
        last = int(end) if end else len(data) - 1
        marks["Content-Range"] = f"bytes {begin}-{last}/{len(data)}"
        return self._send(data[int(begin) : last + 1], 206, marks)

    def _paths_info(self, words: list[str], body: bytes) -> None:
        repository = self.hub.repositories.get("/".join(words[2:4]))
        if repository is None or not self._may_read(repository):
            return self._refuse(404, "RepoNotFound", "Repository not found")
        commit = repository.resolve(words[5])
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        wanted = parse_qs(body.decode())["paths"]
        return self._answer([row_of(path, commit.files[path]) for path in wanted if path in commit.files])

    # ---- changes -----------------------------------------------------------------------------------------------------

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        is_there = name in self.hub.repositories
        if not is_there:
            is_private = wanted.get("visibility") == "private"
            self.hub.repositories[name] = Repository(name, is_private)
            self.hub.add(name, "initial commit", INITIAL)
        self._answer({"url": f"{self.hub.url}/{name}", "name": name}, 409 if is_there else 200)

    def _branch(self, repository: Repository, name: str, body: bytes) -> None:
        start = repository.resolve(json.loads(body).get("startingPoint", "main"))
        if name in repository.branches:
            return self._refuse(409, "", "Reference already exists")
        if start is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        repository.branches[name] = start.sha
        return self._answer({})

    def _tag(self, repository: Repository, revision: str, body: bytes) -> None:
        commit, name = repository.resolve(revision), json.loads(body)["tag"]
        if name in repository.tags:
            return self._refuse(409, "", "Tag reference exists already")
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        repository.tags[name] = commit.sha
        return self._answer({})

    def _preupload(self, repository: Repository, revision: str, body: bytes) -> None:
        commit = repository.resolve(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        rows = [
            {
                "path": row["path"],
                "uploadMode": "lfs" if is_large(row["path"]) else "regular",
                "shouldIgnore": False,
                "oid": _known_oid(commit, row["path"]),
            }
            for row in json.loads(body)["files"]
        ]
        return self._answer({"files": rows, "commitOid": commit.sha})

    def _batch(self, wanted: dict[str, list[dict[str, object]]]) -> None:
        rows = []
        for row in wanted["objects"]:
            oid = row["oid"]
            links = {
                "upload": {"href": f"{self.hub.url}/upload?oid={oid}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            rows.append({"oid": oid, "size": row["size"], **({} if oid in self.hub.stored else {"actions": links})})
        self._answer({"transfer": "basic", "objects": rows})

    def _commit(self, repository: Repository, branch: str, body: bytes) -> None:
        head = repository.commits[repository.branches[branch]]
        rows = [json.loads(line) for line in body.splitlines()]
        header = rows[0]["value"]
        if header.get("parentCommit") not in (None, head.sha):
            return self._refuse(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for row in rows[1:]:
            key, value = row["key"], row["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                assert key == "deletedFile"
                del files[value["path"]]
        if self.hub.damages in files:
            files[self.hub.damages] = OTHER_BYTES
        sha = repository.add(branch, header["summary"], files).sha
        url = f"{self.hub.url}/{repository.name}/commit/{sha}"
        return self._answer({"success": True, "commitOid": sha, "commitUrl": url})


def _known_oid(commit: Commit, path: str) -> object:
    """What the client compares with its own file: SHA-256 of a large one, git's name of a small one."""
    if path not in commit.files:
        return None
    row: Any = row_of(path, commit.files[path])
    return row["lfs"]["oid"] if "lfs" in row else row["oid"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its connection open for longer than the test lasts

    def handle_error(self, *_words: object) -> None:
        """A connection that was cut is no news."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
