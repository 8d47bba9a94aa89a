"""The tracking server for a team: the compose file is closed and pinned, the plain command does what its page says."""

import base64
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from flows import server
from tests.conftest import ROOT
from tests.flows.test_launch import wait_until

FOLDER = ROOT / "mlflow"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|_URI$")
PASSWORD = "correct-horse-battery"


# ---- the compose file ------------------------------------------------------------------------------------------------


def test_every_service_has_a_health_check_and_starts_again_and_waits_for_those_it_needs() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"database", "store", "server"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
    assert {name: each["condition"] for name, each in services["server"]["depends_on"].items()} == {
        "database": "service_healthy",
        "store": "service_healthy",
    }


def test_images_and_packages_are_pinned_and_the_server_is_the_library_of_the_project() -> None:
    dockerfile = COMPOSE["services"]["server"]["build"]["dockerfile_inline"]
    images = [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(images) == 3
    for image in images:
        assert re.search(r":\d+\.\d+", image), image
    packages = re.findall(r'"([^"]+)"', dockerfile)
    assert packages
    assert all("==" in package for package in packages)
    assert f"mlflow[auth]=={version('mlflow')}" in packages
    assert f'"mlflow[auth]=={version("mlflow")}"' in README


def test_no_secret_has_a_default_and_each_is_made_by_the_readme() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", (FOLDER / "compose.yaml").read_text()))
    assert needed == set(re.findall(r"^    (MLFLOW_\w+)=\$\(openssl", README, re.MULTILINE))
    for name, service in COMPOSE["services"].items():
        for key, value in service["environment"].items():
            if SECRET.search(key):
                assert re.search(r"\$\{\w+(:\?[^}]+)?\}", value), f"{name} {key} is {value}"
    assert "${MLFLOW_DATABASE_PASSWORD}" in COMPOSE["configs"]["accounts"]["content"]


def test_only_the_server_is_reached_from_outside_and_only_from_this_machine() -> None:
    ports = {name: service.get("ports", []) for name, service in COMPOSE["services"].items()}
    assert ports == {"database": [], "store": [], "server": ["127.0.0.1:5000:5000"]}
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    networks = {name: service["networks"] for name, service in COMPOSE["services"].items()}
    assert networks == {"database": ["inside"], "store": ["inside"], "server": ["inside", "outside"]}


def test_the_server_asks_for_a_login_allows_named_hosts_and_runs_no_jobs() -> None:
    service = COMPOSE["services"]["server"]
    words = service["command"]
    assert "--app-name=basic-auth" in words
    assert "--workers=2" in words
    assert any(
        word.startswith("--allowed-hosts=${MLFLOW_ALLOWED_HOSTS:-localhost:5000,127.0.0.1:5000") for word in words
    )
    assert any(word.startswith("--artifacts-destination=${MLFLOW_ARTIFACTS:-s3://mlflow/") for word in words)
    assert service["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert not any("PASSWORD" in word or "postgresql:" in word for word in words), "a command line can be read by all"


# ---- the plain command -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The README's own command, with SQLite as it says for a small team, on a free port."""
    home = tmp_path_factory.mktemp("server")
    (home / "accounts.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\ndatabase_uri = sqlite:///accounts.db\n"
    )
    port = server.free_port()
    found = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert found is not None
    command = found[1].replace("\\\n", " ").replace("5000", str(port)).replace('"$MLFLOW_ARTIFACTS"', "./files")
    program, *words = shlex.split(command)
    assert program == "server/bin/mlflow"
    assert "basic-auth" in words
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db",
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "accounts.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
    }
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: server.answers(f"{url}/health"), "the server does not start", server.START_SECONDS)
        yield url
    finally:
        server.stop(process)


def status_of(url: str, host: str = "", password: str = "") -> int:
    headers = {"Host": host} if host else {}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_plain_command_answers_who_may_ask_and_nobody_else(address: str) -> None:
    question = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(f"{address}/health") == 200
    assert status_of(question) == 401
    assert status_of(question, password="wrong") == 401
    assert status_of(question, password=PASSWORD) == 200
    assert status_of(question, host="evil.example", password=PASSWORD) == 403
    assert status_of(f"{address}/health", host="balancer.example") == 200


@pytest.mark.slow
def test_a_run_and_a_version_with_its_files_go_to_the_plain_server_and_come_back(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components import registry, tracking

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    (tmp_path / "package" / "transformers").mkdir(parents=True)
    (tmp_path / "package" / "transformers" / "config.json").write_text("{}")
    run = tracking.Release("tiny", "tests")
    added = registry.add_version("tiny", run.open(), tmp_path / "package", {"content_hash": "x"})
    run.close("FINISHED")
    with registry.fetched(added) as folder:
        assert (folder / "transformers" / "config.json").read_text() == "{}"
    assert registry.find_version("tiny", "x") == added
