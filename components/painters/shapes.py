"""Scenes of plain shapes, drawn with the primitives of Pillow at four times their size and then made smaller.

A scene has a `background`, a `look` and `objects`, each with `thing`, `colour`, `place` and `count`. All numbers are
whole before anything is drawn, so a scene and its lot give the same pixels everywhere.
"""

import io
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from components.painters.silhouettes import SILHOUETTES

if TYPE_CHECKING:
    from PIL.Image import Image

REVISION = 2
FINER = 4
"""Pixels that are drawn for each one of the picture, along a side."""
UNIT = 256
"""Places and sizes are in parts of the canvas, so many to a side."""

COLOURS = {
    "red": (221, 44, 44),
    "blue": (38, 84, 214),
    "green": (30, 148, 62),
    "yellow": (248, 212, 40),
    "white": (252, 252, 252),
    "black": (22, 22, 24),
    "purple": (132, 52, 172),
    "orange": (246, 134, 30),
    "pink": (250, 132, 184),
    "sky": (104, 196, 240),
    "brown": (128, 78, 40),
    "grey": (140, 140, 142),
}
BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (16, 16, 18),
    "cream": (255, 244, 206),
    "navy": (24, 34, 84),
    "mint": (206, 240, 212),
    "rose": (254, 218, 226),
    "silver": (200, 204, 208),
}
DARK = ("black", "navy")
DARK_EDGE, LIGHT_EDGE = (46, 46, 50), (236, 236, 240)
# Place -> where the middle of a thing stands.
MIDDLES = {"centre": (128, 128), "left": (66, 128), "right": (190, 128), "top": (128, 66), "bottom": (128, 190)}
ROW_MIDDLES = {"left": (44, 128), "middle": (128, 128), "right": (212, 128)}
# Number of things -> their middles.
SEVERAL = {
    2: ((72, 128), (184, 128)),
    3: ((70, 84), (186, 84), (128, 184)),
    4: ((72, 72), (184, 72), (72, 184), (184, 184)),
}
JITTER = 2
"""How far from its middle a thing may stand: half a pixel of 64. Where it was up to eleven, and sizes differed by a
half, a tower of a million parameters told no shape from another after ten minutes, and went by colours alone."""
SIZES = {"single": (133, 139), "several": (85, 91), "beside": (97, 103), "above": (97, 103), "row": (69, 75)}
"""Layout -> the smallest and the largest side of a thing."""


class Shapes:
    """Draws scenes on a canvas of one size."""

    def __init__(self, canvas_px: int) -> None:
        self.canvas_px = canvas_px
        self.facts: dict[str, Any] = {"kind": "shapes", "canvas_px": canvas_px, "revision": REVISION}

    def draw(self, scene: dict[str, Any], lot: int) -> bytes:
        """A PNG of what a scene says; see `components.painters.Engine`."""
        from PIL import Image

        rng = random.Random(lot)  # noqa: S311 (where things stand, no key)
        side = self.canvas_px * FINER
        image = Image.new("RGB", (side, side), BACKGROUNDS[scene["background"]])
        edge = LIGHT_EDGE if scene["background"] in DARK else DARK_EDGE
        for each, (across, down) in _placed(scene, rng):
            smallest, largest = SIZES[scene["layout"]]
            size = rng.randrange(smallest, largest + 1) * side // UNIT
            corner = (across * side // UNIT - size // 2, down * side // UNIT - size // 2)
            _put(image, corner, size, each["thing"], COLOURS[each["colour"]], edge, scene["look"])
        stream = io.BytesIO()
        image.reduce(FINER).save(stream, "PNG", compress_level=6)
        return stream.getvalue()


def _placed(scene: dict[str, Any], rng: random.Random) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
    """Every thing with the middle of where it stands."""
    middles = ROW_MIDDLES if scene["layout"] == "row" else MIDDLES
    for each in scene["objects"]:
        for across, down in SEVERAL[each["count"]] if each["count"] > 1 else (middles[each["place"]],):
            yield each, (across + _jitter(rng), down + _jitter(rng))


def _jitter(rng: random.Random) -> int:
    return rng.randrange(-JITTER, JITTER + 1)


def _put(
    image: "Image",
    corner: tuple[int, int],
    size: int,
    thing: str,
    colour: tuple[int, int, int],
    edge: tuple[int, int, int],
    look: str,
) -> None:
    """One thing with a thin edge, so that it can be seen before any background."""
    if look == "hollow":
        image.paste(colour, corner, _rim(thing, size, size // 9))
        return
    image.paste(colour, corner, _mask(thing, size))
    if look != "plain":
        image.paste(_second(colour), corner, _patterned(thing, size, look))
    image.paste(edge, corner, _rim(thing, size, max(2, size // 40)))


def _second(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The other colour of a pattern: light on dark colours, dark on light ones."""
    red, green, blue = colour
    return (250, 250, 250) if 299 * red + 587 * green + 114 * blue < 165_000 else (60, 60, 64)


@lru_cache(maxsize=4096)
def _mask(thing: str, size: int) -> "Image":
    """255 where a thing is, mode L."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (size, size), 0)
    SILHOUETTES[thing](ImageDraw.Draw(mask), size - 1)
    return mask


@lru_cache(maxsize=4096)
def _rim(thing: str, size: int, width: int) -> "Image":
    """255 where a thing is that is nearer than so many pixels to its edge."""
    from PIL import Image, ImageChops, ImageFilter

    mask = _mask(thing, size)
    framed = Image.new("L", (size + 2 * width, size + 2 * width), 0)
    framed.paste(mask, (width, width))
    reach = 2 * width + 1
    inner = framed.filter(ImageFilter.MinFilter(reach)).crop((width, width, width + size, width + size))
    return ImageChops.subtract(mask, inner)


@lru_cache(maxsize=4096)
def _patterned(thing: str, size: int, look: str) -> "Image":
    """255 where a thing has the other colour of its pattern."""
    from PIL import Image, ImageChops, ImageDraw

    pattern = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(pattern)
    step = max(8, size // 4)
    if look == "striped":
        for left in range(-size, size, step):
            draw.polygon([(left, size), (left + step // 2, size), (left + step // 2 + size, 0), (left + size, 0)], 255)
    elif look == "banded":
        for reach, level in ((size // 3, 255), (size // 4, 0)):
            draw.ellipse([size // 2 - reach, size // 2 - reach, size // 2 + reach, size // 2 + reach], level)
    else:
        for row, top in enumerate(range(-step // 2, size, step)):
            for left in range(-step // 2 + (row % 2) * step // 2, size, step):
                draw.ellipse([left, top, left + step // 2, top + step // 2], 255)
    return ImageChops.multiply(pattern, _mask(thing, size))


def open_engine(section: Any) -> Shapes:
    """The painter of a section: `components.painters.schema.Shapes`."""
    return Shapes(section.canvas_px)
