"""The demo's scenes: what is to be seen in pictures that are yet to be drawn, and captions that say just that.

A scene has one to three kinds of things with a colour each, at places that words name, before a background. Captions
say it in several ways and in more or less detail; foils say something else in the same words: places or colours
exchanged, another number. Of the 240 pairs of thing and colour 100 occur in no scene of train or valid, and have
pictures of their own.

    pairs.jsonl         pictures with captions, of all splits: no scene stands in two
    compositions.jsonl  one thing of an unseen pair of thing and colour, all of split test
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.generators.scene_words import BACKGROUNDS, CLASHES, COLOURS, LOOKS, THINGS, Captions
from components.generators.town import pick

SEED = 8_001
LICENCE = "CC0-1.0"
FOLDER = Path("demo/scenes")
FILES = ("pairs.jsonl", "compositions.jsonl")

PAIRS = {"train": 9_600, "valid": 400, "test": 1_200}
PER_COMPOSITION = 10
LAYOUTS = ("single",) * 2 + ("several",) * 3 + ("beside",) * 6 + ("above",) * 4 + ("row",) * 5
"""Each entry is as likely as another."""
PLACES = {
    "single": ("centre",),
    "several": ("everywhere",),
    "beside": ("left", "right"),
    "above": ("top", "bottom"),
    "row": ("left", "middle", "right"),
}
"""Layout -> where its things stand, in the order of its captions."""
NOTHING = "nothing"
"""What is marked at a place where no thing stands."""
NUMBERS = (2, 3, 4)
SPECIAL_LOOK_PERCENT = 20
UNSEEN_COLOURS = 5
"""Of each thing, in no scene of train or valid."""
MOST_TRIES = 10_000


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    layout: str
    things: tuple[tuple[str, str], ...]
    """(thing, colour) at each place of the layout."""
    background: str
    look: str
    count: int = 1
    """Of each thing."""

    def shown(self) -> dict[str, Any]:
        """For whoever draws or judges it."""
        places = PLACES[self.layout]
        objects = [
            {"thing": thing, "colour": colour, "place": place, "count": self.count}
            for (thing, colour), place in zip(self.things, places, strict=True)
        ]
        return {"background": self.background, "look": self.look, "layout": self.layout, "objects": objects}

    def marks(self) -> list[str]:
        """A class of each group, such as `left-thing star`: what stands at each place, its colour, and the rest."""
        placed = dict(zip(PLACES[self.layout], self.things, strict=True))
        found = [f"background {self.background}", f"look {self.look}", f"count {self.count * len(self.things)}"]
        for place in dict.fromkeys(place for places in PLACES.values() for place in places):
            thing, colour = placed.get(place, (NOTHING, NOTHING))
            found += [f"{place}-thing {thing}", f"{place}-colour {colour}"]
        return found


def is_unseen(thing: str, colour: str) -> bool:
    """Whether no scene of train or valid has a thing in a colour."""
    return (list(COLOURS).index(colour) + list(THINGS).index(thing)) % len(COLOURS) < UNSEEN_COLOURS


def write_scenes(data: Path) -> None:
    """Write `demo/scenes/<file>.jsonl`, 12,200 scenes together, below the folder of raw data."""
    rng = random.Random(SEED)  # noqa: S311 (a generator of scenes, not of keys)
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, scenes in zip(FILES, (_drawn_by_lot(rng), _compositions()), strict=True):
        with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
            for number, (split, scene) in enumerate(scenes):
                row = _row(f"{name.partition('.')[0]}-{number:05d}", split, scene, Captions(rng, scene))
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _row(name: str, split: str, scene: Scene, said: Captions) -> dict[str, Any]:
    """A raw row: the scene, its captions by detail, its foils, its classes."""
    thing, colour = scene.things[0]
    return {
        "id": name,
        "split": split,
        "scene": {"name": name, **scene.shown()},
        **said.fields(),
        "label": Captions.composition(thing, colour),
        "marks": scene.marks(),
        "thing": thing,
        "colour": colour,
        "look": scene.look,
        "count": scene.count,
        "layout": scene.layout,
        "source": "scenes",
        "license": LICENCE,
    }


# ---- scenes ----------------------------------------------------------------------------------------------------------


def _drawn_by_lot(rng: random.Random) -> Iterator[tuple[str, Scene]]:
    """(split, scene) of the pictures with captions; none twice."""
    seen: set[Scene] = set()
    for split, number in PAIRS.items():
        for _ in range(number):
            scene = next(each for each in _tries(rng) if each not in seen)
            seen.add(scene)
            yield split, scene


def _tries(rng: random.Random) -> Iterator[Scene]:
    for _ in range(MOST_TRIES):
        yield _scene(rng, pick(rng, LAYOUTS))
    raise RuntimeError("no new scene is left: raise the number of things, colours or backgrounds")


def _scene(rng: random.Random, layout: str) -> Scene:
    number = len(PLACES[layout])
    look = pick(rng, [each for each in LOOKS if each != "plain"])
    scene = Scene(
        layout,
        _things(rng, number),
        background="",
        look=look if rng.randrange(100) < SPECIAL_LOOK_PERCENT else "plain",
        count=pick(rng, NUMBERS) if layout == "several" else 1,
    )
    return replace(scene, background=_background(rng, scene))


def _things(rng: random.Random, number: int) -> tuple[tuple[str, str], ...]:
    """So many things, all of them different and of different colours, none of them unseen."""
    found: dict[str, str] = {}
    while len(found) < number:
        thing, colour = pick(rng, list(THINGS)), pick(rng, list(COLOURS))
        if thing not in found and colour not in found.values() and not is_unseen(thing, colour):
            found[thing] = colour
    return tuple(found.items())


def _background(rng: random.Random, scene: Scene) -> str:
    """One before which every thing can be seen."""
    colours = {colour for _, colour in scene.things}
    return pick(rng, [each for each in BACKGROUNDS if not colours & CLASHES.get(each, set())])


def _compositions() -> Iterator[tuple[str, Scene]]:
    """Of each unseen pair scenes that differ in background or look."""
    for thing in THINGS:
        for colour in COLOURS:
            if is_unseen(thing, colour):
                clear = [each for each in BACKGROUNDS if colour not in CLASHES.get(each, set())]
                kinds = [(background, look) for look in LOOKS for background in clear]  # plain ones first
                for background, look in kinds[:PER_COMPOSITION]:
                    yield "test", Scene("single", ((thing, colour),), background, look)
