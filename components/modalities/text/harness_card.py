"""What a card says of scores on tasks of lm-eval: both ways to score side by side, why they differ, what is missing."""

from components.card_scores import with_error
from components.markdown import table
from components.modalities.text.harness_schema import QUIRKS, SETS, Harness


def told(section: Harness, totals: dict[str, float], errors: dict[str, float], notes: list[str]) -> list[str]:
    """Paragraphs of Markdown.

    Args:
        section: the task's.
        totals: metric -> value, as `harness.score` gives them.
        errors: metric -> standard error.
        notes: what could not be scored, or not whole.
    """
    rows: list[tuple[str, ...]] = []
    for each in section.tasks:
        size = totals.get(f"{each.task}/num_items")
        keys = [section.key(name, each) for name in section.sets]
        values = [with_error(totals[key], errors.get(key)) if key in totals else "missing" for key in keys]
        rows.append(
            (f"`{each.task}`", each.version, str(each.shots), f"{size:,.0f}" if size else "", each.metric, *values)
        )
    averages = [f"{name}/average" for name in section.sets]
    counts = [f"{totals[f'{name}/num_tasks']:.0f}" for name in section.sets]
    named = f"mean of {' and '.join(dict.fromkeys(counts))} of {len(section.tasks)} tasks"
    rows.append((named, "", "", "", "", *(with_error(totals[key], errors.get(key)) for key in averages)))
    parts = [table(("Task", "Prompt", "Examples", "Items", "Metric", *section.sets), rows)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    if len(section.sets) > 1:
        meaning = "; ".join(f"`{name}`: {SETS[name]}" for name in section.sets)
        parts += [
            f"Two ways to score the same model. {meaning}. Why they differ:",
            "\n".join(f"- {name}: {each}" for name, each in QUIRKS.items()),
        ]
    return parts
