"""The profiles of the data that a version was trained on, kept with its run, and how far today's are from them."""

import json
from collections.abc import Collection
from pathlib import Path

from components import paths, registry, tracking
from components.drift import Drift, drift_between
from components.graph import plan
from components.recipes import Library
from components.validate import PROFILE_NAME

FOLDER = "profiles"
"""Among a run's artifacts: `profiles/<corpus>/profile.json`."""
DRIFT_NAME = "drift.md"


def keep(release: tracking.Release, recipe: str) -> None:
    """Keep the profile of each corpus of a recipe with the run that registers its version."""
    for corpus in _corpora(recipe):
        release.attach(_profile(corpus), f"{FOLDER}/{corpus}")


def drifts(recipe: str, taken_in: Collection[str]) -> tuple[list[Drift], dict[str, str]]:
    """How far each corpus of a recipe is from what the champion was trained on.

    Args:
        recipe: whose corpora they are.
        taken_in: those that are up to date; a profile of another is of what was there before.

    Returns:
        The drifts, and for each corpus that cannot be compared why.
    """
    champion = registry.read_version(recipe, registry.CHAMPION)
    found: list[Drift] = []
    without: dict[str, str] = {}
    for corpus in _corpora(recipe):
        if champion is None:
            without[corpus] = "there is no champion to compare with"
            continue
        if corpus not in taken_in:
            without[corpus] = "a model makes it, so it is taken in after this"
            continue
        before = tracking.kept_text(champion.run_id, f"{FOLDER}/{corpus}/{PROFILE_NAME}")
        if before is None:
            without[corpus] = f"the run of champion {champion.version} keeps no profile of it"
            continue
        now = json.loads(_profile(corpus).read_text(encoding="utf-8"))
        found.append(drift_between(corpus, json.loads(before), now))
    return found, without


def keep_drift(release: tracking.Release, found: list[Drift], text: str) -> None:
    """Keep what was measured with a release's run: figures to compare runs by, and the table."""
    release.metrics({f"drift/{each.corpus}": each.largest for each in found})
    release.write(DRIFT_NAME, text)


def _corpora(recipe: str) -> list[str]:
    return [stage.name for stage in plan(Library(), recipe) if stage.verb == "validate"]


def _profile(corpus: str) -> Path:
    return paths.state("validate", corpus) / PROFILE_NAME
