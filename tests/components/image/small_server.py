"""A server of pictures on loopback that is as bad as real ones are."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.components.image.small_pictures import bomb, file_of, noise

PICTURE = file_of(noise(), "JPEG")
BOMB = bomb()
LARGE = file_of(noise(400, 300), "JPEG")


class Handler(BaseHTTPRequestHandler):
    """Answers by the words of the path."""

    def do_GET(self):
        self.server.asked[self.path] += 1
        what = self.path.strip("/").partition("?")[0]
        if what == "late" and self.server.asked[self.path] > 1:
            what = "fine"
        if what in ("late", "slow"):
            self.server.stopped.wait(5)
            return
        if what == "drip":
            self._head(200, {"Content-Length": "100000"})
            for _ in range(80):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
                if self.server.stopped.wait(0.1):
                    return
            return
        places = {
            "near": "/fine",
            "away": f"http://localhost:{self.server.server_port}/fine",
            "file": "file:///etc/passwd",
        }
        if what in places or what == "loop":
            self._head(302, {"Location": places.get(what, "/loop")})
            return
        bodies = {
            "fine": PICTURE,
            "large": LARGE,
            "bomb": BOMB,
            "text": b"<html>",
            "cut": PICTURE[:-300],
            "none": b"",
        }
        if what not in bodies and what not in ("robots", "short"):
            self._head(503 if what == "busy" else 404, {})
            return
        body = bodies.get(what, PICTURE)
        more = {"X-Robots-Tag": "all, noai"} if what == "robots" else {}
        self._head(200, {"Content-Length": str(len(body) + 10 * (what == "short")), **more})
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words):
        """Say nothing."""


@contextmanager
def serving() -> Iterator[ThreadingHTTPServer]:
    """A server that runs until the block ends; `asked` counts requests by path."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.stopped = Counter(), threading.Event()
    threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield found
    finally:
        found.stopped.set()
        found.shutdown()
        found.server_close()
