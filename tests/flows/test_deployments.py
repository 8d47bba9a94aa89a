"""What Prefect is told of the recipes: the same deployments for a laptop, for a pool, and as files."""

import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from components.outcomes import Refused
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project


@pytest.fixture
def scheduled(project: Project) -> Project:
    """A project one of whose recipes has a schedule."""
    recipe = Path(f"recipes/{RECIPE}.yaml")
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"schedule": {"cron": "5 4 * * *"}}))
    return project


def test_a_pool_has_every_recipe_once_with_clock_event_and_typed_parameters(
    scheduled: Project, prefect_server: str
) -> None:
    from prefect.client.orchestration import get_client

    from flows import serving

    gone = Path("recipes/old.yaml")
    gone.write_text(Path(f"recipes/{RECIPE}.yaml").read_text())
    said: list[str] = []
    serving.deploy("pool-of-tests", "process", 2, said.append)
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("retrain/old").schedules
        somebody_elses = client.create_deployment(client.create_flow_from_name("retrain"), "theirs", tags=["hiraku"])
        gone.unlink()
        serving.deploy("pool-of-tests", "process", 2, said.append)
        assert "retrain/old: deleted, since no recipe here asks for it any more" in said
        assert "old" not in {each.name for each in client.read_deployments()}
        assert client.read_automations_by_name("hiraku: new data for old") == []
        assert client.read_deployment(somebody_elses).name == "theirs"
        client.delete_deployment(somebody_elses)
    assert any(line.startswith(f"retrain/{RECIPE}: 5 4 * * * Asia/Tokyo, and when smoke-text has") for line in said)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"retrain/{RECIPE}")
        assert client.read_global_concurrency_limit_by_name("gpu").limit == 2
        triggers = client.read_automations_by_name(f"hiraku: new data for {RECIPE}")
        (button,) = [
            each for each in client.read_deployments() if each.name == "smoke-gpt-neox" and "retrain" in each.entrypoint
        ]
    assert [each.schedule.cron for each in deployment.schedules] == ["5 4 * * *"]
    beats = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    assert deployment.job_variables == {"working_dir": str(scheduled.folder), "env": beats}
    properties = deployment.parameter_openapi_schema["properties"]
    assert properties["force"]["type"] == "boolean"
    assert "drifted" in properties["force"]["description"]
    assert len(triggers) == 1
    assert button.schedules == []
    with pytest.raises(Refused, match="--render DIR"):
        serving.deploy("pool-of-tests", "docker", None, said.append)


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_rendered_files_are_what_prefect_reads_and_hold_no_secret(
    scheduled: Project, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    from flows import deployments, serving

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:word@tracking:5000")
    folder = scheduled.folder / "to" / "deploy"
    said: list[str] = []
    serving.render("p", kind, "registry.example/hiraku:7", folder, said.append)
    assert said[-1].endswith("prefect --no-prompt deploy --all --prefect-file to/deploy/prefect.yaml")
    files = {path.name: path.read_text() for path in folder.iterdir()}
    read = yaml.safe_load(files["prefect.yaml"])
    model = PrefectYamlModel.model_validate(read)
    assert "hf_secret" not in "".join(files.values())
    assert "word" not in "".join(files.values())
    by_name = {(each.name, each.entrypoint): each for each in model.deployments}
    entry = by_name[RECIPE, deployments.RETRAIN]
    module, _, name = deployments.RETRAIN.rpartition(".")
    assert hasattr(import_module(module), name)
    assert entry.triggers[0]["match"]["hiraku.by"] == f"!{RECIPE}"
    variables = entry.work_pool.job_variables
    assert variables.get("image") == (None if kind == "process" else "registry.example/hiraku:7")
    assert variables["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    if kind == "process":
        assert sorted(files) == ["prefect.yaml"]
    else:
        assert sorted(files) == ["Dockerfile", "Dockerfile.dockerignore", "prefect.yaml"]
        (step,) = read["build"][0].values()
        assert Path(step["dockerfile"]).is_file(), "Prefect builds in the project's root"
    (folder / "prefect.yaml").write_text("mine: true\n")
    with pytest.raises(Refused, match="was not rendered by hiraku"):
        deployments.write(files, folder)


def test_an_image_takes_in_the_code_and_no_file_that_holds_secrets_or_data() -> None:
    from pathspec import PathSpec

    from flows import deployments

    root = (ROOT / ".dockerignore").read_text()
    assert root == deployments.LEFT_OUT_TEXT
    left_out = PathSpec.from_lines("gitwildmatch", root.splitlines()).match_file
    secret = [".dvc/config.local", ".git/config", "mlflow/.env", "mlflow/accounts.ini", ".env", "accounts.ini"]
    large = [
        ".hiraku/mlflow/mlflow.db",
        "data/a.jsonl",
        "artifacts/packaged/x",
        ".venv/bin/python",
        "mlflow/server/bin/x",
    ]
    assert [path for path in secret + large if not left_out(path)] == []
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [path for path in [*listed.split(), ".git/HEAD", ".dvc/config"] if left_out(path)] == []


def test_git_leaves_out_what_the_tracking_servers_page_has_people_write() -> None:
    written = ["mlflow/.env", "mlflow/accounts.ini", "accounts.ini", "mlflow/server/bin/mlflow", "mlflow/mlflow.db"]
    written += ["mlflow/accounts.db", "mlflow/files/0/x"]
    done = subprocess.run(["git", "check-ignore", *written], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == written
