"""Runs, points and versions on the embedded tracking server."""

import shutil
import socket
from functools import partial
from pathlib import Path

import pytest

from components import paths, processes, tracking
from components.manifest import Manifest, writing
from components.outcomes import Refused
from components.register import register


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after its migrations, which take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.sweep()
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


def test_only_runs_of_dead_processes_are_swept_wherever_they_stand(place: Path) -> None:
    gone = processes.mark().rpartition("/")[0] + "/1@0"
    living = tracking.Release("living", "language").open()
    dead = [tracking.Release("dead", experiment).open() for experiment in ("language", "stages")]
    elsewhere = tracking.Release("elsewhere", "language").open()
    for run in (*dead, elsewhere):
        tracking.tag_run(run, "hiraku.process", gone)
    tracking.tag_run(elsewhere, "hiraku.host", "another-machine")
    assert tracking.sweep() == 2
    status = {run: tracking.client().get_run(run).info.status for run in (living, *dead, elsewhere)}
    assert status == {living: "RUNNING", **dict.fromkeys(dead, "KILLED"), elsewhere: "RUNNING"}


def test_a_search_brings_every_page(place: Path) -> None:
    made = {tracking.Release(str(number), "language").open() for number in range(3)}
    experiment = tracking.client().get_experiment_by_name("language").experiment_id
    found = tracking.every(partial(tracking.client().search_runs, [experiment], max_results=2))
    assert {run.info.run_id for run in found} == made


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_server_runs_and_their_files_are_this_projects(
    place: Path, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
    run_id = tracking.Release("r", "language").open()
    kept = tracking.client().get_run(run_id).info.artifact_uri
    assert kept.startswith((place / tracking.HOME / "artifacts").as_uri())


def test_why_an_earlier_try_failed_goes_when_its_run_is_reopened(place: Path) -> None:
    release = tracking.Release("r", "language")
    first = tracking.open_stage_run(release, "pretrain", "r", {})
    tracking.tag_run(first, tracking.REASON, "It fell over.")
    tracking.close_run(first, "FAILED")
    assert tracking.open_stage_run(release, "pretrain", "r", {}, resume=first) == first
    assert tracking.REASON not in tracking.client().get_run(first).data.tags


def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:  # bound, but nobody listens
        nobody.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:p@ss@{place}")
        with pytest.raises(Refused, match=f"is http://{place}, but nothing answers") as refusal:
            tracking.require_server()
    assert "p@ss" not in str(refusal.value)


def write_package(text: str) -> str:
    manifest = Manifest("package", "r", {"components.package": 1}, licence="CC0-1.0")
    with writing(manifest) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text(text)
    return manifest.payload_hash


def test_a_package_is_registered_once_and_a_changed_one_is_the_next_version(place: Path) -> None:
    content_hash = write_package("{}")
    first = register("r", tracking.Release("r", "language"))
    again = register("r", tracking.Release("r", "language"))
    assert (first["version"], first["is_new"], again["version"], again["is_new"]) == ("1", True, "1", False)
    assert first["content_hash"] == content_hash
    write_package('{"a": 1}')
    assert register("r", tracking.Release("r", "language"))["version"] == "2"
    registry = tracking.client()
    assert str(registry.get_model_version_by_alias("r", "challenger").version) == "2"
    version = registry.get_model_version("r", "1")
    assert version.tags["content_hash"] == content_hash
    local = registry.download_artifacts(version.run_id, "model/transformers/config.json")
    assert Path(local).read_text() == "{}"
    assert paths.receipt("register", "r").is_file()


def test_a_registered_version_is_found_again_when_its_receipt_is_gone(place: Path) -> None:
    write_package("{}")
    register("r", tracking.Release("r", "language"))
    paths.receipt("register", "r").unlink()
    assert register("r", tracking.Release("r", "language"))["is_new"] is False
    assert paths.receipt("register", "r").is_file()


def test_nothing_is_registered_without_a_package(place: Path) -> None:
    with pytest.raises(Refused, match="hiraku package r"):
        register("r", tracking.Release("r", "language"))
    assert not paths.receipt("register", "r").exists()


def test_a_silent_server_is_told_without_its_password_and_this_machines_errors_pass(monkeypatch) -> None:
    address = "http://anna:secret@example.test"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    told = r"^http://example\.test does not answer as a registry should \(no route to http://example\.test\)$"
    with pytest.raises(Refused, match=told), tracking.silence_told(Refused, "registry"):
        raise ConnectionError(f"no route to {address}")
    with pytest.raises(PermissionError), tracking.silence_told(Refused):
        raise PermissionError("of a file")
