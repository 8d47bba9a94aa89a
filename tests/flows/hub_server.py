"""A stand-in for a Hugging Face Hub on loopback: the calls of `create_repo`, `upload_folder` and `list_repo_tree`."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_" + "x" * 34


@dataclass
class Hub:
    """What the server holds: repositories, each a list of commits of path -> bytes."""

    url: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    titles: dict[str, list[str]] = field(default_factory=dict)
    """Of the commits of each repository."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""
    calls: list[str] = field(default_factory=list)
    damages: str = ""
    """A path whose bytes the server loses on commit."""
    status: int = 0
    """What every request to create something is answered with, if not 0."""

    def sha(self, repository: str) -> str:
        """The name of the newest commit."""
        return hashlib.sha1(f"{repository} {len(self.repositories[repository])}".encode()).hexdigest()

    def add(self, repository: str, title: str, files: dict[str, bytes]) -> None:
        """A commit that holds exactly these files."""
        self.repositories.setdefault(repository, []).append(files)
        self.titles.setdefault(repository, []).append(title)


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_words: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _is_allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._answer({"error": "Invalid username or password."}, 401)
        return False

    def do_GET(self) -> None:
        """Revision, tree and commits."""
        address = urlparse(self.path)
        self.hub.calls.append(f"GET {address.path}")
        words = unquote(address.path).strip("/").split("/")
        if words[:2] != ["api", "models"]:
            return self._answer({"error": "not found"}, 404)
        repository = "/".join(words[2:4])
        commits = self.hub.repositories.get(repository)
        if commits is None:
            return self._answer({"error": "not found"}, 404)
        if words[4:5] == ["tree"]:
            return self._answer([_row(path, data) for path, data in sorted(commits[-1].items())])
        if words[4:5] == ["commits"]:
            fields = {"id": self.hub.sha(repository), "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
            return self._answer([{**fields, "title": title} for title in reversed(self.hub.titles[repository])])
        return self._answer({"id": repository, "modelId": repository, "sha": self.hub.sha(repository), "siblings": []})

    def do_POST(self) -> None:
        """Create, preupload, batch, verify, commit."""
        address = urlparse(self.path)
        self.hub.calls.append(f"POST {address.path}")
        body = self._body()
        words = unquote(address.path).strip("/").split("/")
        if self.hub.status:
            return self._answer({"error": "told to"}, self.hub.status)
        if not address.path.startswith("/verify") and not self._is_allowed():
            return None
        if words == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if words[-2:] == ["objects", "batch"]:
            return self._batch(json.loads(body))
        if words[4:5] == ["preupload"]:
            return self._preupload("/".join(words[2:4]), json.loads(body))
        if words[4:5] == ["commit"]:
            return self._commit("/".join(words[2:4]), body)
        return self._answer({})

    def do_PUT(self) -> None:
        """The bytes of a large file."""
        data = self._body()
        wanted = parse_qs(urlparse(self.path).query)["oid"][0]
        assert hashlib.sha256(data).hexdigest() == wanted
        self.hub.stored[wanted] = data
        self._answer({})

    def _create(self, wanted: dict[str, str]) -> None:
        repository = f"{wanted['organization']}/{wanted['name']}"
        is_there = repository in self.hub.repositories
        if not is_there:
            self.hub.add(repository, "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._answer({"url": f"{self.hub.url}/{repository}", "name": repository}, 409 if is_there else 200)

    def _preupload(self, repository: str, wanted: dict[str, list[dict[str, str]]]) -> None:
        there = self.hub.repositories[repository][-1]
        rows = [
            {
                "path": row["path"],
                "uploadMode": "lfs" if _is_large(row["path"]) else "regular",
                "shouldIgnore": False,
                "oid": _row(row["path"], there[row["path"]])["oid"] if row["path"] in there else None,
            }
            for row in wanted["files"]
        ]
        self._answer({"files": rows, "commitOid": self.hub.sha(repository)})

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

    def _commit(self, repository: str, body: bytes) -> None:
        files, title = dict(self.hub.repositories[repository][-1]), ""
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, self.hub.sha(repository)):
                    return self._answer({"error": "A commit has happened since."}, 412)
            elif row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif row["key"] == "deletedFile":
                del files[value["path"]]
        if self.hub.damages in files:
            files[self.hub.damages] = b"damaged"
        self.hub.add(repository, title, files)
        sha = self.hub.sha(repository)
        return self._answer(
            {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repository}/commit/{sha}"}
        )


def _row(path: str, data: bytes) -> dict[str, object]:
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    row: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if _is_large(path):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return row


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
