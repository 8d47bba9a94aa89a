"""The outlines of things, each drawn into a square; places are in thousandths of its side."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Points = Sequence[tuple[int, int]]
Silhouette = Callable[["ImageDraw", int], None]
"""Fills a thing with 255; the number is the last pixel of a side."""

STAR = (
    (500, 20),
    (618, 345),
    (965, 355),
    (690, 565),
    (790, 900),
    (500, 705),
    (210, 900),
    (310, 565),
    (35, 355),
    (382, 345),
)
HEART_TIP = ((62, 420), (938, 420), (500, 940))
CROSS = (
    (340, 30),
    (660, 30),
    (660, 340),
    (970, 340),
    (970, 660),
    (660, 660),
    (660, 970),
    (340, 970),
    (340, 660),
    (30, 660),
    (30, 340),
    (340, 340),
)
ARROW = ((30, 360), (540, 360), (540, 130), (970, 500), (540, 870), (540, 640), (30, 640))
FLOWER_PETALS = ((500, 190), (300, 335), (700, 335), (375, 545), (625, 545))


def _scaled(points: Points, side: int) -> list[tuple[int, int]]:
    return [(across * side // 1000, down * side // 1000) for across, down in points]


def _polygon(*points: tuple[int, int]) -> Silhouette:
    return lambda draw, side: draw.polygon(_scaled(points, side), 255)


def _ellipse(draw: "ImageDraw", side: int, box: tuple[int, int, int, int], fill: int = 255) -> None:
    draw.ellipse([each * side // 1000 for each in box], fill)


def _block(draw: "ImageDraw", side: int, box: tuple[int, int, int, int], fill: int = 255) -> None:
    draw.rectangle([each * side // 1000 for each in box], fill)


def _circle(draw: "ImageDraw", side: int) -> None:
    _ellipse(draw, side, (30, 30, 970, 970))


def _ring(draw: "ImageDraw", side: int) -> None:
    _circle(draw, side)
    _ellipse(draw, side, (270, 270, 730, 730), 0)


def _moon(draw: "ImageDraw", side: int) -> None:
    _circle(draw, side)
    _ellipse(draw, side, (330, -60, 1160, 770), 0)


def _heart(draw: "ImageDraw", side: int) -> None:
    _ellipse(draw, side, (30, 90, 520, 580))
    _ellipse(draw, side, (480, 90, 970, 580))
    draw.polygon(_scaled(HEART_TIP, side), 255)


def _house(draw: "ImageDraw", side: int) -> None:
    draw.polygon(_scaled(((500, 40), (970, 480), (30, 480)), side), 255)
    _block(draw, side, (150, 470, 850, 960))
    _block(draw, side, (410, 660, 590, 960), 0)


def _tree(draw: "ImageDraw", side: int) -> None:
    draw.polygon(_scaled(((500, 20), (790, 400), (210, 400)), side), 255)
    draw.polygon(_scaled(((500, 250), (900, 760), (100, 760)), side), 255)
    _block(draw, side, (430, 750, 570, 980))


def _car(draw: "ImageDraw", side: int) -> None:
    draw.polygon(_scaled(((270, 470), (360, 250), (690, 250), (800, 470)), side), 255)
    _block(draw, side, (30, 460, 970, 700))
    _ellipse(draw, side, (130, 590, 370, 830))
    _ellipse(draw, side, (630, 590, 870, 830))
    _block(draw, side, (420, 320, 620, 440), 0)


def _flower(draw: "ImageDraw", side: int) -> None:
    for across, down in FLOWER_PETALS:
        _ellipse(draw, side, (across - 165, down - 165, across + 165, down + 165))
    _ellipse(draw, side, (420, 310, 580, 470), 0)
    _block(draw, side, (465, 600, 535, 980))
    _ellipse(draw, side, (520, 760, 800, 880))


def _umbrella(draw: "ImageDraw", side: int) -> None:
    draw.pieslice([each * side // 1000 for each in (30, 80, 970, 1020)], 180, 360, 255)
    _block(draw, side, (470, 540, 530, 900))
    _block(draw, side, (330, 850, 530, 910))
    _block(draw, side, (330, 790, 390, 910))


def _cup(draw: "ImageDraw", side: int) -> None:
    _ellipse(draw, side, (560, 260, 970, 700))
    _ellipse(draw, side, (660, 360, 870, 600), 0)
    draw.polygon(_scaled(((100, 150), (740, 150), (660, 900), (180, 900)), side), 255)


def _mushroom(draw: "ImageDraw", side: int) -> None:
    draw.pieslice([each * side // 1000 for each in (40, 60, 960, 980)], 180, 360, 255)
    draw.polygon(_scaled(((360, 540), (640, 540), (690, 950), (310, 950)), side), 255)


def _boat(draw: "ImageDraw", side: int) -> None:
    draw.polygon(_scaled(((30, 650), (970, 650), (790, 920), (210, 920)), side), 255)
    draw.polygon(_scaled(((470, 60), (470, 590), (130, 590)), side), 255)
    draw.polygon(_scaled(((540, 160), (540, 590), (850, 590)), side), 255)


def _cloud(draw: "ImageDraw", side: int) -> None:
    for box in ((30, 420, 430, 800), (220, 210, 640, 640), (500, 310, 860, 700), (640, 450, 970, 800)):
        _ellipse(draw, side, box)
    _block(draw, side, (220, 560, 800, 800))


def _flag(draw: "ImageDraw", side: int) -> None:
    _block(draw, side, (110, 30, 190, 980))
    draw.polygon(_scaled(((190, 80), (930, 300), (190, 540)), side), 255)


SILHOUETTES: dict[str, Silhouette] = {
    "circle": _circle,
    "square": _polygon((90, 90), (910, 90), (910, 910), (90, 910)),
    "triangle": _polygon((500, 60), (970, 920), (30, 920)),
    "diamond": _polygon((500, 20), (880, 500), (500, 980), (120, 500)),
    "star": _polygon(*STAR),
    "heart": _heart,
    "cross": _polygon(*CROSS),
    "ring": _ring,
    "moon": _moon,
    "arrow": _polygon(*ARROW),
    "house": _house,
    "tree": _tree,
    "car": _car,
    "flower": _flower,
    "umbrella": _umbrella,
    "cup": _cup,
    "mushroom": _mushroom,
    "boat": _boat,
    "cloud": _cloud,
    "flag": _flag,
}
