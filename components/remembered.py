"""What the tracking server remembers of earlier runs, for those who compare them or ask where a model comes from."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from components.tracking import client, every


@dataclass(frozen=True)
class Remembered:
    """A run as the tracking server remembers it."""

    run_id: str
    verb: str
    status: str
    began: datetime
    seconds: float | None
    """From its start to its end; None while it runs."""
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def runs_of(recipe: str, verbs: Collection[str], count: int) -> list[Remembered]:
    """The last runs of a recipe that were asked for by a person or a schedule, newest first.

    Args:
        recipe: what they made.
        verbs: `release`, or verbs that were run alone.
        count: at most so many.
    """
    places = [each.experiment_id for each in every(client().search_experiments)]
    wanted = f"tags.recipe = '{recipe}' and tags.`hiraku.kind` != 'stage'"
    search = partial(client().search_runs, places, wanted, order_by=["attributes.start_time DESC"])
    found = (run for run in every(search) if run.info.run_name.partition(" ")[0] in verbs)
    return [_remembered(run) for run in islice(found, count)] if places else []


def tags_of_maker(payload_hash: str) -> dict[str, str]:
    """The tags of the newest run that left a state with this content; empty if there is none here."""
    places = [each.experiment_id for each in every(client().search_experiments)]
    wanted = f"tags.payload_hash = '{payload_hash}'"
    found = client().search_runs(places, wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return dict(found[0].data.tags) if found else {}


def _remembered(run: Any) -> Remembered:
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    began = datetime.fromtimestamp(info.start_time / 1000).astimezone()
    verb = info.run_name.partition(" ")[0]
    return Remembered(info.run_id, verb, info.status, began, seconds, data.params, data.metrics, data.tags)
