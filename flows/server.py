"""The embedded Prefect server: a child that starts while libraries load and never outlives the command.

Prefect can start one itself, but that one goes on for ever when the flow is killed with -9, and it starts only after
everything has been imported. With `PREFECT_API_URL` set, nothing is started.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from components.lifeline import bound_environment
from components.outcomes import Refused
from components.wording import shown

START_SECONDS = 300.0
"""How long a loaded machine may take, the first start's migrations included."""
STOP_SECONDS = 5.0
LOG_NAME = "server.log"


def home() -> Path:
    """Where the embedded server keeps its database; made if it is missing, since Prefect makes no parents."""
    folder = Path(os.environ["PREFECT_HOME"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_server() -> None:
    """Refuse a server of `PREFECT_API_URL` that does not answer, before long work.

    Raises:
        Refused: nothing listens there.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return
    address = urlparse(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise Refused(
            f"PREFECT_API_URL is {shown(url)}, but nothing answers there ({error}). Start the server "
            "(prefect server start), or unset the variable to use the embedded one."
        ) from error


def require_api() -> None:
    """Refuse to deploy to no server: the embedded one ends with its command.

    Raises:
        Refused: `PREFECT_API_URL` names none, or nothing listens there.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise Refused(
            "PREFECT_API_URL names no Prefect server to deploy to. Start one (prefect server start) and set it, or run "
            "the schedules from here: hiraku serve"
        )
    require_server()


@contextlib.contextmanager
def running() -> Iterator[None]:
    """A Prefect server for this process, starting in the background; see `wait`.

    It sets `PREFECT_API_URL`, which Prefect reads when it is imported.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    port = free_port()
    process = start("embedded", port, home() / LOG_NAME)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    _processes.append(process)
    try:
        yield
    finally:
        _processes.remove(process)
        del os.environ["PREFECT_API_URL"]
        stop(process)


@contextlib.contextmanager
def serving(port: int) -> Iterator[None]:
    """A whole Prefect server with its pages and services, or that of `PREFECT_API_URL`, while the block runs.

    Raises:
        Refused: the port is in use, or the server does not start.
    """
    if os.environ.get("PREFECT_API_URL"):
        require_server()
        yield
        return
    if not is_free(port):
        raise Refused(
            f"Port {port} for Prefect is in use. If it is a Prefect server: export "
            f"PREFECT_API_URL=http://127.0.0.1:{port}/api. Otherwise take another: --prefect-port {free_port()}"
        )
    process = start("prefect", port, home() / LOG_NAME)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    _processes.append(process)
    try:
        wait()
        yield
    finally:
        _processes.remove(process)
        del os.environ["PREFECT_API_URL"]
        stop(process)


_processes: "list[subprocess.Popen[bytes]]" = []


def wait() -> None:
    """Wait until the server of `running` answers.

    Raises:
        Refused: it ended or did not answer in time; the message names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while _processes:
        if answers(f"{os.environ['PREFECT_API_URL']}/health"):
            return
        if _processes[-1].poll() is not None or time.monotonic() > deadline:
            raise Refused(
                f"The embedded Prefect server did not start; its last words are in {home() / LOG_NAME}. "
                "Run: hiraku doctor"
            )
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a page of this machine is served."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (an http address of ours)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a port of this machine can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def start(role: str, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start one of the `ROLES` as a child that ends with us; its lines go to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", role, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # Ctrl-C at the terminal must not take it away before its user has ended
            env=bound_environment(),
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child and whatever it started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# ---- the child: `python -m flows.server ROLE PORT` -------------------------------------------------------------------

ROLES: dict[str, list[str]] = {
    # What Prefect's own embedded server runs.
    "embedded": ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--log-level", "error"],
    "prefect": ["prefect", "server", "start"],
    # One worker: MLflow's default is ten processes. Cross-origin requests and foreign hosts it refuses by itself.
    "mlflow": ["mlflow", "server", "--workers", "1"],
}


def main(arguments: list[str]) -> None:
    """Become a server: the kernel's promise to end us with our parent survives the exec."""
    from components.lifeline import die_with_parent
    from components.tracking import tracking_uri

    role, port = arguments
    die_with_parent(signal.SIGTERM)
    environment = dict(os.environ)
    words = [*ROLES[role], "--host", "127.0.0.1", "--port", port]
    if role == "mlflow":
        words += ["--backend-store-uri", tracking_uri()]
    elif role == "prefect":  # what its services cannot do is told nowhere else
        environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "WARNING"
    elif role == "embedded":  # no pages, no background services
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    os.execve(sys.executable, [sys.executable, "-m", *words], environment)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
