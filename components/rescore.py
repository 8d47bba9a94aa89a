"""Score a package on tasks of today, in a process of its own: a champion whose tasks have changed since it was scored.

    python -m components.rescore RECIPE PACKAGE SCORES TASK...

PACKAGE is a layout of a package, SCORES a folder that is made. The tasks and their data are those of this project.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from components.lifeline import bound_environment
from components.outcomes import Busy, Outcome, Refused, clear_outcome, read_outcome, write_outcome
from components.settings import set_quiet_environment
from components.wording import ending

VERB = "rescore"
"""Names the outcome that the process leaves."""

Say = Callable[[str], None]


def rescore(recipe: str, package: Path, tasks: list[str], into: Path, say: Say) -> None:
    """Score a package as `evaluate` scores weights; return when the process has ended.

    Args:
        recipe: names family and tasks.
        package: a layout of a package.
        tasks: those of the recipe to score it on.
        into: receives the payload of scores and what they were made on, as `components.scoring.gather` leaves them.
        say: receives the lines of the process.

    Raises:
        Refused: the package cannot be scored, or a corpus of a task is not made here.
        Busy: another process holds this machine's GPU.
        RuntimeError: the process was ended from outside.
    """
    clear_outcome(VERB, recipe)
    command = [sys.executable, "-m", "components.rescore", recipe, str(package.resolve()), str(into.resolve()), *tasks]
    root = str(Path(__file__).resolve().parent.parent)
    environment = bound_environment() | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, errors="replace"
    )
    try:
        for line in process.stdout or ():
            say(line.rstrip("\n"))
        code = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    outcome = read_outcome(VERB, recipe)
    if outcome is None:
        raise RuntimeError(f"scoring {package} {ending(code)}")
    if outcome.kind == "done":
        return
    raise {"refused": Refused, "busy": Busy}.get(outcome.kind, RuntimeError)(outcome.reason)


def _work(recipe_name: str, package: Path, into: Path, names: list[str]) -> None:
    from components.devices import gpu_held
    from components.recipes import Library
    from components.scoring import gather, open_model, tasks_today, write_scores
    from models.objective import Mismatch

    library = Library()
    recipe = library.read("recipe", recipe_name)
    today = tasks_today(library, recipe)
    with gpu_held(), tempfile.TemporaryDirectory() as temporary:
        try:
            model = open_model(recipe.family, package, package)
        except Mismatch as error:
            raise Refused(f"The package cannot be scored as family '{recipe.family}': {error}") from error
        scores = Path(temporary) / "scores"
        write_scores({name: library.read("task", name) for name in names}, model, scores)
        gather(scores, {name: today[name] for name in names}, into)


def main(arguments: list[str]) -> int:
    """The process."""
    from components.lifeline import die_with_parent

    set_quiet_environment()
    die_with_parent()
    recipe, package, into, *names = arguments
    try:
        _work(recipe, Path(package), Path(into), names)
    except Refused as error:
        outcome = Outcome("refused", str(error))
    except Busy as error:
        outcome = Outcome("busy", str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        outcome = Outcome("failed", f"{type(error).__name__}: {error}")
    else:
        outcome = Outcome("done")
    write_outcome(VERB, recipe, outcome)
    return 0 if outcome.kind == "done" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
