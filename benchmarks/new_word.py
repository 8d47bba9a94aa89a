"""The paper's finding in small: after stage 1 a new word draws the base's pictures, after stage 2 its own.

A Japanese word names a known thing in a look that no picture of the base had. The base, stage 1 and stage 2 are asked
for it in the same prompts, held out of training, with the same seeds; a judge that none of them was trained with says
of each picture whether thing and look are right, each by itself. "Wrong" before is asked of as large a share of the
pictures as "right" is afterwards.

Scores are those of `hiraku evaluate`. What is missing is made by `hiraku release`, with all that it depends on; of what
is there DVC says whether it is stale, so scores that are ready, or in its cache, are taken.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.project_copy import totals_of
from benchmarks.report import Result
from components import paths
from components.comparison import values_of
from components.drawn import side_by_side
from components.manifest import read_manifest
from components.markdown import number
from components.outcomes import Refused
from components.recipes import Library
from components.scoring import ITEMS_NAME, SCORES_NAME, tasks_of
from models.stable_diffusion.convert import scheduler_of

NAME = "new-word"
BASE, STAGE_1, STAGE_2, JUDGE = "sd-demo-base", "sd-demo-stage1", "sd-demo", "scene-judge-demo"
COLUMNS = (BASE, STAGE_1, STAGE_2)
ASKED, IN_ENGLISH, RENDERS = "demo-sd-new-word", "demo-sd-new-word-english", "demo-judge-marks"
WANTED_OF_JUDGE, WANTED, MOST_MOVED, WANTED_PICTURES = 0.95, 0.7, 0.05, 200
PICTURE_NAME = f"{NAME}.svg"


@dataclass(frozen=True)
class Column:
    """What the judge says of a model's pictures: shares that are right."""

    thing: float
    look: float
    both: float
    """Thing and look in one picture."""
    num_pictures: int
    num_prompts: int
    """Different ones among them."""


def column_of(totals: Mapping[str, float], things: Mapping[str, float], looks: Mapping[str, float]) -> Column:
    """A column from scores.

    Args:
        totals: metric -> value over all pictures.
        things: picture -> 1 where its thing is right.
        looks: the same of its look.
    """
    both = sum(value * looks[name] for name, value in things.items()) / len(things)
    counts = (int(totals[metric]) for metric in ("num_pictures", "num_prompts"))
    return Column(totals["thing_right"], totals["look_right"], both, *counts)


def rows_of(judge: Mapping[str, float], columns: Mapping[str, Column], in_english: Column) -> list[Row]:
    """What was found beside what is wanted.

    Args:
        judge: group -> share of held-out renders that the judge names right.
        columns: recipe -> what it drew for the new word.
        in_english: what the base drew of the same scenes, asked in its own words for the thing alone.
    """
    before, first, second = (columns[name] for name in COLUMNS)

    def at_least(figure: str, found: float, wanted: float) -> Row:
        return Row.compare(figure, "wanted", [found], [wanted], at_least=1.0)

    def stays(figure: str, other: Column) -> Row:
        return Row.compare(figure, "wanted", [abs(first.look - other.look)], [MOST_MOVED], at_most=1.0)

    return [
        *(at_least(f"judge: {group} of held-out renders", share, WANTED_OF_JUDGE) for group, share in judge.items()),
        at_least("pictures of each column", min(each.num_pictures for each in columns.values()), WANTED_PICTURES),
        at_least("before: thing wrong", 1 - before.thing, WANTED),
        at_least("before: look wrong", 1 - before.look, WANTED),
        at_least("after stage 1: thing right", first.thing, WANTED),
        stays("after stage 1: look right, from the base's share", before),
        stays("after stage 1: look right, from the base's share in English", in_english),
        at_least("after stage 2: thing right", second.thing, WANTED),
        at_least("after stage 2: look right", second.look, WANTED),
        Row("thing and look right in one picture", "after stage 1", Spread.of([first.both]), Spread.of([second.both])),
    ]


