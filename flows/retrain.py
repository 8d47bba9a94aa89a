"""The scheduled flow of a recipe: new raw data come in, and the model is made again if anything it depends on changed.

`hiraku serve` and `hiraku deploy` start it by the clock, by the event of a corpus that landed, and by the button in
Prefect's pages. With nothing new it ends within seconds.
"""

from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRunPolicy
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Completed

from components import decisions, drift, paths, registry
from components.graph import Node, Stage, plan
from components.manifest import read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.release_schema import Schedule
from components.wording import one_line, shown
from flows import collect, events, follow, history, profiles, trouble
from flows.checks import before_retrain
from flows.launch import StageFailed, StageStopped
from flows.release import collect_missing, experiment_of
from flows.session import current, joined
from flows.tasks import run_register, run_stages, show_scores, when_free

NOTHING_NEW = "nothing new"
"""The message of a run that had nothing to do."""
UNSCHEDULED = Schedule(cron="0 0 1 1 *", is_active=False)
"""Of a recipe without the section: it is started by hand, with the defaults."""
DATA_VERBS = ("ingest", "validate")
RETRY_SECONDS = 60
BACK = "Start it again (mlflow/README.md); the next run goes on from here."
ENDED = sorted(TERMINAL_STATES)


@flow(name="retrain", flow_run_name="retrain {recipe}", persist_result=False)
def retrain_flow(recipe: str, force: bool = False) -> object:
    """Bring a recipe up to date with its data and register what comes out as challenger; nothing new, nothing done.

    Args:
        recipe: The recipe to bring up to date, such as gpt-demo.
        force: Go on although the data have drifted further from the champion's than the recipe's schedule.max_drift.
    """
    library = Library()
    with joined("release", recipe, experiment_of(recipe), partial(before_retrain, recipe)):
        schedule = getattr(library.read("recipe", recipe), "schedule", None) or UNSCHEDULED
        try:
            with trouble.told(BACK):
                return _retrain(library, recipe, schedule.max_drift, force)
        except StageStopped:
            raise
        except StageFailed:
            _allow_retries(schedule.max_retries)
            raise


def _retrain(library: Library, recipe: str, bound: float, force: bool) -> object:
    """Everything between the checks and the final state, which it returns."""
    session = current()
    stages = plan(library, recipe)
    update_raw_data(recipe)
    collect.require_obtainable(library, stages)
    collect_missing(stages)
    if is_up_to_date(recipe, stages):
        ask_for_promotion(library, recipe)
        session.say(f"── {recipe}: {NOTHING_NEW}")
        return Completed(message=NOTHING_NEW)
    data = of_raw_data(stages)
    run_stages(data)
    measure_drift(recipe, [each.name for each in data], bound, force)
    run_stages([each for each in stages if each not in data])
    run_register(recipe)
    show_scores(recipe)
    ask_for_promotion(library, recipe)
    receipt = session.summary.receipt
    what = "a new challenger" if receipt["is_new"] else "registered before"
    return Completed(message=f"version {receipt['version']}, {what}")


def of_raw_data(stages: list[Stage]) -> list[Stage]:
    """The stages that take data in and wait for no model, parents before children: drift is told before any training.

    A corpus that a model filters or translates waits for that model.
    """
    found: dict[Node, Stage] = {}
    for stage in stages:
        if stage.verb in DATA_VERBS and all(parent in found for parent in stage.parents):
            found[stage.verb, stage.name] = stage
    return list(found.values())


def is_up_to_date(recipe: str, stages: list[Stage]) -> bool:
    """Whether DVC finds every stage fresh and the registry has the package."""
    if not all(current().is_fresh(stage.address) for stage in stages):
        return False
    return registry.find_version(recipe, read_manifest("package", recipe).payload_hash) is not None


