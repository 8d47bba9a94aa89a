"""The deployments of the recipes: what Prefect knows of each, for `hiraku serve`, for work pools, and as prefect.yaml.

Every recipe of ours has a deployment of the flow `retrain`, named after it: its button with typed parameters stands in
Prefect's pages. A recipe with a section `schedule` has a clock too, and begins when one of its corpora has new data.
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import prefect
import yaml
from prefect.cli.deploy._models import PrefectYamlModel, RawScheduleConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.schedules import Cron

from components.graph import plan
from components.outcomes import Refused
from components.recipes import Foreign, Library
from components.settings import HEARTBEATS
from components.wording import shown
from flows.events import BY, CORPUS_LANDED, corpus_resource
from flows.session import OURS

RETRAIN = "flows.retrain.retrain_flow"
PROMOTE = "flows.promote.promote_flow"
"""Dotted entry points: a flow that is loaded by its path is a second copy of its module."""
FILE_NAME = "prefect.yaml"
DOCKER_FILE = "Dockerfile"
CODE_FOLDER = "/hiraku"
"""Where an image keeps the project."""
PASSED_ON = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "HF_ENDPOINT")
"""Addresses that a container is given; secrets come from the pool, and never stand in a file."""


@dataclass(frozen=True)
class Deployment:
    """One deployment, whoever runs it."""

    name: str
    entrypoint: str
    description: str
    parameters: dict[str, Any]
    tags: list[str]
    cron: str = ""
    timezone: str = ""
    is_active: bool = True
    corpora: list[str] = field(default_factory=list)
    """Whose events begin it."""

    def trigger(self) -> dict[str, Any]:
        """What begins it besides the clock: a corpus that landed, unless this recipe's own flow has brought it."""
        return {
            "type": "event",
            "name": f"{OURS}: new data for {self.name}",
            "enabled": self.is_active,
            "posture": "Reactive",
            "expect": [CORPUS_LANDED],
            "match": {"prefect.resource.id": [corpus_resource(each) for each in self.corpora], BY: f"!{self.name}"},
            "threshold": 1,
            "within": 0,
        }


def deployments(library: Library) -> list[Deployment]:
    """Every deployment of the project, by the names of recipes."""
    return [each for name in library.files["recipe"] for each in _of_recipe(library, name)]


def _of_recipe(library: Library, name: str) -> Iterator[Deployment]:
    recipe = library.read("recipe", name)
    if isinstance(recipe, Foreign):
        return
    schedule = recipe.schedule
    tags = [OURS, f"recipe:{name}"]
    corpora = [stage.name for stage in plan(library, name) if stage.verb == "ingest"]
    clock: dict[str, Any] = {}
    if schedule is not None:
        clock = {"cron": schedule.cron, "timezone": schedule.timezone, "is_active": schedule.is_active}
        clock["corpora"] = corpora if schedule.on_data else []
    text = f"{recipe.description} Brings it up to date with its data; nothing new, nothing done."
    yield Deployment(name, RETRAIN, text, {"recipe": name, "force": False}, tags, **clock)
    if find_spec("flows.promote") and getattr(recipe, "promote", None) is not None:
        text = f"Compares the challenger of {name} with its champion, and moves the champion if it may."
        yield Deployment(name, PROMOTE, text, {"recipe": name}, tags)


# ---- for Prefect -----------------------------------------------------------------------------------------------------


def runner_deployment(each: Deployment, pool: str | None = None) -> RunnerDeployment:
    """What Prefect is given, for a runner of ours, or for the workers of a process pool on this checkout."""
    schedules = [Cron(each.cron, timezone=each.timezone, active=each.is_active)] if each.cron else []
    triggers: Any = [DeploymentEventTrigger.model_validate(each.trigger())] if each.corpora else []
    variables: dict[str, Any] = {"working_dir": str(Path.cwd()), "env": HEARTBEATS} if pool else {}
    return RunnerDeployment.from_entrypoint(
        each.entrypoint,
        name=each.name,
        schedules=schedules or None,
        parameters=each.parameters,
        description=each.description,
        tags=each.tags,
        triggers=triggers,
        work_pool_name=pool,
        job_variables=variables,
        paused=False,
    )


