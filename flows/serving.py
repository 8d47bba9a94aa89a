"""`hiraku serve` and `hiraku deploy`: the recipes' flows on their clocks, events and buttons.

`serve` is all that a laptop needs: it starts runs until Ctrl-C, each in a process of its own. `deploy` hands the same
deployments to the workers of a pool.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner

from components.outcomes import Refused
from components.recipes import Library
from components.wording import shown
from flows import automations, deployments, events, slots
from flows.session import OURS

Say = Callable[[str], None]


def serve(num_slots: int | None, say: Say) -> int:
    """Serve every deployment of the project until Ctrl-C or SIGTERM; their clocks stand still after.

    Args:
        num_slots: of the limit `gpu`; None leaves it as it is, or makes one.
        say: receives what is served.
    """
    wanted = deployments.deployments(Library())
    events.serving(os.environ["PREFECT_API_URL"])
    _prepare(num_slots, say)
    asyncio.run(_serve(wanted, say))
    return 0


async def _serve(wanted: list[deployments.Deployment], say: Say) -> None:
    runner = Runner(name="hiraku", pause_on_shutdown=True)
    for each in wanted:
        await runner.aadd_deployment(deployments.runner_deployment(each))
        say(_line(each))
    await asyncio.to_thread(_forget_others, wanted, say)
    say(f"Prefect's pages: {shown(os.environ['PREFECT_API_URL']).removesuffix('/api')}. Ctrl-C stops.")
    await runner.start()


def deploy(pool: str, kind: str, num_slots: int | None, say: Say) -> int:
    """Put every deployment of the project on a process pool, which is made if it is missing.

    Raises:
        Refused: the pool is of another type, or of one whose workers this environment has no library for.
    """
    if kind != "process":
        raise Refused(
            f"Workers of type {kind} need prefect-{kind}, which is not part of this environment. Render the files and "
            f"deploy them where it is: hiraku deploy --pool {pool} --type {kind} --render DIR"
        )
    wanted = deployments.deployments(Library())
    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(pool).type
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=pool, type=kind))
            found = kind
    if found != kind:
        raise Refused(f"Work pool '{pool}' is of type {found}, not {kind}. Name another with --pool.")
    _prepare(num_slots, say)
    for each in wanted:
        deployments.runner_deployment(each, pool).apply()
        say(_line(each))
    _forget_others(wanted, say)
    say(f"A worker on this machine, in this environment: prefect worker start --pool {pool}")
    return 0


def render(pool: str, kind: str, image: str, folder: Path, say: Say) -> int:
    """Write prefect.yaml, and for containers a Dockerfile, instead of asking a server for anything."""
    for path in deployments.write(deployments.rendered(Library(), pool, kind, image, folder), folder):
        say(f"{path} was written")
    if kind != "process":
        say(
            f"Validated against Prefect's own schema of prefect.yaml; never run on {kind} from here. Deploy where "
            f"prefect-{kind} is installed."
        )
    say(f"In the project's root: {deployments.deploy_command(folder)}")
    return 0


def _prepare(num_slots: int | None, say: Say) -> None:
    num_slots = slots.ensure(num_slots)
    made = automations.ensure(say)
    say(f"Limit '{slots.LIMIT}': {num_slots} at once. Automations: {', '.join(made)}.")


def _forget_others(wanted: list[deployments.Deployment], say: Say) -> None:
    """Delete deployments that were made from here of recipes which are gone: their clocks would go on."""
    names = {(_flow_of(each.entrypoint), each.name) for each in wanted}
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[OURS]))
    with get_client(sync_client=True) as client:
        for found in list(_pages(lambda offset: client.read_deployments(deployment_filter=ours, offset=offset))):
            flow = _flow_of(found.entrypoint or "")
            if found.path == str(Path.cwd()) and (flow, found.name) not in names:
                client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
                client.delete_deployment(found.id)
                say(f"{flow}/{found.name}: deleted, since no recipe here asks for it any more")


def _pages(read: Callable[[int], list[Any]]) -> Iterator[Any]:
    """Everything that a search of Prefect finds, which it gives page by page."""
    offset = 0
    while rows := read(offset):
        yield from rows
        offset += len(rows)


def _flow_of(entrypoint: str) -> str:
    """The name of the flow at one of our entry points."""
    return entrypoint.rpartition(".")[2].removesuffix("_flow")


def _line(each: deployments.Deployment) -> str:
    flow = _flow_of(each.entrypoint)
    when = f"{each.cron} {each.timezone}" if each.cron and each.is_active else "by its button"
    more = f", and when {', '.join(each.corpora)} has new data" if each.corpora and each.is_active else ""
    return f"{flow}/{each.name}: {when}{more}"
