"""The release of a recipe: every stage it depends on, each a Prefect task that runs one DVC stage.

Prefect decides when and how often, DVC what is stale, MLflow remembers what came out. Import it when
`components.settings.set_quiet_environment` and `flows.server.running` have set what Prefect reads on import.

A worker can run a deployment whose entry point is `flows.release.release_flow` and whose working directory is the root
of the project; it has imported Prefect before this, so Prefect's own settings come from the worker's environment.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from prefect import flow

from components.graph import Stage, plan, plan_to
from components.recipes import Library
from flows import collect
from flows.checks import before_publish, before_release, before_verb
from flows.session import joined, run
from flows.summary import Summary
from flows.tasks import collect_data, fetch_model, run_publish, run_register, run_stages, show_scores
from models import part_of

FLOW_NAMES = {"text": "language", "image": "vision", "speech": "speech"}
"""Modality of a recipe -> name of its flow, and of the experiment its runs stand in."""
STAGES = "stages"
"""Experiment of the runs that are no release."""

Say = Callable[[str], None]


@flow(name="release", persist_result=False)
def release_flow(recipe: str) -> None:
    """Every stage of a recipe, each after its parents, then its registration."""
    with joined("release", recipe, experiment_of(recipe), partial(before_release, recipe)):
        stages = plan(Library(), recipe)
        collect_missing(stages)
        run_stages(stages)
        run_register(recipe)
        show_scores(recipe)


@flow(name="stage", persist_result=False)
def stage_flow(verb: str, name: str) -> None:
    """One stage."""
    with joined(verb, name, STAGES, partial(before_verb, verb, name)):
        stages = plan_to(Library(), verb, name)[-1:]
        collect_missing(stages)
        run_stages(stages)
        if verb == "evaluate":
            show_scores(name)


@flow(name="register", persist_result=False)
def register_flow(recipe: str) -> None:
    """Register one package."""
    with joined("register", recipe, STAGES, partial(before_verb, "register", recipe)):
        run_register(recipe)


@flow(name="publish", persist_result=False)
def publish_flow(recipe: str, version: str = "", to: str | None = None, unapproved: bool = False) -> None:
    """Publish one version.

    Args:
        recipe: The recipe whose model is published, such as gpt-demo.
        version: A version of the registry, or an alias such as champion; empty for the one that the package here is.
        to: A folder that gets the files instead of the places that the recipe names.
        unapproved: Publish a version that was never promoted, though the recipe asks for a person's approval.
    """
    with joined("publish", recipe, STAGES, partial(before_publish, recipe, to)):
        run_publish(recipe, version, to, unapproved)


def _modality(recipe: str) -> str:
    return str(part_of(Library().read("recipe", recipe).family, "schema").MODALITY)


def experiment_of(recipe: str) -> str:
    """Where the runs of a recipe stand on the tracking server."""
    return FLOW_NAMES[_modality(recipe)]


def collect_missing(stages: list[Stage]) -> None:
    """Bring the raw data and models that stages need and that are not here, or no longer what is named."""
    corpora = collect.missing(Library(), stages)
    if corpora:
        collect_data(corpora)
    for recipe in collect.missing_models(Library(), stages):
        fetch_model(recipe)


def release(recipe: str, say: Say = print) -> Summary:
    """Run the release of a recipe to its end, after `flows.checks.before_release`.

    Raises:
        Refused: input is wrong or a result cannot be accepted; what is done stays, the next run goes on from there.
    """
    modality = _modality(recipe)
    named = release_flow.with_options(name=FLOW_NAMES[modality], flow_run_name=f"release {recipe}")
    marks = [f"recipe:{recipe}", f"modality:{modality}"]
    return run("release", recipe, FLOW_NAMES[modality], marks, say, lambda: named(recipe))


def run_verb(verb: str, name: str, say: Say = print) -> Summary:
    """Run one verb on one name, after `flows.checks.before_verb`.

    Raises:
        Refused: as `release`.
    """
    if verb == "publish":
        return publish(name, say=say)
    one_flow: Any = register_flow if verb == "register" else stage_flow
    named = one_flow.with_options(flow_run_name=f"{verb} {name}")
    words = (name,) if verb == "register" else (verb, name)
    return run(verb, name, STAGES, [f"verb:{verb}"], say, lambda: named(*words))


def publish(name: str, version: str = "", to: str | None = None, say: Say = print, unapproved: bool = False) -> Summary:
    """Publish a version of a recipe's model, after `flows.checks.before_publish`.

    Raises:
        Refused: as `components.publish.publish`.
    """
    named = publish_flow.with_options(flow_run_name=f"publish {name}")
    return run("publish", name, STAGES, ["verb:publish"], say, lambda: named(name, version, to, unapproved))
