"""A chat endpoint on loopback that turns texts into capitals, and misbehaves when it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """A chat endpoint that turns texts into capitals; `answers` may say otherwise for the next requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: list[Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]] | None] = []
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def said(content: str, reason: str = "stop") -> tuple[int, dict[str, str], bytes]:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


def capitals(body: dict[str, Any], keep: Callable[[str], bool] = lambda _key: True) -> tuple[int, dict, bytes]:
    content = body["messages"][1]["content"]
    if not content.startswith("{"):
        return said(content.upper())
    return said(json.dumps({key: text.upper() for key, text in json.loads(content).items() if keep(key)}))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.requests.append(body)
            self.server.keys.append(self.headers["Authorization"])
            answer = (self.server.answers.pop(0) if self.server.answers else None) or capitals
        assert self.path == "/v1/chat/completions"
        code, headers, content = answer(body)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_words: Any) -> None:
        """Nobody listens."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs until the block ends."""
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
