"""What alignment does to the demo's model, judged by its town's own rules and not by the reward that was learnt.

Reads what `hiraku release gpt-demo-ppo` left, asks the base model with its best few-shot prompt, and trains and scores
PPO once for each seed in a copy of the project. A win is a held-out question whose answer the rules call better than
the fine-tuned model's; ties count half. Answers are sampled, as a person would meet the model; since a model that only
became surer of itself wins too, the wins of the most likely answers stand beside.
"""

import json
import shutil
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.project_copy import changed, copied_project, run, totals_of
from benchmarks.report import Result
from components import VERBS, paths
from components.comparison import values_of
from components.markdown import number
from components.outcomes import Refused

NAME = "alignment"
BASE, SFT, REWARD, PPO = "gpt-demo", "gpt-demo-sft", "gpt-demo-reward", "gpt-demo-ppo"
EXACT, QUALITY, GREEDY, ONE_FACT = "demo-exact-match", "demo-quality", "demo-quality-greedy", "demo-one-fact"
RESAMPLES = 10_000
LEVEL = 0.95
WANTED_EXACT, WANTED_ACCURACY = 0.6, 0.9
WANTED_ITEMS, WANTED_MINUTES = 500, 10


@dataclass(frozen=True)
class Wins:
    """How often one model answers better than another."""

    rate: float
    """Ties counted half."""
    lower: float
    """The lower end of the bootstrap's one-sided interval over questions."""
    num_items: int


def wins(ours: dict[str, float], theirs: dict[str, float]) -> Wins:
    """Compare scores question by question.

    Args:
        ours: question -> score.
        theirs: of the same questions.
    """
    outcomes = np.array([(np.sign(ours[name] - theirs[name]) + 1) / 2 for name in sorted(theirs)])
    rng = np.random.default_rng(0)
    means = [outcomes[rng.integers(len(outcomes), size=len(outcomes))].mean() for _ in range(RESAMPLES)]
    return Wins(float(outcomes.mean()), float(np.quantile(means, 1 - LEVEL)), len(outcomes))


def _qualities(name: str) -> dict[str, dict[str, float]]:
    """Task -> question -> quality."""
    items = pq.read_table(paths.payload("evaluate", name) / "items.parquet")
    return {task: values_of(items, task, "quality", name) for task in (QUALITY, GREEDY)}


def _minutes(*recipes: str) -> float:
    """What training them took.

    Raises:
        Refused: one was not trained here.
    """
    for name in recipes:
        if not paths.outcome("align", name).is_file():
            raise Refused(f"'{name}' was not trained in this project. Run: hiraku release {PPO}")
    found = [json.loads(paths.outcome("align", name).read_text(encoding="utf-8")) for name in recipes]
    return sum(sum(each["seconds"].values()) for each in found) / 60


def _scored(name: str, *tasks: str) -> dict[str, dict[str, float]]:
    """What a model reaches in these tasks; one without a prompt format in its best way of being asked."""
    changed(paths.RECIPES / f"{name}.yaml", lambda recipe: recipe["evaluate"].update(tasks=list(tasks)))
    run("evaluate", name)
    return totals_of(name)


def _with_seed(seed: int, fine_tuned: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Train and score PPO."""
    shutil.rmtree(paths.state("align", PPO), ignore_errors=True)
    changed(paths.RECIPES / f"{PPO}.yaml", lambda recipe: recipe["align"].update(seed=seed))
    began = time.monotonic()
    run("align", PPO)
    minutes = (time.monotonic() - began) / 60
    totals = _scored(PPO, EXACT, QUALITY, GREEDY)
    curve = json.loads((paths.state("align", PPO) / "curve.json").read_text(encoding="utf-8"))
    told = {name: value for point in curve for name, value in point["metrics"].items()}
    ours = _qualities(PPO)
    found = {task: wins(ours[task], fine_tuned[task]) for task in (QUALITY, GREEDY)}
    return {"seed": seed, "wins": found, "totals": totals, "told": told, "minutes": minutes}


def measure(*, seeds: tuple[int, ...] = (0, 1, 2)) -> Result:
    """Base, fine-tuned, reward and PPO models of the demo, by their town's own rules.

    Args:
        seeds: of PPO's trainings.
    """
    minutes = _minutes(SFT, REWARD)
    scored_here = {("evaluate", name) for name in (BASE, SFT, REWARD)}
    with copied_project(left_out=scored_here | {(verb, PPO) for verb in VERBS}):
        base = _scored(BASE, EXACT)[EXACT]
        sft = _scored(SFT, EXACT, QUALITY, GREEDY)
        fine_tuned = _qualities(SFT)
        reward = _scored(REWARD, ONE_FACT)
        runs = [_with_seed(seed, fine_tuned) for seed in seeds]
    exact = sft[EXACT]["exact_match"]
    accuracy = reward[ONE_FACT]["accuracy_equal_length"]
    rows = [
        Row("exact match of held-out questions", "base, best few-shot prompt", Spread.of([base["exact_match"]]),
            Spread.of([exact])),
        Row.compare("the same", "wanted", [exact], [WANTED_EXACT], at_least=1.0),
        Row.compare("reward accuracy, one fact, equal length", "wanted", [accuracy], [WANTED_ACCURACY], at_least=1.0),
    ]  # fmt: skip
    whole = [minutes + each["minutes"] for each in runs]
    rows += [
        Row.compare("held-out questions", "wanted", [runs[0]["wins"][QUALITY].num_items], [WANTED_ITEMS], at_least=1.0),
        Row.compare("minutes of SFT, reward and PPO", "wanted", whole, [WANTED_MINUTES] * len(whole), at_most=1.0),
    ]
    for each in runs:
        ours, seed = each["totals"][EXACT]["exact_match"], each["seed"]
        lower = each["wins"][QUALITY].lower
        rows += [
            Row.compare(f"PPO's wins, seed {seed}, lower bound", "a half", [lower], [0.5], at_least=1.0),
            Row.compare(f"PPO's exact match, seed {seed}", "SFT", [ours], [exact], at_least=1.0),
        ]
    measured = {"base": base, "sft": sft, "reward": reward, "ppo": runs}
    return Result(NAME, f"python -m benchmarks {NAME}", rows, _notes(base, runs, sft), describe(), measured)


def _notes(base: dict[str, float], runs: list[dict[str, Any]], sft: dict[str, dict[str, float]]) -> list[str]:
    asked = f"The base model is asked with {number(int(base['num_shots']))} examples, the best way on the valid split."
    notes = [asked, f"SFT: {_form(sft[QUALITY])}."]
    for each in runs:
        found, greedy, told = each["wins"][QUALITY], each["wins"][GREEDY], each["told"]
        notes.append(
            f"PPO, seed {each['seed']}: wins {number(found.rate)} of {number(found.num_items)} (lower bound at "
            f"{LEVEL:.0%}: {number(found.lower)}), of the most likely answers {number(greedy.rate)} (lower bound "
            f"{number(greedy.lower)}); {_form(each['totals'][QUALITY])}; learnt reward of held-out questions "
            f"{number(told['align/valid_reward'])}; in the last round {number(told['align/kl_per_token'])} nats per "
            "token from SFT."
        )
    return notes


def _form(totals: dict[str, float]) -> str:
    told = {"quality": "quality", "tokens": "num_response_tokens", "repetition": "repetition", "ended": "ended"}
    return ", ".join(f"{word} {number(totals[metric])}" for word, metric in told.items())
