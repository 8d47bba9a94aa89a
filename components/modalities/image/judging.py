"""Scores of generated pictures: by a pair of towers, by a judge of what they show, and against real ones as a lot."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from components.drawn import Drawn, grid
from components.grids import Strip, Tile, strips
from components.judges import judge_of
from components.modalities.image import distances, exhibits
from components.modalities.image.generating import Asked, draw, draw_prompts, real_pictures
from components.modalities.image.generation_schema import (
    FixedPrompts,
    ImageDistance,
    ImageSimilarity,
    Sampled,
    SceneJudge,
)
from components.modalities.image.labels import group_of
from components.modalities.image.naming import logits_of, parts_of
from components.modalities.image.pictures import decoded
from components.modalities.image.reading import Read, Row, Tell
from components.modalities.image.similarity import Pair, open_pair, ranks
from components.outcomes import Refused
from models import part_of

NEAR_QUANTILE = 0.01
"""A generated picture nearer to training than this share of held-out real ones is told of."""
NUM_NEAREST = 10
LEAST = 3
"""Pictures of which a jackknife of pairs can be made."""


def score_generated(task: Sampled, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Rows of a task of generated pictures; see `components.modalities.image.scoring.score`.

    Raises:
        Refused: the model draws nothing, the judge is of another kind, or there are too few pictures.
    """
    if isinstance(task, SceneJudge):
        yield from _scene_judge(task, model, read, tell)
        return
    assert isinstance(task, ImageSimilarity | ImageDistance | FixedPrompts)  # noqa: S101 - there are no others
    judge = judge_of(task.model)
    pair = open_pair(judge.family, judge.folder, task.batch_pictures)
    if isinstance(task, FixedPrompts):
        yield from _fixed(task, model, pair, tell)
    elif isinstance(task, ImageSimilarity):
        yield from _similarity(task, model, pair, read, tell)
    else:
        yield from _distance(task, model, pair, read, tell)


def _totals(values: Mapping[str, float]) -> Iterator[Row]:
    for metric, value in values.items():
        yield {"item": None, "metric": metric, "value": float(value)}


def _items(asked: Asked, columns: Mapping[str, np.ndarray]) -> Iterator[Row]:
    """A row for each picture and metric."""
    for number, record in enumerate(asked.records):
        for metric, values in columns.items():
            yield {"item": record["id"], "metric": metric, "value": float(values[number])}


def _shown(asked: Asked, words: list[str], are_right: list[bool], task: str) -> Iterator[Row]:
    """The first pictures to be kept, and a grid of them."""
    rows = list(asked.shown(words, are_right))
    yield from rows
    svg = grid(Drawn(task=task, **row["drawn"]) for row in rows)
    yield {"item": None, "picture": "pictures.svg", "svg": svg}


# ---- nearness to prompts ---------------------------------------------------------------------------------------------


def _similarity(task: ImageSimilarity, model: Any, pair: Pair, read: Read, tell: Tell) -> Iterator[Row]:
    asked = draw(task, model, [], read, tell)
    words, seen = pair.of_texts(asked.prompts), pair.of_pictures(asked.pictures)
    cosines = (words * seen).sum(dim=1).numpy()
    places = ranks(seen, words, [np.array(asked.prompts)])
    yield from _items(asked, {"cosine": cosines, "is_nearest": places == 1})
    totals = {
        "cosine": cosines.mean(),
        "r_precision": (places == 1).mean(),
        "num_pictures": len(asked.prompts),
        "num_prompts": len(set(asked.prompts)),
    }
    if task.has_pictures:
        real = pair.of_pictures(real_pictures(task, asked.records, read))
        totals["cosine_of_real"] = (words * real).sum(dim=1).numpy().mean()
        totals["r_precision_of_real"] = (ranks(real, words, [np.array(asked.prompts)]) == 1).mean()
    yield from _totals(totals)
    yield from _shown(asked, [f"{each:.2f}" for each in cosines], (places == 1).tolist(), task.kind)


