"""What is found out before anything starts: everything that a person can mend is said at once and early.

Imports neither Prefect nor MLflow, so a misspelt name is answered in a second.
"""

from collections.abc import Callable

from components import paths, tracking
from components.graph import plan, plan_to
from components.manifest import MANIFEST_NAME
from components.outcomes import Refused
from components.recipes import Library
from flows import collect, server, workspace

Say = Callable[[str], None]


def before_release(recipe: str, say: Say) -> None:
    """Refuse a release that could not come to its end.

    Raises:
        Refused: the recipe, its raw data, git, DVC or a server; the message says what to do.
    """
    library = Library()
    stages = plan(library, recipe)
    _project(say)
    collect.require_obtainable(library, stages)


def before_verb(verb: str, name: str, say: Say) -> None:
    """Refuse one stage that could not come to its end.

    Raises:
        Refused: as `before_release`; also if what the stage reads has not been made.
    """
    library = Library()
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
    lacking = [each for each in needed[:-1] if not (paths.state(each.verb, each.name) / MANIFEST_NAME).is_file()]
    if lacking:
        commands = "".join(f"\n  hiraku {each.verb} {each.name}" for each in lacking)
        raise Refused(f"{verb} {name} reads what has not been made yet. Run first:{commands}")
    collect.require_obtainable(library, needed[-1:])


def _project(say: Say) -> None:
    workspace.require_project()
    tracking.require_server()
    server.require_server()
    for path in workspace.rendered_again():
        say(f"{path} was rendered again from the recipes")
