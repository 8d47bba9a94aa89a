"""One file from an address that anybody may have written: bounded in size and time, never from one's own network.

Names are looked up once, what they lead to is judged, and that is connected to, also after each redirection; so neither
a list nor a server can make this machine ask what only it can reach. Proxies are not used.
"""

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components.wording import one_line

AGENT = "hiraku (collects pictures for research; honours X-Robots-Tag)"
MAX_REDIRECTIONS = 5
CHUNK_BYTES = 1 << 16
MOST_TIMEOUTS = 4
"""A file may take so many times as long as a single answer."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""HTTP statuses after which another try may succeed."""
FORBIDDEN = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""What a server says in X-Robots-Tag that wants none of its pictures collected."""


class Failed(Exception):
    """A file that did not come; the message is the reason, in words that are equal for equal reasons."""

    def __init__(self, reason: str, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class _Own(OSError):
    """A name leads into one's own network."""


@dataclass(frozen=True)
class Limits:
    """What a file may cost, and which hosts of one's own network may be asked."""

    timeout_seconds: float
    max_bytes: int
    own_hosts: tuple[str, ...] = ()


def file_at(url: str, limits: Limits) -> bytes:
    """The bytes at an address of http or https.

    Raises:
        Failed: there are none, or too many, or they come too slowly, or from where nothing may come.
    """
    parts = _parts(url)
    if parts is None or parts[0] not in ("http", "https") or not parts[1]:
        raise Failed("no address of http or https", may_pass=False)
    until = time.monotonic() + MOST_TIMEOUTS * limits.timeout_seconds
    try:
        request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept": "image/*"})  # noqa: S310
        with _opener(limits).open(request, timeout=limits.timeout_seconds) as answer:
            _require_consent(answer)
            return _read(answer, limits, until)
    except urllib.error.HTTPError as error:
        error.close()
        is_loop = 300 <= error.code < 400
        reason = "redirected too often, or nowhere" if is_loop else f"HTTP {error.code}"
        raise Failed(reason, error.code in PASSING) from None
    except urllib.error.URLError as error:
        raise _failure(error.reason) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(error) from None


def _parts(url: str) -> tuple[str, str | None] | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme, parts.hostname


def _failure(error: Any) -> Failed:
    """What went wrong below HTTP, in few words."""
    if isinstance(error, _Own):
        return Failed("it leads into this machine's own network (source.download.own_hosts)", may_pass=False)
    if isinstance(error, TimeoutError):
        return Failed("no answer in time", may_pass=True)
    if isinstance(error, socket.gaierror):
        return Failed("no such host", may_pass=True)
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return Failed("the connection broke off", may_pass=True)
    if isinstance(error, OSError):
        return Failed("no connection", may_pass=True)
    return Failed(f"no answer of HTTP: {one_line(type(error).__name__)}", may_pass=False)


def _require_consent(answer: Any) -> None:
    said = {word.strip().lower() for line in answer.headers.get_all("X-Robots-Tag", []) for word in line.split(",")}
    if said & FORBIDDEN:
        raise Failed("its server forbids it (X-Robots-Tag)", may_pass=False)


def _read(answer: Any, limits: Limits, until: float) -> bytes:
    found = bytearray()
    while chunk := answer.read1(CHUNK_BYTES):
        found += chunk
        if len(found) > limits.max_bytes:
            raise Failed(f"larger than {limits.max_bytes:,} bytes (source.download.max_file_bytes)", may_pass=False)
        if time.monotonic() > until:
            raise Failed("no answer in time", may_pass=True)
    promised = answer.headers.get("Content-Length", "")
    if not found:
        raise Failed("an empty answer", may_pass=True)
    if promised.isdigit() and len(found) < int(promised):
        raise Failed("the connection broke off", may_pass=True)
    return bytes(found)


# ---- connections -----------------------------------------------------------------------------------------------------


class _Redirections(urllib.request.HTTPRedirectHandler):
    """A few, to http and https alone."""

    max_redirections = MAX_REDIRECTIONS
    max_repeats = 2

    def redirect_request(self, *words: Any) -> urllib.request.Request | None:
        """Follow no redirection to another kind of address."""
        parts = _parts(words[-1])
        return super().redirect_request(*words) if parts and parts[0] in ("http", "https") else None


def _opener(limits: Limits) -> urllib.request.OpenerDirector:
    """One that knows http and https only, and connects to nothing that was not judged."""
    connect = _connector(limits)

    class Plain(http.client.HTTPConnection):
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            self._create_connection = connect

    class Secure(http.client.HTTPSConnection):
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            self._create_connection = connect

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, request)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, request)

    opener = urllib.request.OpenerDirector()
    for handler in (
        PlainHandler(),
        SecureHandler(),
        _Redirections(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _connector(limits: Limits) -> Callable[..., socket.socket]:
    def connect(address: tuple[str, int], timeout: float, _source: Any = None) -> socket.socket:
        host, port = address
        problem: OSError = socket.gaierror(f"{host} has no address")
        for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            found = ipaddress.ip_address(str(place[0]).partition("%")[0])
            mapped = getattr(found, "ipv4_mapped", None) or found
            if host not in limits.own_hosts and (not mapped.is_global or mapped.is_multicast):
                problem = _Own(host)
                continue
            try:
                return socket.create_connection((str(place[0]), port), timeout)
            except OSError as error:
                problem = error
        raise problem

    return connect
