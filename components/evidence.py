"""The scores by which a challenger is compared with the champion: kept with their versions, or made anew."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from components import registry
from components.comparison import Comparison, compare
from components.measures import measures_of
from components.outcomes import Refused
from components.recipes import Library
from components.registry import Version
from components.rescore import rescore
from components.scoring import Scores, Task, read_scores, tasks_today

Say = Callable[[str], None]


def compared(recipe: str, champion: Version | None, challenger: Version, say: Say) -> Comparison:
    """Compare a challenger with the champion on the items that the challenger was scored on.

    Where a task has changed since the champion was scored, its registered package is scored anew, once: the result is
    kept with the champion. Nothing is scored again that both were scored on. A task whose right answers are the
    encoder's own (`OF_ENCODER`) is left out, by name, where the two versions have different encoders.

    Raises:
        Refused: the challenger has no scores, no task is left, or the tasks have changed since they were made.
        Busy: another process holds this machine's GPU.
    """
    if champion is None:
        return Comparison(())
    after = scores_of(challenger)
    if after is None:
        raise Refused(
            f"Version {challenger.version} of '{recipe}' was registered without its scores, item by item, so it cannot "
            f"be compared. Release it again: hiraku release {recipe}"
        )
    known = scores_of(champion)
    tasks = _of_the_same_encoder(recipe, champion, known, after.tasks, say)
    before = _on_the_same(recipe, champion, known, tasks, say)
    return compare(before.items, after.items, measures_of({name: task.parsed for name, task in tasks.items()}))


def _of_the_same_encoder(
    recipe: str, champion: Version, known: Scores | None, tasks: dict[str, Task], say: Say
) -> dict[str, Task]:
    """The tasks but for those whose answers another encoder has made: a release cannot be scored on them anew."""
    kept = {
        name: task
        for name, task in tasks.items()
        if not getattr(task.parsed, "OF_ENCODER", False) or (known and _is_same(known.tasks.get(name), task))
    }
    left_out = ", ".join(sorted(tasks.keys() - kept.keys()))
    if not left_out:
        return kept
    why = f"its right answers are not the ones that version {champion.version}, the champion, was scored by: the "
    why += "encoder was fitted anew since, or its section, data or code have changed"
    if not kept:
        raise Refused(
            f"The challenger of '{recipe}' cannot be compared with the champion on {left_out}, and on no other task: "
            f"{why}. Compare models that start from both, such as recognisers (hiraku compare MODEL OTHER), or name a "
            "task under 'evaluate.tasks' that no encoder decides."
        )
    say(f"{left_out} is left out: {why}.")
    return kept


def scores_of(version: Version) -> Scores | None:
    """What a version was given when it was registered; None if nothing was kept."""
    with registry.kept(version, registry.SCORES) as folder:
        return read_scores(folder) if folder else None


def _on_the_same(recipe: str, champion: Version, known: Scores | None, tasks: dict[str, Task], say: Say) -> Scores:
    """The champion's scores on exactly these tasks."""
    changed = [name for name, task in tasks.items() if not known or not _is_same(known.tasks.get(name), task)]
    if not changed:
        assert known is not None  # noqa: S101 (a challenger's tasks are never none)
        return known
    place = f"{registry.SCORES}-{_key([tasks[name] for name in changed])}"
    with registry.kept(champion, place) as folder:
        made = read_scores(folder) if folder else None
    if made is None:
        made = _made_anew(recipe, champion, {name: tasks[name] for name in changed}, place, say)
    return known.joined(made) if known else made


def _is_same(before: Task | None, after: Task) -> bool:
    return before is not None and before.digest == after.digest


def _key(tasks: list[Task]) -> str:
    return hashlib.sha256("".join(sorted(task.digest for task in tasks)).encode()).hexdigest()[:12]


def _made_anew(recipe: str, champion: Version, tasks: dict[str, Task], place: str, say: Say) -> Scores:
    library = Library()
    section = library.read("recipe", recipe)
    today = tasks_today(library, section)
    if stale := sorted(name for name, task in tasks.items() if not _is_same(today.get(name), task)):
        raise Refused(
            f"The champion, version {champion.version}, was not scored on {', '.join(stale)} as the challenger was, "
            "and neither can it be now: recipes or data of this project are not what they were then. Make a challenger "
            f"of today: hiraku release {recipe}"
        )
    say(f"Version {champion.version} is scored anew on {', '.join(tasks)}, changed since it was registered.")
    with registry.fetched(champion) as files, tempfile.TemporaryDirectory() as temporary:
        scores = Path(temporary) / "scores"
        rescore(recipe, files / section.package.layouts[0], list(tasks), scores, say)
        registry.keep(champion.run_id, scores, place)
        return read_scores(scores)