@task(task_run_name="update raw data of {recipe}", cache_policy=NO_CACHE, persist_result=False)
@trouble.told(BACK)
def update_raw_data(recipe: str) -> None:
    """Move `data.dvc` forward to the newest release's, then bring new files of the folders that corpora follow."""
    session = current()
    library = Library()
    stages = plan(library, recipe)
    before = history.version()
    brought: dict[str, list[Path]] = {}

    def update() -> None:
        with follow.data_held():
            history.catch_up(library, stages, session.repo, session.say)
            for stage in (each for each in stages if each.verb == "ingest"):
                brought[stage.name] = follow.bring(library, stage.name, session.repo, session.say)
            history.note(before, history.version())

    when_free(update, f"raw data of {recipe}", session.say)
    session.release.tags.update(history.data_tags())
    for corpus, places in brought.items():
        if places:
            names = ", ".join(place.as_posix() for place in places)
            session.say(f"── {corpus}: {len(places)} new or changed files: {one_line(names, 400)}")
            session.release.tags[f"landed {corpus}"] = one_line(names, 4000)
            events.corpus_landed(corpus, history.version(), by=recipe)


@task(task_run_name="drift of {recipe}", cache_policy=NO_CACHE, persist_result=False)
@trouble.told(BACK)
def measure_drift(recipe: str, taken_in: list[str], bound: float, force: bool) -> None:
    """Compare the profiles of the recipe's corpora with those that the champion was trained on.

    Raises:
        Refused: a fact has shifted beyond the bound, and nobody forces it.
    """
    session = current()
    drifts, without = profiles.drifts(recipe, taken_in)
    for corpus in without:
        session.say(f"── drift of {corpus}: {without[corpus]}")
    if not drifts:
        return
    text = drift.as_markdown(drifts, bound)
    create_markdown_artifact(text, key=f"drift-{recipe}".replace(".", "-"), description=f"Drift of {recipe}'s data")
    session.release.open()
    with session.guarded("MLflow did not take the drift"):
        profiles.keep_drift(session.release, drifts, text)
    for each in drifts:
        session.say(f"── {drift.in_a_line(each, bound)}")
    beyond = {each.corpus: each.beyond(bound) for each in drifts if each.beyond(bound)}
    if beyond and not force:
        facts = "; ".join(f"{corpus}: {shift.fact} {shift.index:.3f}" for corpus in beyond for shift in beyond[corpus])
        reports = ", ".join(str(paths.state("validate", corpus) / "report.html") for corpus in beyond)
        raise Refused(
            f"The data of {recipe} have drifted from the champion's beyond {bound:g} ({facts}). Look at artifact "
            f"drift-{recipe} and at {reports}. To train on them all the same, start the flow with force set; to allow "
            "as much every time, raise schedule.max_drift."
        )


def ask_for_promotion(library: Library, recipe: str) -> None:
    """Start the promotion of a challenger that nobody has decided on, where the schedule says so.

    Asked in every run, also of nothing new: what an earlier one could not start is made up for. A promotion that waits
    for its worker or for an answer is not started again.
    """
    schedule = library.read("recipe", recipe).schedule
    if schedule is None or schedule.promote == "none":
        return
    challenger = registry.read_version(recipe, registry.CHALLENGER)
    champion = registry.read_version(recipe, registry.CHAMPION)
    if challenger is None or challenger == champion or decisions.is_decided(challenger):
        return
    session = current()
    words = {"recipe": recipe, "version": challenger.version, "content_hash": challenger.content_hash}
    try:
        if not _is_asked(recipe, words):
            started: Any = run_deployment(f"promote/{recipe}", parameters=words, timeout=0, as_subflow=False)
            session.say(f"── promotion of version {challenger.version}: flow run {started.name}")
    except (HTTPError, PrefectException) as error:
        session.summary.troubles.append(
            f"The promotion of version {challenger.version} was not started ({one_line(shown(error), 300)}); the next "
            f"run of this flow tries again. By hand: hiraku promote {recipe}"
        )


def _is_asked(recipe: str, words: dict[str, str]) -> bool:
    """Whether a run of the promotion that has not ended has these parameters."""
    of_recipe = DeploymentFilter(name=DeploymentFilterName(any_=[recipe]))
    unended = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=ENDED)))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(deployment_filter=of_recipe, flow_run_filter=unended)
    return any(words.items() <= run.parameters.items() for run in found)


def _allow_retries(most: int) -> None:
    """Have Prefect begin this flow again after it fails; called only for a failure that may end otherwise."""
    with get_client(sync_client=True) as client:
        policy = FlowRunPolicy(retries=most, retry_delay=RETRY_SECONDS)
        client.update_flow_run(UUID(flow_run.id), empirical_policy=policy)
    get_run_logger().info("The flow may be begun again %d times.", most)
