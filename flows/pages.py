"""`hiraku ui`: the pages of MLflow and Prefect, served to this machine only until Ctrl-C."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from components import tracking
from components.outcomes import Refused
from components.settings import STATE, settings
from components.wording import shown
from flows import server

LOGS = STATE / "pages"

Say = Callable[[str], None]


def serve(mlflow_port: int, prefect_port: int, say: Say) -> int:
    """Serve both until Ctrl-C; a server named by the environment is not started but told.

    Raises:
        Refused: a setting is wrong, a port is in use, or a server does not start; the message says what to change.
    """
    settings()
    wanted: dict[str, tuple[int, str]] = {}
    if tracking.tracking_uri().startswith("http"):
        say(f"MLflow   {shown(tracking.tracking_uri())} (MLFLOW_TRACKING_URI)")
    else:
        wanted["mlflow"] = (mlflow_port, "/health")
    if os.environ.get("PREFECT_API_URL"):
        say(f"Prefect  {shown(os.environ['PREFECT_API_URL']).removesuffix('/api')} (PREFECT_API_URL)")
    else:
        wanted["prefect"] = (prefect_port, "/api/health")
    for name, (port, _) in wanted.items():
        if not server.is_free(port):
            raise Refused(
                f"Port {port} for {name} is in use. Stop what uses it, or take another: "
                f"hiraku ui --{name}-port {server.free_port()}"
            )
    if not wanted:
        return 0
    server.home()
    tracking.HOME.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, (port, _) in wanted.items():
            processes[name] = server.start(name, port, LOGS / f"{name}.log")
            stack.callback(server.stop, processes[name])
        say("Starting; this takes some ten seconds.")
        for name, (port, page) in wanted.items():
            _await(name, processes[name], f"http://127.0.0.1:{port}{page}", LOGS / f"{name}.log")
            say(f"{'MLflow ' if name == 'mlflow' else 'Prefect'}  http://127.0.0.1:{port}")
        say("Ctrl-C stops both.")
        with contextlib.suppress(KeyboardInterrupt):
            while all(process.poll() is None for process in processes.values()):
                time.sleep(0.5)
            ended = [name for name, process in processes.items() if process.poll() is not None]
            raise Refused(f"{ended[0]} ended by itself; its last words are in {LOGS / (ended[0] + '.log')}.")
    return 0


def _await(name: str, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + server.START_SECONDS
    while not server.answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Refused(f"{name} did not start; its last words are in {log}.")
        time.sleep(0.2)
