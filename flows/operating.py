"""The words of operation: schedules, comparison, promotion. They import libraries inside, as `command_line` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from flows.terminal import console, say

OPERATION = Group("Operation", sort_key=3)


def compare(
    recipe: str, /, *others: str, last: int = 5, picture: Path | None = None, drawn: Path | None = None, task: str = ""
) -> int:
    """Show the last runs of a recipe side by side; or two models, item by item, as promotion compares them.

    Or, with --drawn, what several recipes drew of the same prompts and seeds, a column for each.

    Of runs it shows differing parameters, what came out, what it cost, data and code; of two models every score with
    its standard error, the gain with its interval, and whether it is more than noise.

    Parameters
    ----------
    recipe
        A recipe, such as gpt-demo; of two models also registry:NAME@ALIAS_OR_VERSION.
    others
        A second model, whose gains over the first are told; of --drawn, the recipes of the other columns.
    last
        How many runs, the newest first.
    picture
        Where the picture of two models goes, an SVG file; MLflow keeps one without it, too.
    drawn
        Where the pictures that recipes drew go, an SVG file; the recipes are evaluated.
    task
        Of --drawn: whose prompts; without it, the first task that all of them drew for.
    """
    if drawn is not None:
        from components.drawn import side_by_side

        svg, count = side_by_side([recipe, *others], task)
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_text(svg, encoding="utf-8")
        say(f"{drawn} has {count} prompts, each with a picture by {', '.join([recipe, *others])}")
        return 0
    if task or len(others) > 1:
        from components.outcomes import Refused

        raise Refused("More than two models, and --task, are of --drawn: hiraku compare A B C --drawn FILE.svg")
    if others:
        from flows import pairing

        found = pairing.paired(recipe, others[0])
        pairing.show(found, console)
        say(pairing.keep(found, picture))
        return 0
    if picture is not None:
        from components.outcomes import Refused

        raise Refused("--picture is of two models. Name the second one: hiraku compare MODEL OTHER --picture FILE")
    from flows import compare as comparing

    comparing.show(comparing.compare(recipe, last), console)
    return 0


def reproduce(model: str, /, *, until: str = "") -> int:
    """Make a model again from its raw bytes, in a folder that is thrown away, and compare every state's hash.

    No result of an earlier run is used. Exit code 1 if a state differs.

    Parameters
    ----------
    model
        A recipe that is packaged, a published or downloaded folder, or registry:NAME@ALIAS_OR_VERSION.
    until
        The last verb to run, such as shard; without it, all to the package.
    """
    from flows import reproduce as again
    from flows import workspace

    workspace.require_project()
    return 0 if again.show(again.reproduce(model, until, say), console) else 1


def promote(recipe: str, /, *, version: str = "", yes: bool = False, registry_only: bool = False) -> int:
    """Make the challenger the champion, if it is no worse, passes the recipe's gates and you agree.

    Parameters
    ----------
    recipe
        A recipe, such as gpt-demo.
    version
        A version's number in the registry; without it, the newest challenger.
    yes
        You agree, unasked.
    registry_only
        Move the champion in the registry and publish nothing.
    """
    from flows import checks, server

    checks.before_promotion(recipe, say)
    with server.running():
        from flows import approval
        from flows import promote as flow

        ask = approval.beforehand if yes else approval.at_terminal
        say(flow.promote(recipe, version, registry_only, ask, say))
    return 0


def rollback(recipe: str, /, *, to: str = "", yes: bool = False, registry_only: bool = False) -> int:
    """Make the champion before this one the champion again, on the Hub and in the registry.

    Parameters
    ----------
    recipe
        A recipe, such as gpt-demo.
    to
        The version to go back to; without it, the one that the present champion replaced.
    yes
        Do not ask.
    registry_only
        Leave what is published as it is.
    """
    from flows import checks, server

    checks.before_promotion(recipe, say)
    if not yes:
        from flows.terminal import confirmed

        confirmed(f"Take the champion of {recipe} back" + (f" to version {to}?" if to else "?"), "--yes")
    with server.running():
        from flows import rollback as flow

        say(flow.rollback(recipe, to, registry_only, say))
    return 0


def lineage(model: str, /, *, mermaid: bool = False) -> int:
    """Show where a model comes from: raw bytes, encoder, recipe, code, parents, licences.

    Parameters
    ----------
    model
        A recipe that is packaged, a published or downloaded folder, or registry:NAME@ALIAS_OR_VERSION.
    mermaid
        Print the graph as Mermaid, as it stands on the card.
    """
    from components.lineage import mermaid as graph
    from flows import ancestry

    origin = ancestry.origin_of(model)
    if mermaid:
        console.print(graph(origin.lineage), markup=False, soft_wrap=True)
    else:
        ancestry.show(origin, console)
    return 0


def serve(*, prefect_port: int = 4200, gpus: int | None = None) -> int:
    """Run every recipe by its schedule, by new data and by its button in Prefect's pages, until Ctrl-C.

    Parameters
    ----------
    prefect_port
        Port of the Prefect server that is started here, unless PREFECT_API_URL names one.
    gpus
        How many stages may compute on GPUs at once, over all machines; without it, as before, or one.
    """
    from flows import checks, server

    checks.before_serve(say)
    with server.serving(prefect_port):
        from flows import serving

        return serving.serve(gpus, say)


def deploy(
    *,
    pool: str = "hiraku",
    kind: Annotated[Literal["process", "docker", "kubernetes"], Parameter(name="--type")] = "process",
    gpus: int | None = None,
    image: str = "hiraku:latest",
    render: Path | None = None,
) -> int:
    """Put every recipe on a work pool of the Prefect server that PREFECT_API_URL names.

    Parameters
    ----------
    pool
        Name of the work pool; a process pool is made if it is missing.
    kind
        Type of the pool: process, docker or kubernetes. The last two are rendered only.
    gpus
        As in: hiraku serve.
    image
        Name and tag of the image of a container.
    render
        Write prefect.yaml, and for containers a Dockerfile, into this folder, and ask no server.
    """
    from flows import checks
    from flows.server import require_api

    checks.before_serve(say)
    if render is None:
        require_api()
    from flows import serving

    if render is not None:
        return serving.render(pool, kind, image, render, say)
    return serving.deploy(pool, kind, gpus, say)


WORDS: list[Callable[..., int]] = [
    serve,
    deploy,
    compare,
    lineage,
    reproduce,
    promote,
    rollback,
]
"""In the order of the help."""


def add_to(app: App) -> None:
    """Add every word of operation to the command line."""
    for place, word in enumerate(WORDS):
        app.command(word, group=OPERATION, sort_key=place)
