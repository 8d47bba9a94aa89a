"""What is found out before anything starts: everything that a person can mend is said at once and early.

Imports no Prefect, and MLflow only when everything else is right and a tracking server is named, so a misspelt name is
answered in a second.
"""

from collections.abc import Callable, Iterable
from importlib.util import find_spec

from components import VERBS, paths, tracking
from components.graph import Stage, plan, plan_to, stages
from components.manifest import MANIFEST_NAME
from components.outcomes import Refused
from components.recipes import Foreign, Library, references
from components.settings import settings
from components.wording import one_line, shown
from flows import collect, server, workspace

SECTIONS = frozenset({"pretrain", "align", "evaluate", "publish"})
"""Verbs that need the section of their name in a recipe."""

Say = Callable[[str], None]


def before_release(recipe: str, say: Say) -> None:
    """Refuse a release that could not come to its end.

    Raises:
        Refused: a setting, the recipe, its raw data, git, DVC or a server; the message says what to do.
    """
    settings()
    library = Library()
    planned = plan(library, recipe)
    _require_components(stage.verb for stage in planned)
    _project(say)
    collect.require_obtainable(library, planned)


def before_retrain(recipe: str, say: Say) -> None:
    """Refuse a scheduled release that could not begin; its raw data may come while it runs.

    Raises:
        Refused: as `before_release`, but for raw data.
    """
    settings()
    _require_components(stage.verb for stage in plan(Library(), recipe))
    _project(say)


def before_serve(say: Say) -> None:
    """Refuse to serve recipes of which one cannot be read, where none could run.

    Raises:
        Refused: a setting, a recipe, git, DVC or a server; the message says what to do.
    """
    settings()
    library = Library()
    for name in library.files["recipe"]:
        plan(library, name)
    _project(say)


def before_verb(verb: str, name: str, say: Say) -> None:
    """Refuse one stage that could not come to its end.

    Raises:
        Refused: as `before_release`; also if what the stage reads has not been made.
    """
    settings()
    _require_components([verb])
    library = Library()
    if verb in SECTIONS:
        _require_section(library, verb, name)
    if verb in ("register", "publish"):
        library.path("recipe", name)
        _project(say)
        return
    if verb == "shard" and name.count("+") != 1:
        raise Refused(
            f"Shards are named CORPUS+ENCODER, and '{name}' is not. For example: hiraku shard demo-text+demo-spm"
        )
    needed = plan_to(library, verb, name)
    _project(say)
    if verb == "shard":
        _require_reader(library, name)
    if lacking := [each for each in needed[:-1] if not _is_made(each.verb, each.name)]:
        raise Refused(_unmade(f"{verb} {name}", lacking))
    collect.require_obtainable(library, needed[-1:])


def before_publish(recipe: str, to: str | None, say: Say) -> None:
    """Refuse to publish what could not go anywhere.

    Args:
        recipe: whose model it is.
        to: a folder that gets it; without one the recipe must name a place.
        say: receives what was mended by itself.

    Raises:
        Refused: as `before_release`.
    """
    if to is None:
        before_verb("publish", recipe, say)
    else:
        before_verb("register", recipe, say)


def before_promotion(recipe: str, say: Say) -> None:
    """Refuse to promote, or to take back, what has no versions of its own.

    Raises:
        Refused: a setting, the recipe, git, DVC or a server; the message says what to do.
    """
    settings()
    if isinstance(Library().read("recipe", recipe), Foreign):
        raise Refused(
            f"Recipe '{recipe}' is somebody else's model, and its makers decide what is released. Name a recipe of "
            "your own; to see them, run: hiraku recipes"
        )
    _project(say)


def before_batch(recipe: str) -> None:
    """Refuse to show a batch of shards that are not made.

    Raises:
        Refused: no such recipe, or what its training reads is not made; the message names all stages to run.
    """
    library = Library()
    section = library.read("recipe", recipe)
    verb = next((each for each in ("pretrain", "align") if getattr(section, each, None) is not None), None)
    if verb is None:
        return
    shards = [name for kind, name in references(getattr(section, verb)) if kind == "shards"]
    if _is_made("fit", section.encoder) and all(_is_made("shard", name) for name in shards):
        return  # a batch needs none of the stages before these
    lacking = [each for each in plan_to(library, verb, recipe)[:-1] if not _is_made(each.verb, each.name)]
    raise Refused(_unmade(f"A batch of {recipe}", lacking))


def _is_made(verb: str, name: str) -> bool:
    return (paths.state(verb, name) / MANIFEST_NAME).is_file()


def _unmade(what: str, lacking: list[Stage]) -> str:
    commands = "".join(f"\n  hiraku {each.verb} {each.name}" for each in lacking)
    return f"{what} reads what has not been made yet. Run first:{commands}"


def _require_components(verbs: Iterable[str]) -> None:
    for verb in verbs:
        if find_spec(f"components.{verb}") is None:
            known = ", ".join(each for each in VERBS if find_spec(f"components.{each}"))
            raise Refused(
                f"The verb '{verb}' has no component in this version. There are: {known}. Run: hiraku recipes"
            )


def _require_section(library: Library, verb: str, name: str) -> None:
    recipe = library.read("recipe", name)
    if getattr(recipe, verb, None) is not None:
        return
    if isinstance(recipe, Foreign):
        raise Refused(
            f"Recipe '{name}' is somebody else's model, taken from {recipe.source}, and has no section '{verb}': there "
            f"is nothing to {verb}. It is taken in by: hiraku package {name}"
        )
    ways = {
        "pretrain": f"Its weights come from: hiraku align {name}",
        "align": f"Its weights come from: hiraku pretrain {name}",
        "publish": f"Add where it goes: publish: {{repository: ORGANISATION/{name}}}",
    }
    raise Refused(f"{library.path('recipe', name)} has no section '{verb}'. {ways[verb]}")


def _require_reader(library: Library, name: str) -> None:
    """Refuse shards that no recipe reads, since the graph has no stage for them."""
    if any(each.verb == "shard" and each.name == name for each in stages(library)):
        return
    raise Refused(
        f"No recipe reads the shards '{name}', so there is no stage that makes them. Name them in a recipe, under "
        f"pretrain.shards or align.shards, and run the same command again; without a recipe: python -m components "
        f"shard {name}"
    )


def _project(say: Say) -> None:
    workspace.require_project()
    tracking.require_server()
    _require_login()
    server.require_server()
    for path in workspace.rendered_again():
        say(f"{path} was rendered again from the recipes")


def _require_login() -> None:
    """Ask a tracking server of `MLFLOW_TRACKING_URI` one question, which it answers only to who may use it."""
    if tracking.is_embedded():
        return
    try:
        tracking.client().search_experiments(max_results=1)
    except tracking.troubles() as error:
        raise Refused(
            f"MLFLOW_TRACKING_URI is {shown(tracking.tracking_uri())}, which does not answer as a tracking server "
            f"should: {one_line(shown(error))}. Check the address, MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (mlflow/README.md)."
        ) from None  # the library's own words may hold the password of an address
