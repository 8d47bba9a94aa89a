"""What a training draws is on the tracking server while it goes on, also what a flow that was killed had not sent."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import psutil
import pytest

from components import paths
from flows import mirror, server
from tests.flows.conftest import Project
from tests.flows.test_launch import wait_until
from tests.flows.test_release import runs_of

NAME = "smoke-text"
FIRST = [f"samples-{step:07d}.svg" for step in range(3)]
WORDS = f"from flows import mirror, release; mirror.EVERY_SECONDS = 0.1; release.run_verb('ingest', '{NAME}')"


def kept() -> dict[str, Path]:
    """Name -> file of the pictures that the tracking server has of the stage's one run."""
    runs = runs_of("stage", "stages")
    assert len(runs) <= 1
    folders = [Path(urlparse(run.info.artifact_uri).path) / mirror.JOURNAL for run in runs]
    return {path.name: path for folder in folders for path in sorted(folder.glob("samples-*"))}


def left(name: str, seconds: float, text: str = "<svg/>") -> None:
    """Let the journal have a picture of that time."""
    path = paths.journal("ingest", NAME) / name
    path.write_text(text)
    os.utime(path, (seconds, seconds))


@pytest.mark.slow
def test_pictures_are_kept_while_the_stage_goes_on_and_those_that_a_killed_flow_did_not_send(
    project: Project, flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(mirror, "MAX_REPORT_BYTES", 1_000)
    project.write_graph(ingest="0.3 hold draws")
    flow = subprocess.Popen([sys.executable, "-c", WORDS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: list(kept()) == FIRST, "no picture is kept while the stage works", server.START_SECONDS)
    finally:
        flow.kill()
        flow.wait()
    wait_until(lambda: not psutil.pid_exists(project.started()[-1]), "the stage outlives its flow")
    sent = {name: path.stat().st_mtime_ns for name, path in kept().items()}
    began = json.loads((paths.journal("ingest", NAME) / mirror.RUN_NAME).read_text())["began"]
    left("samples-0000007.svg", began - 100)  # of a training before
    left("samples-0000008.svg", began)
    left("samples-0000009.svg", began, "<svg>" + " " * 1_000)

    def watch() -> list[str]:
        try:
            wait_until(lambda: len(kept()) > len(FIRST), "what was not sent is not kept while the stage works")
            assert not paths.state("ingest", NAME).exists()
            return list(kept())
        finally:
            Path("go").touch()

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(watch)
        done = flows.run_verb("ingest", NAME)
    assert watched.result() == [*FIRST, "samples-0000008.svg"]
    assert list(kept()) == watched.result()
    assert {name: kept()[name].stat().st_mtime_ns for name in FIRST} == sent, "each is sent once"
    (told,) = done.troubles
    assert "samples-0000009.svg has 0.0 MB, expected at most 0.001" in told
    assert len(project.started()) == 2
