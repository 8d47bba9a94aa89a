"""What alignment does to the demo's model, judged by its town's own rules and not by the reward that was learnt.

Reads what `hiraku release gpt-demo-ppo` left, asks the base model with its best few-shot prompt, and trains and scores
PPO once for each seed in a copy of the project. A win is a held-out question whose answer the rules call better than
the fine-tuned model's; ties count half.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.project import inside
from benchmarks.report import Result
from components import VERBS, paths
from components.comparison import values_of
from components.markdown import number
from components.outcomes import Refused

NAME = "alignment"
BASE, SFT, REWARD, PPO = "gpt-demo", "gpt-demo-sft", "gpt-demo-reward", "gpt-demo-ppo"
EXACT, QUALITY, ONE_FACT = "demo-exact-match", "demo-quality", "demo-one-fact"
RESAMPLES = 10_000
LEVEL = 0.95
WANTED_EXACT, WANTED_ACCURACY = 0.6, 0.9
MADE_ANEW = ("align", "evaluate")


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


def _run(verb: str, name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "components", verb, name], check=False)
    if done.returncode:
        raise Refused(f"'{verb} {name}' ended with {done.returncode}; what it said stands above.")


def _totals(name: str) -> dict[str, dict[str, float]]:
    path = paths.payload("evaluate", name) / "scores.json"
    if not path.is_file():
        raise Refused(f"{path} is not there, so there is nothing to compare with. Run: hiraku release {PPO}")
    tasks: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks


def _qualities(name: str) -> dict[str, float]:
    return values_of(pq.read_table(paths.payload("evaluate", name) / "items.parquet"), QUALITY, "quality", name)


def _copy_project(into: Path) -> None:
    """Recipes, and links to what stages left; what is made anew has folders of its own."""
    shutil.copytree(paths.RECIPES, into / paths.RECIPES)
    for verb in VERBS:
        source = Path(paths.ARTIFACTS) / VERBS[verb]
        if not source.is_dir():
            continue
        place = into / source
        place.mkdir(parents=True)
        for state in source.iterdir():
            if not (verb in MADE_ANEW and state.name in (BASE, PPO)):
                (place / state.name).symlink_to(state.resolve())


def _changed(name: str, change: Any) -> None:
    path = paths.RECIPES / f"{name}.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(recipe)
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")


def _few_shot() -> dict[str, float]:
    """What the base model reaches in the best of the ways of asking that the task knows."""
    _changed(BASE, lambda recipe: recipe["evaluate"].update(tasks=[EXACT]))
    _run("evaluate", BASE)
    return _totals(BASE)[EXACT]


def _with_seed(seed: int, fine_tuned: dict[str, float]) -> dict[str, Any]:
    """Train and score PPO."""
    shutil.rmtree(paths.state("align", PPO), ignore_errors=True)
    _changed(PPO, lambda recipe: recipe["align"].update(seed=seed))
    _run("align", PPO)
    _run("evaluate", PPO)
    curve = json.loads((paths.state("align", PPO) / "curve.json").read_text(encoding="utf-8"))
    told = {name: value for point in curve for name, value in point["metrics"].items()}
    found = wins(_qualities(PPO), fine_tuned)
    first = next(point["metrics"]["align/reward"] for point in curve if "align/reward" in point["metrics"])
    return {"seed": seed, "wins": found, "totals": _totals(PPO), "first_reward": first, "told": told}


def measure(*, seeds: tuple[int, ...] = (0, 1, 2)) -> Result:
    """Base, fine-tuned, reward and PPO models of the demo, by their town's own rules.

    Args:
        seeds: of PPO's trainings.
    """
    sft, reward, fine_tuned = _totals(SFT), _totals(REWARD), _qualities(SFT)
    with tempfile.TemporaryDirectory() as folder:
        _copy_project(Path(folder))
        with inside(Path(folder)):
            base = _few_shot()
            runs = [_with_seed(seed, fine_tuned) for seed in seeds]
    exact = sft[EXACT]["exact_match"]
    accuracy = reward[ONE_FACT]["accuracy_equal_length"]
    rows = [
        Row("exact match of held-out questions", "base, best few-shot prompt", Spread.of([base["exact_match"]]),
            Spread.of([exact])),
        Row.compare("the same", "wanted", [exact], [WANTED_EXACT], at_least=1.0),
        Row.compare("reward accuracy, one fact, equal length", "wanted", [accuracy], [WANTED_ACCURACY], at_least=1.0),
    ]  # fmt: skip
    for run in runs:
        ours, seed = run["totals"][EXACT]["exact_match"], run["seed"]
        rows += [
            Row.compare(f"PPO's wins, seed {seed}, lower bound", "a half", [run["wins"].lower], [0.5], at_least=1.0),
            Row.compare(f"PPO's exact match, seed {seed}", "SFT", [ours], [exact], at_least=1.0),
        ]
    measured = {"base": base, "sft": sft, "reward": reward, "ppo": [run | {"wins": vars(run["wins"])} for run in runs]}
    return Result(NAME, f"python -m benchmarks {NAME}", rows, _notes(base, runs, sft), describe(), measured)


def _notes(base: dict[str, float], runs: list[dict[str, Any]], sft: dict[str, dict[str, float]]) -> list[str]:
    asked = f"The base model is asked with {number(int(base['num_shots']))} examples, the best way on the valid split."
    notes = [asked, f"SFT: {_form(sft[QUALITY])}."]
    for run in runs:
        found, told = run["wins"], run["told"]
        notes.append(
            f"PPO, seed {run['seed']}: wins {number(found.rate)} of {number(found.num_items)} (lower bound at "
            f"{LEVEL:.0%}: {number(found.lower)}), {_form(run['totals'][QUALITY])}, learnt reward "
            f"{number(run['first_reward'])} at first and {number(told['align/reward'])} at last, "
            f"{number(told['align/kl_per_token'])} nats per token from SFT."
        )
    return notes


def _form(totals: dict[str, float]) -> str:
    told = {"quality": "quality", "tokens": "num_response_tokens", "repetition": "repetition", "ended": "ended"}
    return ", ".join(f"{word} {number(totals[metric])}" for word, metric in told.items())
