"""What Prefect is told of the recipes: the same deployments for a laptop, for a pool, and as files."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from components.outcomes import Refused
from components.recipes import Library
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

    said: list[str] = []
    for _ in range(2):
        serving.deploy("pool-of-tests", "process", 2, said.append)
    assert any(line.startswith(f"retrain/{RECIPE}: 5 4 * * * Asia/Tokyo, and when smoke-text has") for line in said)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"retrain/{RECIPE}")
        assert client.read_global_concurrency_limit_by_name("gpu").limit == 2
        triggers = client.read_automations_by_name(f"hiraku: new data for {RECIPE}")
        (button,) = [
            each for each in client.read_deployments() if each.name == "smoke-gpt-neox" and "retrain" in each.entrypoint
        ]
    assert [each.schedule.cron for each in deployment.schedules] == ["5 4 * * *"]
    assert deployment.job_variables["working_dir"] == str(scheduled.folder)
    properties = deployment.parameter_openapi_schema["properties"]
    assert properties["force"]["type"] == "boolean"
    assert "drifted" in properties["force"]["description"]
    assert len(triggers) == 1
    assert button.schedules == []
    with pytest.raises(Refused, match="--render DIR"):
        serving.deploy("pool-of-tests", "docker", None, said.append)


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_rendered_files_are_what_prefect_reads_and_hold_no_secret(
    scheduled: Project, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    from flows import deployments

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:word@tracking:5000")
    files = deployments.rendered(Library(), "p", kind, "registry.example/hiraku:7")
    written = deployments.write(files, tmp_path)
    read = yaml.safe_load((tmp_path / "prefect.yaml").read_text())
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
    assert [path.name for path in written] == ["prefect.yaml"] + ["Dockerfile"] * (kind != "process")
    (tmp_path / "prefect.yaml").write_text("mine: true\n")
    with pytest.raises(Refused, match="was not rendered by hiraku"):
        deployments.write(files, tmp_path)
