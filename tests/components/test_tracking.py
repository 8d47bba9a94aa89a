"""Runs, points and versions on the embedded tracking server."""

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from components import paths, tracking
from components.manifest import Manifest, writing
from components.outcomes import Refused
from components.register import register


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after its migrations, which take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.sweep("nothing")
    return path


@pytest.fixture
def place(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a tracking server of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.HOME.mkdir(parents=True)
    shutil.copy(empty_database, tracking.HOME / "mlflow.db")
    return tmp_path


def points(*steps: int) -> list[dict]:
    return [{"step": step, "time": 1.0, "metrics": {"pretrain/loss": float(step)}} for step in steps]


def test_mlflow_is_the_installed_package_and_not_our_folder() -> None:
    import importlib.util

    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    assert "site-packages" in spec.origin


def test_a_resumed_run_is_reopened_and_repeats_no_step(place: Path) -> None:
    release = tracking.Release("r", "language")
    first = tracking.open_stage_run(release, "pretrain", "r", {})
    tracking.log_points(first, points(0, 1), set())
    tracking.close_run(first, "FAILED")
    again = tracking.open_stage_run(release, "pretrain", "r", {}, resume=first)
    assert again == first
    tracking.log_points(again, points(0, 1, 2), tracking.logged_points(again))
    history = tracking.client().get_metric_history(again, "pretrain/loss")
    assert [point.step for point in history] == [0, 1, 2]


def test_a_finished_run_is_never_reopened(place: Path) -> None:
    release = tracking.Release("r", "language")
    first = tracking.open_stage_run(release, "pretrain", "r", {})
    tracking.close_run(first, "FINISHED")
    assert tracking.open_stage_run(release, "pretrain", "r", {}, resume=first) != first


def test_parameters_are_flattened_and_logging_them_twice_changes_nothing(place: Path) -> None:
    release = tracking.Release("r", "language")
    run_id = release.open()
    for _ in range(2):
        tracking.log_parameters(run_id, {"network": {"num_layers": 4, "names": ["a"]}, "corpus+encoder": "x"})
    params = tracking.client().get_run(run_id).data.params
    assert params == {"network.num_layers": "4", "network.names": '["a"]', "corpus_encoder": "x"}


def test_only_runs_of_dead_processes_are_swept(place: Path) -> None:
    living = tracking.Release("living", "language").open()
    dead = tracking.Release("dead", "language").open()
    tracking.tag_run(dead, "hiraku.process", "1@0.00")
    elsewhere = tracking.Release("elsewhere", "language").open()
    tracking.tag_run(elsewhere, "hiraku.process", "1@0.00")
    tracking.tag_run(elsewhere, "hiraku.host", "another-machine")
    assert tracking.sweep("language") == 1
    status = {run: tracking.client().get_run(run).info.status for run in (living, dead, elsewhere)}
    assert status == {living: "RUNNING", dead: "KILLED", elsewhere: "RUNNING"}


def write_package(text: str) -> str:
    manifest = Manifest("package", "r", {"components.package": 1}, licence="CC0-1.0")
    with writing(manifest) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text(text)
    return manifest.payload_hash


def test_a_dead_process_that_nobody_has_reaped_does_not_live() -> None:
    process = subprocess.Popen(["sleep", "60"])
    mark = f"{process.pid}@{psutil.Process(process.pid).create_time():.2f}"
    assert tracking.is_alive(mark)
    process.kill()
    # Waits without reaping.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not tracking.is_alive(mark)
    process.wait()


def test_a_package_is_registered_once_and_a_changed_one_is_the_next_version(place: Path) -> None:
    content_hash = write_package("{}")
    first = register("r")
    again = register("r")
    assert (first["version"], first["is_new"], again["version"], again["is_new"]) == ("1", True, "1", False)
    assert first["content_hash"] == content_hash
    write_package('{"a": 1}')
    assert register("r")["version"] == "2"
    registry = tracking.client()
    assert str(registry.get_model_version_by_alias("r", "challenger").version) == "2"
    version = registry.get_model_version("r", "1")
    assert version.tags["content_hash"] == content_hash
    local = registry.download_artifacts(version.run_id, "model/transformers/config.json")
    assert Path(local).read_text() == "{}"
    assert paths.receipt("register", "r").is_file()


def test_a_registered_version_is_found_again_when_its_receipt_is_gone(place: Path) -> None:
    write_package("{}")
    register("r")
    paths.receipt("register", "r").unlink()
    assert register("r")["is_new"] is False
    assert paths.receipt("register", "r").is_file()


def test_nothing_is_registered_without_a_package(place: Path) -> None:
    with pytest.raises(Refused, match="hiraku package r"):
        register("r")
    assert not paths.receipt("register", "r").exists()
