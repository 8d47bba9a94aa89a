"""What a card says of scores on tasks of lm-eval: both ways to score side by side, why they differ, what is missing."""

from typing import Any

from components.card_scores import with_error
from components.contamination import SHARE
from components.markdown import table
from components.measures import CLEAN
from components.modalities.text.harness_schema import PAPER, QUIRKS, SETS, Harness, HarnessTask, merged, prompt_file

PAPER_FILES = {"jcommonsenseqa": "choices", "jaqket-v2": "passages", "mgsm-ja": "turns"}
"""Task -> what its files `-paper` have of `QUIRKS`."""
Totals = dict[str, float]


def told(
    section: Harness, totals: Totals, errors: dict[str, float], notes: list[str], looked: dict[str, Any]
) -> list[str]:
    """Paragraphs of Markdown.

    Args:
        section: the task's.
        totals: metric -> value, as `harness.score` and `contamination.totals_of` give them.
        errors: metric -> standard error.
        notes: what could not be scored, or not whole, and which items stand in the training data.
        looked: what the manifest says of contamination; empty if items were not looked for.
    """
    parts = [_scores(section, totals, errors, looked)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    if len(section.sets) > 1:
        meaning = "; ".join(f"`{name}`: {SETS[name]}" for name in section.sets)
        scored = [each for each in section.tasks if any(section.key(name, each) in totals for name in section.sets)]
        own = {quirk for each in scored for quirk in quirks_of(each)}
        parts += [
            f"Two ways to score the same model. {meaning}. Why they differ:",
            "\n".join(f"- {name}: {each}" for name, each in QUIRKS.items() if name in own),
        ]
    return parts


def quirks_of(task: HarnessTask) -> set[str]:
    """Which of `QUIRKS` concern a task, by its file.

    Raises:
        Refused: there is no such file.
    """
    mended, published = (prompt_file(task, name) for name in ("fixed", PAPER))
    config = merged(mended)
    metadata = config.get("metadata") or {}
    if config.get("output_type") != "generate_until":
        found = {"start", "tokens"}
    else:
        found = {"start"} if metadata.get("stop_at_end") else {"start", "ends"}
    has = {
        "length": "length_of_gold_plus" in metadata,
        "ROUGE-2": any(each.get("metric") == "rouge2" for each in config.get("metric_list", [])),
        "examples": task.shots > 0,
        PAPER_FILES.get(task.task, ""): mended != published,
    }
    return found | {quirk for quirk, is_so in has.items() if is_so}


# ---- the table -------------------------------------------------------------------------------------------------------


def _scores(section: Harness, totals: Totals, errors: dict[str, float], looked: dict[str, Any]) -> str:
    """A row for each task and one for the averages."""
    is_told = SHARE in totals or bool(looked.get("unknown"))
    rows: list[tuple[str, ...]] = []
    for each in section.tasks:
        size = totals.get(f"{each.task}/num_items")
        keys = [section.key(name, each) for name in section.sets]
        values = [with_error(totals[key], errors.get(key)) if key in totals else "missing" for key in keys]
        clean = _contamination(section, each, totals, errors) if is_told else ()
        rows.append(
            (
                f"`{each.task}`", each.version, str(each.shots), f"{size:,.0f}" if size else "", each.metric,
                *values, *clean,
            )
        )  # fmt: skip
    averages = [f"{name}/average" for name in section.sets]
    counts = [f"{totals[f'{name}/num_tasks']:.0f}" for name in section.sets]
    named = f"mean of {' and '.join(dict.fromkeys(counts))} of {len(section.tasks)} tasks"
    clean = ("", *(_clean_average(name, totals, errors) for name in section.sets)) if is_told else ()
    values = [with_error(totals[key], errors.get(key)) for key in averages]
    rows.append((named, "", "", "", "", *values, *clean))
    head = ("Contaminated", *(f"{name}, clean" for name in section.sets)) if is_told else ()
    return table(("Task", "Prompt", "Examples", "Items", "Metric", *section.sets, *head), rows)


def _contamination(section: Harness, task: HarnessTask, totals: Totals, errors: dict[str, float]) -> tuple[str, ...]:
    """Which share of a task's items stands in the training data, and the score of each set over the others."""
    keys = [section.key(name, task) for name in section.sets]
    if not any(key in totals for key in keys):
        return ("", *("" for _ in keys))
    if SHARE not in totals:
        return ("unknown", *("unknown" for _ in keys))
    # A section of which one task alone has items has no counts by task.
    part = f"{task.task}/" if f"{task.task}/num_looked_for" in totals else ""
    num_looked = totals[f"{part}num_looked_for"]
    if not num_looked:
        return ("not looked for", *("not looked for" for _ in keys))
    without = totals.get(f"{part}num_not_looked_for", 0)
    more = f", {without:,.0f} not looked for" if without else ""
    is_whole = not without and not totals[f"{part}num_contaminated"]
    return (
        f"{totals[part + SHARE]:.1%} of {num_looked:,.0f}{more}",
        *(_clean(key, is_whole, totals, errors) if key in totals else "" for key in keys),
    )


def _clean(key: str, is_whole: bool, totals: Totals, errors: dict[str, float]) -> str:
    """A clean score; where all items were looked for and none stands there, it is the score."""
    key = key if is_whole else key + CLEAN
    return with_error(totals[key], errors.get(key)) if key in totals else "no item is left"


def _clean_average(name: str, totals: Totals, errors: dict[str, float]) -> str:
    if SHARE not in totals:
        return "unknown"
    key, count = f"{name}/average", totals.get(f"{name}/num_tasks{CLEAN}")
    is_whole = count is None
    told = _clean(key, is_whole, totals, errors)
    return told if is_whole or not count else f"{told} ({count:.0f} of {totals[f'{name}/num_tasks']:.0f} tasks)"
