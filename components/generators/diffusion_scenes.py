"""Scenes for the demo of Stable Diffusion: one or two of one thing, in a colour and a look, before a background.

A few of the things, colours and looks of `scene_words`, so that a small network can learn them all. One Japanese word,
蛇の目, names an umbrella with a white ring, a look that no picture of the base has: what the two stages are about.
A fifth of all combinations of thing, colour, background and number is held out of train and valid.

    base.jsonl      known things in known looks, captions in English
    japanese.jsonl  the same with Japanese captions, and umbrellas with a ring, which are called 蛇の目
    judged.jsonl    every thing in every look, for a judge, of pictures that nothing else is made from
    prompts.jsonl   what is asked for with the new word, in combinations that are held out; all of split test
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.generators.scene_words import BACKGROUNDS, COLOURS, LOOKS, NUMBER_WORDS, THINGS
from components.generators.scenes import LICENCE, Scene
from components.generators.town import pick
from components.generators.vocabulary import counted

SEED = 9_001
FOLDER = Path("demo/diffusion")
SIZES = {
    "base": {"train": 4_000, "valid": 200, "test": 200},
    "japanese": {"train": 4_000, "valid": 200, "test": 200},
    "judged": {"train": 4_000, "valid": 200, "test": 1_000},
    "prompts": {"test": 200},
}
KNOWN_THINGS = ("circle", "square", "star", "heart", "house", "tree", "cup", "umbrella")
KNOWN_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")
KNOWN_BACKGROUNDS = ("white", "cream", "silver")
KNOWN_LOOKS = ("plain", "plain", "striped", "hollow")
"""Each entry is as likely as another."""
LAYOUTS = {1: "single", 2: "several"}
"""Number of things -> layout."""
NEW_THING, NEW_LOOK, NEW_WORD, NEW_COUNTER = "umbrella", "banded", "蛇の目", "本"
NEW_PERCENT = 25
"""Of the Japanese pictures, those of the new word."""
HELD_OUT = 5
"""One combination in so many is held out."""


def write_diffusion_scenes(data: Path) -> None:
    """Write `demo/diffusion/<file>.jsonl`, 14,200 scenes together, below the folder of raw data."""
    rng = random.Random(SEED)  # noqa: S311 (a generator of scenes, not of keys)
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, sizes in SIZES.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for number, (split, scene) in enumerate(_scenes(rng, name, sizes)):
                row = _row(rng, f"diffusion-{name}-{number:05d}", split, scene)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def is_held_out(scene: Scene) -> bool:
    """Whether no picture of train or valid has its thing in its colour and number before its background."""
    (thing, colour), *_ = scene.things
    places = (
        KNOWN_THINGS.index(thing),
        KNOWN_COLOURS.index(colour),
        KNOWN_BACKGROUNDS.index(scene.background),
        scene.count,
    )
    return sum(places) % HELD_OUT == 0


def _scenes(rng: random.Random, name: str, sizes: dict[str, int]) -> Iterator[tuple[str, Scene]]:
    """(split, scene) of a file; a judge sees held-out combinations too."""
    for split, number in sizes.items():
        for _ in range(number):
            scene = _scene(rng, name)
            while name != "judged" and is_held_out(scene) != (split == "test"):
                scene = _scene(rng, name)
            yield split, scene


def _scene(rng: random.Random, name: str) -> Scene:
    is_new = name == "prompts" or (name == "japanese" and rng.randrange(100) < NEW_PERCENT)
    thing, look = (NEW_THING, NEW_LOOK) if is_new else (pick(rng, KNOWN_THINGS), pick(rng, KNOWN_LOOKS))
    if name == "judged":
        look = pick(rng, (*dict.fromkeys(KNOWN_LOOKS), NEW_LOOK))
    count = pick(rng, list(LAYOUTS))
    things = ((thing, pick(rng, KNOWN_COLOURS)),)
    return Scene(LAYOUTS[count], things, pick(rng, KNOWN_BACKGROUNDS), look, count)


def _row(rng: random.Random, name: str, split: str, scene: Scene) -> dict[str, Any]:
    """A raw row: the scene, its captions in both languages, and what a judge should see."""
    (thing, colour), *_ = scene.things
    return {
        "id": name,
        "split": split,
        "scene": {"name": name, **scene.shown()},
        "japanese": _japanese(rng, scene),
        "english": _english(rng, scene),
        "marks": [f"thing {thing}", f"look {scene.look}", f"colour {colour}", f"count {scene.count}"],
        "source": "diffusion scenes",
        "license": LICENCE,
    }


# ---- captions --------------------------------------------------------------------------------------------------------


def _japanese(rng: random.Random, scene: Scene) -> list[str]:
    """Two of three wordings; the new word alone says thing and look."""
    (thing, colour), *_ = scene.things
    is_new = scene.look == NEW_LOOK
    name = COLOURS[colour][0] + (NEW_WORD if is_new else THINGS[thing][0])
    named = name if is_new else LOOKS[scene.look][0] + name
    number = counted(scene.count, NEW_COUNTER if is_new else THINGS[thing][1])
    background = f"{BACKGROUNDS[scene.background][0]}背景"
    wordings = (
        f"{background}に{named}が{number}",
        f"{background}で、{number}の{named}",
        f"{named}が{number}、{background}",
    )
    return _two(rng, wordings)


def _english(rng: random.Random, scene: Scene) -> list[str]:
    """Two of three wordings; of the new look, which the base has no word for, the thing alone."""
    (thing, colour), *_ = scene.things
    look = "" if scene.look == NEW_LOOK else LOOKS[scene.look][1]
    named = f"{look}{COLOURS[colour][1]} {THINGS[thing][2 + (scene.count > 1)]}"
    number, background = NUMBER_WORDS[scene.count], f"{BACKGROUNDS[scene.background][1]} background"
    wordings = (
        f"{number} {named} on a {background}",
        f"a {background} with {number} {named}",
        f"{named}, {number} of them, {background}",
    )
    return _two(rng, wordings)


def _two(rng: random.Random, wordings: tuple[str, ...]) -> list[str]:
    left_out = rng.randrange(len(wordings))
    return [each for place, each in enumerate(wordings) if place != left_out]
