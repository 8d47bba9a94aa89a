"""A Prefect worker runs the deployment of a promotion: suspended, approved through Prefect's API, champion."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from components import decisions
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_launch import wait_until
from tests.flows.test_worker import POOL, logged, prefect_server, state_of, worker
from tests.flows.versions import SAME, add_version, champion, set_recipe, version_of

__all__ = ["prefect_server", "worker"]  # fixtures
SECONDS = 180.0


def ask_for_run(project: Project) -> UUID:
    """Deploy the flow, and ask for one run of it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.utilities.callables import parameter_schema

    from flows.promote import promote_flow

    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        deployment = client.create_deployment(
            client.create_flow_from_name("promote"),
            name=RECIPE,
            work_pool_name=POOL,
            entrypoint="flows.promote.promote_flow",
            job_variables={"working_dir": str(project.folder)},
            parameter_openapi_schema=parameter_schema(promote_flow).model_dump_for_openapi(),
        )
        form = client.read_deployment(deployment).parameter_openapi_schema["properties"]
        assert all(each["description"] for each in form.values()), form
        return client.create_flow_run_from_deployment(deployment, parameters={"recipe": RECIPE}).id


@pytest.mark.slow
def test_a_worker_suspends_a_promotion_until_a_person_approves_in_prefect(
    project: Project, flows, worker: "subprocess.Popen[bytes]", package: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    set_recipe(publish=None)
    add_version(package, SAME)
    flow_run = ask_for_run(project)
    wait_until(lambda: state_of(flow_run) in {"PAUSED", "FAILED", "CRASHED"}, "it does not end", SECONDS)
    assert state_of(flow_run) == "PAUSED", logged(flow_run)
    assert decisions.last(version_of("1")).outcome == "waiting"
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"promotion-{RECIPE}"]))
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
        assert "| passed | loads | loaded before in a fresh process" in str(artifact.data)
        refused: Any = client.resume_flow_run(flow_run, run_input={"approve": True})
        assert refused.status.value == "REJECT"  # the form wants a name
        given = {"approve": True, "name": "anna", "note": "sounds right"}
        assert client.resume_flow_run(flow_run, run_input=given).status.value == "ACCEPT"
    wait_until(lambda: state_of(flow_run) in {"COMPLETED", "FAILED", "CRASHED"}, "it does not go on", SECONDS)
    assert state_of(flow_run) == "COMPLETED", logged(flow_run)
    decision = decisions.last(version_of("1"))
    assert (champion(), decision.outcome, decision.by) == ("1", "promoted", "anna")