def rendered(library: Library, pool: str, kind: str, image: str, folder: Path) -> dict[str, str]:
    """The files of `hiraku deploy --render`: name -> text.

    Args:
        library: what can be made.
        pool: the work pool's name.
        kind: its type: process, docker or kubernetes.
        image: of a container, with its tag.
        folder: that they are for.
    """
    here = str(Path.cwd())
    variables: dict[str, Any] = {"working_dir": here, "env": HEARTBEATS}
    steps: dict[str, Any] = {"pull": [{"prefect.deployments.steps.set_working_directory": {"directory": here}}]}
    if kind != "process":
        variables = {"image": image, "env": HEARTBEATS | _addresses()}
        if kind == "docker":
            variables["volumes"] = [f"hiraku-{each}:{CODE_FOLDER}/{each}" for each in (".hiraku", "data", "artifacts")]
        steps = _container_steps(image, _from_root(folder) / DOCKER_FILE)
    body: dict[str, Any] = {
        "name": "hiraku",
        "prefect-version": prefect.__version__,
        **steps,
        "deployments": [_entry(each, pool, variables) for each in deployments(library)],
    }
    PrefectYamlModel.model_validate(body)
    for each in body["deployments"]:
        for schedule in each.get("schedules", []):
            RawScheduleConfig.model_validate(schedule)
        for trigger in each.get("triggers", []):
            DeploymentEventTrigger.model_validate(trigger)
    head = f"# Rendered by `hiraku deploy --render`. Then, in the project's root: {deploy_command(folder)}"
    files = {FILE_NAME: f"{head}\n{_yaml(body)}"}
    if kind != "process":
        files |= {DOCKER_FILE: DOCKER_TEXT, f"{DOCKER_FILE}.dockerignore": LEFT_OUT_TEXT}
    return files


def _entry(each: Deployment, pool: str, variables: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": each.name,
        "entrypoint": each.entrypoint,
        "description": each.description,
        "tags": each.tags,
        "parameters": each.parameters,
        "work_pool": {"name": pool, "job_variables": variables},
    }
    if each.cron:
        entry["schedules"] = [{"cron": each.cron, "timezone": each.timezone, "active": each.is_active}]
    if each.corpora:
        entry["triggers"] = [each.trigger()]
    return entry


def _yaml(body: dict[str, Any]) -> str:
    return yaml.dump(body, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Without anchors: a person reads one deployment at a time."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _addresses() -> dict[str, str]:
    """Of servers, as this machine has them, without passwords; what is not set is left to the pool."""
    return {name: shown(os.environ[name]) for name in PASSED_ON if os.environ.get(name)}


def _from_root(folder: Path) -> Path:
    """A folder as it is called from the project's root, where Prefect builds and deploys."""
    here = Path.cwd()
    return folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder.resolve()


def deploy_command(folder: Path) -> str:
    """How rendered files are deployed."""
    return f"prefect --no-prompt deploy --all --prefect-file {shlex.quote(str(_from_root(folder) / FILE_NAME))}"


def _container_steps(image: str, docker_file: Path) -> dict[str, Any]:
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "")
    build = {"requires": "prefect-docker", "image_name": name, "tag": tag or "latest", "dockerfile": str(docker_file)}
    push = {"requires": "prefect-docker", "image_name": name, "tag": tag or "latest"}
    return {
        "build": [{"prefect_docker.deployments.steps.build_docker_image": {"id": "image", **build}}],
        "push": [{"prefect_docker.deployments.steps.push_docker_image": push}],
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": CODE_FOLDER}}],
    }


DOCKER_TEXT = f"""# Rendered by `hiraku deploy --render`; build it with the project's root as context.
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR {CODE_FOLDER}
COPY . .
RUN pip install --no-cache-dir -r requirements.lock && pip install --no-cache-dir --no-deps --no-build-isolation -e .
RUN git rev-parse 2>/dev/null || (git init -q && git add -A)
"""


LEFT_OUT_TEXT = """# Rendered by `hiraku deploy --render`: what no image takes in.
# It holds secrets, or is made or brought where the image runs.
.hiraku
.venv
data
artifacts
.dvc/cache
.dvc/config.local
.dvc/tmp
.git/config
.git/hooks
.git/logs
mlflow/*.db
mlflow/files
mlflow/server
**/.env
**/.env.*
**/.netrc
**/accounts.ini
**/__pycache__
**/.*_cache
.bench
"""
"""Beside a Dockerfile BuildKit reads it by its longer name; the same stands in the root for whatever builds there."""


def write(files: dict[str, str], folder: Path) -> list[Path]:
    """Write rendered files into a folder.

    Raises:
        Refused: a file is there that differs and that no rendering has written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        if path.is_file() and "Rendered by `hiraku deploy" not in path.read_text(encoding="utf-8"):
            raise Refused(f"{path} is there and was not rendered by hiraku. Take another folder: --render DIR")
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in files]
