"""The scores on a card, with their standard errors, beside what others have published."""

from typing import TYPE_CHECKING, Any

from components.contamination import in_words
from components.markdown import label, number, table
from components.modalities import schema_of

if TYPE_CHECKING:
    from components.card import Release

ERRORS = (
    "Behind ± stands the standard error over the items of a task, as if other items had been drawn; totals without one "
    "have none that single items tell."
)

OTHERS = (
    "Published of the model that this recipe re-creates, by others and on their own data; nothing of it was measured "
    "again:"
)


def evaluation(release: "Release") -> str:
    """What the model was scored on, and how it did."""
    parts = []
    looked = {
        task: state.details.get("contamination", {})
        for state in release.own.of("evaluate")
        for task in state.details["tasks"]
    }
    for task, section in sorted(release.tasks.items()):
        kind = schema_of(section["modality"]).TASKS[section["kind"]]
        if hasattr(kind, "told"):
            words = " ".join((kind.__doc__ or "").split())
            parts.append(f"**`{task}`** ({section['kind']}). {words}")
            values, notes = release.scores[task], release.notes.get(task, [])
            parts += kind.model_validate(section).told(values, release.errors.get(task, {}), notes, looked[task])
            continue
        settings = {
            key: value for key, value in section.items() if key not in ("kind", "modality") and value is not None
        }
        words = number(settings)
        meaning = " ".join((kind.__doc__ or "").split())
        parts += [f"**`{task}`** ({section['kind']}: {words}). {meaning}", _of_task(release, task)]
    if any(release.errors.values()):
        parts.append(ERRORS)
    parts += [
        words for state in release.own.of("evaluate") if (words := in_words(state.details.get("contamination", {})))
    ]
    return "\n\n".join([*parts, *_published(release)])


def _of_task(release: "Release", task: str) -> str:
    """Our scores on one task; beside them what the authors of the re-created model say of theirs."""
    theirs = {row.metric: row for row in release.recipe.package.published_scores if row.task == task}
    errors = release.errors.get(task, {})
    ordered = sorted(release.scores[task].items(), key=lambda item: (item[0].startswith("num_"), item[0]))
    rows = [(label(metric), with_error(value, errors.get(metric)), theirs.get(metric)) for metric, value in ordered]
    if not theirs:
        return table(("Metric", "Value"), [row[:2] for row in rows])
    return table(("Metric", "Value", "Published"), [(*row[:2], _told(row[2])) for row in rows])


def with_error(value: float, error: float | None) -> str:
    """A score as a person reads it, to the second digit of its standard error: `3.25`, `3.2514 ± 0.0021`."""
    if error is None:
        return number(value)
    digits = f"{error:.1e}"
    decimals = max(0, 1 - int(digits.partition("e")[2])) if error else 4
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"


def _told(row: Any) -> str:
    return "" if row is None else f"{number(row.value)} ({row.model}{f'; {row.note}' if row.note else ''})"


def _published(release: "Release") -> list[str]:
    """Every score that was published of the re-created model, with where."""
    rows = release.recipe.package.published_scores
    if not rows:
        return []
    cells = [(row.model, row.score, number(row.value), row.note, row.source) for row in rows]
    return [OTHERS, table(("Model", "Score", "Value", "How", "Source"), cells)]