def _fixed(task: FixedPrompts, model: Any, pair: Pair, tell: Tell) -> Iterator[Row]:
    items = [(prompt, number) for prompt in task.prompts for number in range(task.pictures_of_each)]
    records: list[Row] = [{"id": f"{prompt} {number}"} for prompt, number in items]
    asked = draw_prompts(task, model, records, [prompt for prompt, _ in items], tell)
    cosines = (pair.of_texts(asked.prompts) * pair.of_pictures(asked.pictures)).sum(dim=1).numpy()
    yield from _items(asked, {"cosine": cosines})
    yield from _totals({"cosine": cosines.mean(), "num_pictures": len(items), "num_prompts": len(task.prompts)})
    yield from _shown(asked, [f"{each:.2f}" for each in cosines], [False] * len(items), task.kind)


# ---- what they show --------------------------------------------------------------------------------------------------


def _scene_judge(task: SceneJudge, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    judge = judge_of(task.model)
    network = part_of(judge.family, "convert").load(judge.folder).to(_device(model))
    names = names_of(network, task)
    asked = draw(task, model, [task.marks], read, tell)
    wanted = [_wanted(task, record, names) for record in asked.records]
    said: dict[str, list[int]] = {group: [] for group in names}
    for start in range(0, len(asked.pictures), task.batch_pictures):
        logits = logits_of(network, asked.pictures[start : start + task.batch_pictures], judge.family)
        for group, part in parts_of(logits, network.config.label_groups):
            if group in said:
                said[group] += part.argmax(axis=1).tolist()
    right = {group: np.array(said[group]) == np.array([each[group] for each in wanted]) for group in task.groups}
    right["all"] = np.all(list(right.values()), axis=0)
    yield from _items(asked, {f"{group}_is_right": values for group, values in right.items()})
    totals = {f"{group}_right": values.mean() for group, values in right.items()}
    yield from _totals(totals | {"num_pictures": len(asked.records), "num_prompts": len(set(asked.prompts))})
    for group in task.groups:
        own = [each.partition(" ")[2] for each in names[group]]
        found = exhibits.confusion(own, np.array([each[group] for each in wanted]), np.array(said[group]))
        yield found | {"picture": f"{group}.svg"}
    words = [
        " ".join(names[group][said[group][place]].partition(" ")[2] for group in task.groups[:2])
        for place in range(len(asked.records))
    ]
    yield from _shown(asked, words, right["all"].tolist(), task.kind)


def names_of(network: Any, task: SceneJudge) -> dict[str, list[str]]:
    """The names that a judge chooses between: group -> names, of the groups that a task asks for.

    Raises:
        Refused: the network has no such groups.
    """
    sizes: dict[str, int] = getattr(getattr(network, "config", None), "label_groups", None) or {}
    if missing := [group for group in task.groups if group not in sizes]:
        raise Refused(
            f"The judge '{task.model}' has the groups {', '.join(sizes) or 'of no kind'}, expected "
            f"{', '.join(missing)} among them. Change the task's key 'groups', or name a judge whose encoder of labels "
            "has them in its key 'groups'."
        )
    labels = [network.config.id2label[number] for number in range(sum(sizes.values()))]
    found, end = {}, 0
    for group, size in sizes.items():
        end += size
        found[group] = labels[end - size : end]
    return {group: own for group, own in found.items() if group in task.groups}


def _wanted(task: SceneJudge, record: Row, names: dict[str, list[str]]) -> dict[str, int]:
    """Group -> the number of the name that a record asks for.

    Raises:
        Refused: it asks for none, or for one that the judge does not know.
    """
    marks = {group_of(mark): mark for mark in json.loads(record[task.marks])}
    for group, own in names.items():
        if marks.get(group) not in own:
            raise Refused(
                f"Record '{record['id']}' of corpus '{task.corpus}' asks for '{marks.get(group, f'{group} ?')}' in the "
                f"column '{task.marks}', but the judge '{task.model}' knows {', '.join(own)}. Change the task's key "
                "'groups' or 'marks', or train the judge on pictures of it."
            )
    return {group: own.index(marks[group]) for group, own in names.items()}


def _device(model: Any) -> Any:
    return next(model.network.parameters()).device


# ---- the lot of them -------------------------------------------------------------------------------------------------


def _distance(task: ImageDistance, model: Any, pair: Pair, read: Read, tell: Tell) -> Iterator[Row]:
    if not task.has_pictures:
        raise Refused("A task of kind 'image-distance' needs real pictures. Take its key 'has_pictures: false' out.")
    asked = draw(task, model, [], read, tell)
    if len(asked.pictures) < LEAST:
        raise Refused(
            f"{len(asked.pictures)} pictures are drawn in the split '{task.split}' of corpus '{task.corpus}', expected "
            f"{LEAST} or more to compare with as many real ones. Change the key 'split' or 'max_pictures' of the task."
        )
    ours = pair.of_pictures(asked.pictures).numpy()
    real = pair.of_pictures(real_pictures(task, asked.records, read)).numpy()
    columns = {"kernel_distance": distances.kernel_distance(ours, real), "diversity": distances.diversity(ours)}
    totals = {metric: values.mean() for metric, values in columns.items()}
    totals |= {"diversity_of_real": distances.diversity(real).mean(), "num_pictures": len(asked.pictures)}
    if task.trained_on:
        trained, places = _training_features(task, pair, read)
        numbers, far = distances.nearest(ours, trained)
        usual = distances.nearest(real, trained)[1]
        columns["train_distance"] = far
        nearest = _training_pictures(task, [places[each] for each in numbers.tolist()], read)
        totals |= {
            "train_distance": far.mean(),
            "train_distance_of_real": usual.mean(),
            "share_nearer_than_real": (far < np.quantile(usual, NEAR_QUANTILE)).mean(),
            "num_same": sum(map(_is_same, asked.pictures, nearest)),
            "num_training_pictures": len(trained),
        }
        yield _nearest_exhibit(asked, far, nearest)
    yield from _items(asked, columns)
    yield from _totals(totals)
    yield from _shown(asked, [""] * len(asked.pictures), [False] * len(asked.pictures), task.kind)


def _training_rows(task: ImageDistance, read: Read) -> Iterator[tuple[tuple[str, str], bytes]]:
    """((corpus, id), picture) of what the generator was trained on."""
    for corpus in task.trained_on:
        for number, row in enumerate(read(corpus, [task.picture], splits={"train"})):
            if number == task.max_training_pictures:
                break
            yield (corpus, row["id"]), row[task.picture]


def _training_features(task: ImageDistance, pair: Pair, read: Read) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """float32 [pictures, projection] of training pictures, and where each comes from.

    Raises:
        Refused: there is none.
    """
    places: list[tuple[str, str]] = []
    rows: list[np.ndarray] = []
    waiting: list[bytes] = []
    for place, picture in _training_rows(task, read):
        places.append(place)
        waiting.append(picture)
        if len(waiting) == task.batch_pictures:
            rows.append(pair.of_pictures(waiting).numpy())
            waiting = []
    if waiting:
        rows.append(pair.of_pictures(waiting).numpy())
    if not rows:
        raise Refused(
            f"The corpora {', '.join(task.trained_on)} have no accepted picture in the split 'train'. Change the "
            "task's key 'trained_on'."
        )
    return np.concatenate(rows), places


def _training_pictures(task: ImageDistance, wanted: list[tuple[str, str]], read: Read) -> list[bytes]:
    """The pictures at some places, in their order."""
    there = set(wanted)
    found = {place: picture for place, picture in _training_rows(task, read) if place in there}
    return [found[place] for place in wanted]


def _is_same(ours: bytes, other: bytes) -> bool:
    """Whether two pictures are the same in every pixel."""
    return bool(np.array_equal(np.asarray(decoded(ours)), np.asarray(decoded(other))))


def _nearest_exhibit(asked: Asked, far: np.ndarray, nearest: list[bytes]) -> Row:
    """The generated pictures that are nearest to one of training, with that one and their distance."""
    rows = [
        Strip(
            asked.prompts[place],
            [Tile(asked.pictures[place], "drawn"), Tile(nearest[place], f"{far[place]:.4f}")],
        )
        for place in np.argsort(far, kind="stable")[:NUM_NEAREST].tolist()
    ]
    title = "Nearest to a picture of training, behind each, with 1 - cosine"
    return {"item": None, "picture": "nearest.svg", "svg": strips(title, rows)}
