"""A project whose model has two versions, and a Hub on loopback to publish them to."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import chosen, paths, tracking
from components import package as package_module
from components.evaluate import evaluate
from components.modalities import modality
from components.package import package
from tests.components.small_release import make_project, make_weights
from tests.flows.hub_server import TOKEN, serving
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import RECIPE, REPOSITORY, change_publish, gap_here, loaded_here, register_here


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A project whose model has two versions in the registry; the package there is the second."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(package_module, "load_back", loaded_here)
        make_project(root)
        change_publish(repository=REPOSITORY)
        tracking.HOME.mkdir(parents=True)
        shutil.copy(empty_database, tracking.HOME / "mlflow.db")
        for seed in (0, 1):
            make_weights(RECIPE, modality("text").open_encoder(paths.payload("fit", "town-spm")).facts, seed)
            evaluate(RECIPE)
            package(RECIPE)
            assert register_here() == str(seed + 1)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break; the files of its versions stay where they were registered."""
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load back in this process: what fresh ones add is tested once, by the slow test."""
    monkeypatch.setattr(chosen, "gap_between", gap_here)


@pytest.fixture
def server(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this environment names, and a client that does not wait between its tries."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    # Other tests may have imported the library, which reads its settings then.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)
    clock = SimpleNamespace(sleep=lambda _seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(_http, "time", clock)
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def hub(server: Hub, _in_process: None) -> Hub:
    return server
