"""A page holds small copies of its pictures, however large they are."""

import base64
import io
import re

import numpy as np
from PIL import Image

from components.drawn import Drawn, grid
from components.grids import Strip, Tile, strips
from components.thumbnails import thumbnail
from flows.mirror import MAX_REPORT_BYTES
from tests.components.image.small_pictures import file_of, noise


def large(width: int = 512, height: int = 512) -> bytes:
    """A picture of which a PNG can save nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return file_of(Image.fromarray(pixels))


def inlined(svg: str) -> list[bytes]:
    """The pictures in a page."""
    return [base64.b64decode(text) for text in re.findall(r'href="data:image/\w+;base64,([^"]*)"', svg)]


def test_a_grid_of_large_pictures_is_a_file_that_the_tracking_server_gets() -> None:
    picture = large()
    assert 12 * len(picture) > MAX_REPORT_BYTES
    drawn = [Drawn("task", f"i{n}", f"prompt {n // 6}", n, picture) for n in range(12)]
    preview = strips("align, step 100", [Strip(f"prompt {n}", [Tile(picture)]) for n in range(12)])
    for svg in (grid(drawn), preview):
        assert len(svg) < MAX_REPORT_BYTES / 4
        found = inlined(svg)
        assert {Image.open(io.BytesIO(each)).size for each in found} == {(200, 200)}
        assert len(found) == 12


def test_a_small_picture_stays_as_it_is() -> None:
    picture = file_of(noise(64, 64))
    assert inlined(strips("small", [Strip("a", [Tile(picture)])])) == [picture]


def test_proportions_are_kept() -> None:
    assert Image.open(io.BytesIO(thumbnail(large(400, 100)))).size == (200, 50)
