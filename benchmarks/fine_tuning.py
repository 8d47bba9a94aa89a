"""What pre-training is worth to a recogniser of speech, beside the same network that begins at random.

Both learn from the same labels for as many steps. The learning rate of each is the best of the same few, judged on the
valid split; then each is trained with seeds that had no part in the choice, and scored on the test split.

What else may differ is `MAY_DIFFER`: masks, since behind them a random start learns nothing in so few steps (tried; the
tuned network has 0.1 of the frames and channels masked, the other none), and what is frozen, since of random weights
nothing may be. How few the labels are decides the outcome: see `FEW_LABELS`.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.project_copy import changed, copied_project, run, totals_of
from benchmarks.report import Result, require_repeats
from components import VERBS, paths
from components.markdown import number
from components.outcomes import Refused
from components.recipes import Library
from components.weights import weights_of

NAME = "fine-tuning"
TUNED = "hubert-demo-ctc"
RATE = "phoneme_error_rate"
WORST_SCRATCH = 0.9
"""On valid; a network that has learnt nothing would be no comparison."""
CHOICE_SEED = 0
MAY_DIFFER = frozenset(
    {"optimizer.learning_rate", "objective.freeze_front_end", "objective.freeze_steps", "objective.time_mask_share"}
    | {f"objective.{key}" for key in ("time_mask_frames", "channel_mask_share", "channel_mask_channels")}
)
"""Keys of the training that a start from pre-trained weights and one at random may have of their own."""
FEW_LABELS = (
    "The demo's labels are eight utterances of each of eight speakers, two minutes, and that few were chosen: of "
    "fifteen each, four minutes, a random start learnt the phonemes too, 'better' in the words of the commit that "
    "lowered the number (0347551; it also weakened the tuned network's masks and lengthened pre-training). So this is "
    "what pre-training is worth where labels are as scarce as here."
)


@dataclass(frozen=True)
class Trained:
    """One training of a recipe that is scored."""

    name: str
    learning_rate: float
    seed: int


def _scored_all(library: Library, trained: list[list[Trained]], task: str, split: str) -> list[list[dict[str, float]]]:
    """Score trainings on a split: each list in its order, all lists side by side, with an equal part of the cores."""
    changed(paths.RECIPES / "tasks" / f"{task}.yaml", lambda section: section.update(split=split))
    environment = os.environ | {"HIRAKU_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(trained)))}

    def lane(own: list[Trained]) -> list[dict[str, float]]:
        return [_scored(library, each, task, environment) for each in own]

    with ThreadPoolExecutor(len(trained)) as pool:
        return list(pool.map(lane, trained))


def _scored(library: Library, trained: Trained, task: str, environment: dict[str, str]) -> dict[str, float]:
    """Train a recipe with a learning rate and a seed, and score it."""
    name = trained.name
    verb, _ = weights_of(library, name)

    def changes(recipe: dict[str, Any]) -> None:
        recipe[verb]["seed"] = trained.seed
        recipe[verb]["optimizer"]["learning_rate"] = trained.learning_rate
        recipe["evaluate"]["tasks"] = [task]

    for each in (verb, "evaluate"):
        shutil.rmtree(paths.state(each, name), ignore_errors=True)
    changed(paths.RECIPES / f"{name}.yaml", changes)
    run(verb, name, environment)
    run("evaluate", name, environment)
    return totals_of(name)[task]


def _deciding(recipe: Any) -> dict[str, Any]:
    """What decides a training besides its start, by key: network, encoder, and every key of the training itself."""
    training = (recipe.align or recipe.pretrain).model_dump(mode="json")
    found = {"network": recipe.network.model_dump(mode="json"), "encoder": recipe.encoder}
    for key, value in training.items():
        if key in ("objective", "optimizer", "learning_rate", "samples"):
            found |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            found[key] = value
    return found


def _differing(library: Library, tuned: str, scratch: str) -> dict[str, tuple[Any, Any]]:
    """Key -> what the two recipes have there, of those in which they differ."""
    ours, theirs = (_deciding(library.read("recipe", name)) for name in (tuned, scratch))
    pairs = {key: (ours.get(key), theirs.get(key)) for key in (ours | theirs)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _check(library: Library, tuned: str, scratch: str) -> None:
    """Refuse two recipes that differ in more than their start and `MAY_DIFFER`, or whose shards are not there."""
    recipes = [library.read("recipe", name) for name in (tuned, scratch)]
    if [recipe.starts_from is None for recipe in recipes] != [False, True]:
        raise Refused(f"Expected --tuned a recipe with starts_from and --scratch one without, got {tuned}, {scratch}.")
    if others := sorted(_differing(library, tuned, scratch).keys() - MAY_DIFFER):
        raise Refused(
            f"{tuned} and {scratch} differ in '{others[0]}'{f' and {len(others) - 1} other keys' * (len(others) > 1)}, "
            "expected the same network, labels, schedule and optimizer for both. Make them alike but for "
            f"{', '.join(sorted(MAY_DIFFER))}."
        )
    if not paths.state("evaluate", tuned).is_dir():
        raise Refused(f"'{tuned}' has no scores in this project. Run: hiraku release {tuned}")


def _notes(library: Library, tuned: str, scratch: str, chosen: dict[str, dict[float, float]], seeds: int) -> list[str]:
    """What the figures stand on.

    Args:
        library: the recipes.
        tuned: as in `measure`.
        scratch: as in `measure`.
        chosen: recipe -> learning rate -> error rate on valid.
        seeds: fresh trainings of each.
    """
    found = [
        f"{name}: on valid " + ", ".join(f"{number(error)} at {rate:.0e}" for rate, error in chosen[name].items())
        for name in (tuned, scratch)
    ]
    found.append(
        f"Bounds are of 95 %, speakers drawn anew; {seeds} seeds that had no part in choosing. A seed decides the "
        "random weights, the masks and the order of groups; which recordings make a group is the same for all."
    )
    differing = _differing(library, tuned, scratch)
    told = [f"{key} {ours} against {theirs}" for key, (ours, theirs) in sorted(differing.items()) if "rate" not in key]
    found.append(f"Besides start and learning rate, the two recipes differ in {'; '.join(told) or 'nothing'}.")
    if tuned == TUNED:
        found.append(FEW_LABELS)
    return found


def measure(
    *,
    tuned: str = TUNED,
    scratch: str = "hubert-demo-ctc-scratch",
    task: str = "demo-phoneme-errors",
    learning_rates: Sequence[float] = (5e-4, 1e-3, 2e-3),
    seeds: int = 3,
) -> Result:
    """Phoneme error rates of a fine-tuned recogniser and of one from scratch, which are trained side by side.

    Args:
        tuned: a recipe that starts from a pre-trained network.
        scratch: the same from a random start.
        task: of phoneme errors.
        learning_rates: to choose from, for each.
        seeds: fresh trainings of each that are scored on the test split.
    """
    require_repeats(seeds)
    library = Library()
    _check(library, tuned, scratch)
    names = (tuned, scratch)
    with copied_project(left_out={(verb, name) for verb in VERBS for name in names}):
        choices = [[Trained(name, rate, CHOICE_SEED) for rate in learning_rates] for name in names]
        on_valid = _scored_all(library, choices, task, "valid")
        chosen = {
            name: dict(zip(learning_rates, (each[RATE] for each in found), strict=True))
            for name, found in zip(names, on_valid, strict=True)
        }
        if min(chosen[scratch].values()) >= WORST_SCRATCH:
            raise Refused(f"From scratch nothing is learnt with {chosen[scratch]}: the comparison would say nothing.")
        best = {name: min(found, key=lambda rate: found[rate]) for name, found in chosen.items()}
        fresh = [[Trained(name, best[name], CHOICE_SEED + 1 + seed) for seed in range(seeds)] for name in names]
        tested = dict(zip(names, _scored_all(library, fresh, task, "test"), strict=True))
    ours, theirs = ([each[RATE] for each in tested[name]] for name in names)
    highest = max(each[f"{RATE}_high"] for each in tested[tuned])
    lowest = min(each[f"{RATE}_low"] for each in tested[scratch])
    least = {name: Spread.of([min(chosen[name].values())]) for name in names}
    rows = [
        Row.compare("phoneme error rate on test", "from scratch", ours, theirs, at_most=0.5),
        Row.compare("worst upper bound beside their best lower one", "from scratch", [highest], [lowest], at_most=1.0),
        Row("phoneme error rate on valid", "from scratch", theirs=least[scratch], ours=least[tuned]),
    ]
    notes = _notes(library, tuned, scratch, chosen, seeds)
    rates = " ".join(f"--learning-rates {rate:g}" for rate in learning_rates)
    command = f"python -m benchmarks {NAME} --tuned {tuned} --scratch {scratch} --task {task} {rates} --seeds {seeds}"
    return Result(NAME, command, rows, notes, describe(), {"valid": chosen, "test": tested})