def measure(*, as_they_are: bool = False) -> Result:
    """The demo's Stable Diffusion asked for a new word: before, after stage 1 and after stage 2.

    Args:
        as_they_are: take the scores that lie here without asking DVC whether they are stale.

    Raises:
        Refused: a recipe cannot be made, or its scores are of another task than those of the others.
    """
    if not as_they_are:
        for name in (JUDGE, *COLUMNS):
            _make(name)
    totals = {name: _totals(name) for name in (JUDGE, *COLUMNS)}
    task = _same_task()
    judged = totals[JUDGE][RENDERS]
    judge = {group: judged[f"{group}_accuracy"] for group in task["groups"]}
    columns = {name: _column(name, ASKED) for name in COLUMNS}
    in_english = _column(BASE, IN_ENGLISH)
    svg, _ = side_by_side(list(COLUMNS), ASKED)
    notes = [*_how(task, columns), *_what(columns, in_english), _of_judge(judged)]
    rows = rows_of(judge, columns, in_english)
    command = f"python -m benchmarks {NAME}"
    return Result(NAME, command, rows, notes, describe(), totals, {PICTURE_NAME: svg})


def _make(name: str) -> None:
    """Bring a recipe's scores up to date.

    Raises:
        Refused: it failed.
    """
    verb = "evaluate" if (paths.payload("evaluate", name) / SCORES_NAME).is_file() else "release"
    done = subprocess.run([sys.executable, "-m", "flows", verb, name], check=False)
    if done.returncode:
        raise Refused(f"'hiraku {verb} {name}' ended with {done.returncode}; what it said stands above.")


def _totals(name: str) -> dict[str, dict[str, float]]:
    """Task -> metric -> value.

    Raises:
        Refused: a task of this comparison was not scored.
    """
    wanted = {JUDGE: [RENDERS], BASE: [ASKED, IN_ENGLISH]}.get(name, [ASKED])
    is_there = (paths.payload("evaluate", name) / SCORES_NAME).is_file()
    found = totals_of(name) if is_there else {}
    if missing := [task for task in wanted if task not in found]:
        raise Refused(f"'{name}' has no scores of {', '.join(missing)} here. Run: hiraku release {name}")
    return {task: found[task] for task in wanted}


def _same_task() -> dict[str, Any]:
    """The section of the task by which all columns were scored.

    Raises:
        Refused: it was another one for some.
    """
    tasks = {name: tasks_of(read_manifest("evaluate", name))[ASKED] for name in COLUMNS}
    for name, task in tasks.items():
        if task.digest != tasks[BASE].digest:
            raise Refused(
                f"'{name}' and '{BASE}' were scored on '{ASKED}' with other settings, data, judge or code. Run: "
                f"hiraku evaluate {BASE}, and so for {STAGE_1} and {STAGE_2}"
            )
    return tasks[BASE].section


def _column(name: str, task: str) -> Column:
    items = pq.read_table(paths.payload("evaluate", name) / ITEMS_NAME)
    things, looks = (values_of(items, task, f"{group}_is_right", name) for group in ("thing", "look"))
    return column_of(totals_of(name)[task], things, looks)


# ---- in words --------------------------------------------------------------------------------------------------------


def _how(task: Mapping[str, Any], columns: Mapping[str, Column]) -> list[str]:
    pictures, prompts = ({getattr(each, key) for each in columns.values()} for key in ("num_pictures", "num_prompts"))
    verbs = {name: "align" if Library().read("recipe", name).align else "pretrain" for name in columns}
    samplers = {str(scheduler_of(paths.payload(verb, name))["_class_name"]) for name, verb in verbs.items()}
    return [
        (
            f"{_counts(pictures)} pictures a column ask for only {_counts(prompts)} different prompts, combinations of "
            "colour, background and number that no training has seen; each has a seed of its own, the same in every "
            "column."
        ),
        (
            f"{', '.join(sorted(samplers))}, {task['num_steps']} steps, guidance {number(task['guidance_scale'])}; the "
            f"seed of a picture is a hash of the task's seed {task['seed']} and of its record's name."
        ),
    ]


def _counts(found: set[int]) -> str:
    return " or ".join(number(each) for each in sorted(found))


def _what(columns: Mapping[str, Column], in_english: Column) -> list[str]:
    told = {**columns, f"{BASE}, asked in English for the thing alone": in_english}
    lines = [
        f"{name}: thing right in {number(each.thing)}, look in {number(each.look)}, both in {number(each.both)}."
        for name, each in told.items()
    ]
    link = f"![before, after stage 1, after stage 2]({PICTURE_NAME})"
    return [*lines, f"The same prompts and seeds, a column for each model; what is all right has a green frame: {link}"]


def _of_judge(judged: Mapping[str, float]) -> str:
    return (
        f"The judge's shares are of {number(int(judged['num_pictures']))} renders held out of its training; no model "
        "that draws has seen a picture of the judge's."
    )
