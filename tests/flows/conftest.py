"""A throw-away project with real Prefect, DVC and MLflow, whose stages take milliseconds."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from components import VERBS, tracking
from components.graph import plan
from components.recipes import Library
from flows import server, workspace
from flows.launch import LAUNCHES
from tests.conftest import ROOT

HERE = Path(__file__).parent
RECIPE = "smoke-gpt2"
DRAIN_SECONDS = 10.0


class Project:
    """A folder with git, DVC, recipes and a graph of toy stages."""

    def __init__(self, folder: Path, remote: Path | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copytree(ROOT / "tests" / "recipes", folder / "recipes")
        shutil.copy(HERE / "toy.py", folder / "toy.py")
        (folder / "input").write_text("raw")
        (folder / "data" / "smoke").mkdir(parents=True)
        (folder / "data" / "smoke" / "a.jsonl").write_text('{"text": "a"}\n')
        (folder / ".gitignore").write_text("/artifacts/\n/data\n/.hiraku/\n/started\n/go\n/*-died\n")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        Repo.init(str(folder)).close()
        if remote is not None:
            config = f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {remote}\n"
            (folder / ".dvc" / "config").write_text(config)
        self.write_graph()

    def write_graph(self, **changed: str) -> None:
        """One toy stage for each real one; `changed` gives the words after VERB NAME for some verbs."""
        stages = plan(Library(self.folder / "recipes"), RECIPE)
        reads_data = {verb for verb, words in changed.items() if "data" in words}
        body = {
            stage.key: {
                "cmd": f"python toy.py {stage.verb} {stage.name} {changed.get(stage.verb, '0.1')}",
                "deps": [
                    "input",
                    *(["data/smoke"] if stage.verb in reads_data else []),
                    *(f"artifacts/{VERBS[verb]}/{name}" for verb, name in stage.parents),
                ],
                "outs": [stage.out],
            }
            for stage in stages
        }
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": body}, sort_keys=False))

    def started(self, verb: str = "") -> list[int]:
        """The process ids of every toy stage that started so far."""
        path = self.folder / "started"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [int(line.split()[1]) for line in lines if line.startswith(verb)]

    def bytes_of(self, verb: str, name: str = RECIPE) -> str:
        """What a toy stage left."""
        return next((self.folder / "artifacts" / VERBS[verb] / name).glob("*/bytes")).read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A fresh throw-away project, which is the current folder; its graph is not rendered again."""
    made = Project(tmp_path / "project", tmp_path / "remote")
    monkeypatch.chdir(made.folder)
    monkeypatch.setattr(workspace, "rendered_again", list)
    LAUNCHES.open()  # the flow of another test may have failed in this process
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("MLFLOW_TRACKING_URI", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One embedded Prefect server for all tests that run flows."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("prefect")
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("PREFECT_API_URL", raising=False)
        with server.running():
            url = os.environ["PREFECT_API_URL"]
            with connected(url, home):
                server.wait()
                yield url


@contextmanager
def connected(url: str, home: Path) -> Iterator[None]:
    """Let Prefect in this process talk to a server.

    What sends events is bound to the server of its first one, so each server begins and ends with none.
    """
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
            yield
    finally:
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database after its migrations, which take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.sweep()
    return path


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real package to register, loaded back in this process; not to be changed."""
    from components import package as module
    from tests.flows.publishing.releases import loaded_here
    from tests.flows.versions import make_package

    root = tmp_path_factory.mktemp("package")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(module, "load_back", loaded_here)
        return make_package(root)


@pytest.fixture
def flows(project: Project, prefect_server: str, empty_database: Path, monkeypatch: pytest.MonkeyPatch):
    """The flows, with retries that do not wait, in a fresh project."""
    from flows import release, tasks

    tracking.HOME.mkdir(parents=True)
    shutil.copy(empty_database, tracking.HOME / "mlflow.db")
    monkeypatch.setattr(tasks.run_stage, "retry_delay_seconds", [0.0, 0.0])
    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.2)
    return release
