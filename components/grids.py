"""Pictures in rows and matrices of numbers as plain SVG: one file, the same bytes for the same data.

Pictures stand within, as thumbnails: a dozen of 512 pixels would be a file of eight megabytes.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from components.thumbnails import thumbnail

STYLE = 'font-family="sans-serif" font-size="12" fill="#444"'
CELL = 72
"""Width and height of a picture, in px."""
GAP = 8
TEXT_WIDTH = 300
LETTER = 7
"""Width of a Latin letter of 12 px."""
LINE_CHARS = 24
"""Japanese characters of 12 px that stand in a line."""
MAX_MATRIX = 720
"""Width and height of a matrix at most, in px."""
MAX_CELL = 26
MARGIN = 110
GOOD, SOFT = "#1b7f4d", "#ddd"


@dataclass(frozen=True)
class Tile:
    """A picture with a word below it."""

    picture: bytes
    """PNG or JPEG."""
    word: str = ""
    is_marked: bool = False


@dataclass(frozen=True)
class Strip:
    """A text with pictures beside it."""

    text: str
    tiles: Sequence[Tile]


def strips(title: str, rows: Sequence[Strip], heads: Sequence[str] = ()) -> str:
    """Rows of pictures, each behind its text; marked ones have a green frame.

    Args:
        title: stands above.
        rows: the same number of pictures in each, if there are heads.
        heads: a word above each column, which are wide enough for it then.
    """
    step, first = CELL + 28, 36 + (24 if heads else 0)
    across = max([CELL, *(LETTER * len(head) for head in heads)]) + GAP
    width = TEXT_WIDTH + max((len(row.tiles) for row in rows), default=0) * across + 2 * GAP
    parts = _head(width, first + step * len(rows))
    parts.append(f'<text x="{GAP}" y="22" font-weight="bold" {STYLE}>{escape(title)}</text>')
    for place, head in enumerate(heads):
        parts.append(f'<text x="{TEXT_WIDTH + GAP + place * across}" y="48" {STYLE}>{escape(head)}</text>')
    for number, row in enumerate(rows):
        top = first + number * step
        for line, text in enumerate(_lines(row.text)):
            parts.append(f'<text x="{GAP}" y="{top + 16 + 16 * line}" {STYLE}>{escape(text)}</text>')
        for place, tile in enumerate(row.tiles):
            left = TEXT_WIDTH + GAP + place * across
            colour, stroke = (GOOD, 4) if tile.is_marked else (SOFT, 1)
            parts.append(
                f'<rect x="{left}" y="{top}" width="{CELL}" height="{CELL}" fill="white" stroke="{colour}" '
                f'stroke-width="{stroke}"/><image x="{left}" y="{top}" width="{CELL}" height="{CELL}" '
                f'href="{_inline(tile.picture)}"/>'
            )
            if tile.word:
                words = f'x="{left + CELL // 2}" y="{top + CELL + 15}" text-anchor="middle"'
                parts.append(f"<text {words} {STYLE}>{escape(tile.word)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def matrix(
    title: str, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], digits: int = 2
) -> str:
    """Numbers as colours, white for the lowest and blue for the highest; each says its number when it is pointed at.

    Args:
        title: stands above.
        values: [rows][columns]; what is 0 is not drawn.
        rows: their names.
        columns: theirs.
        digits: of a number.
    """
    cell = min(MAX_CELL, MAX_MATRIX / max(1, len(rows), len(columns)))
    low, high = min((min(row) for row in values), default=0.0), max((max(row) for row in values), default=1.0)
    parts = _head(round(MARGIN + cell * len(columns) + GAP), round(36 + cell * len(rows) + MARGIN))
    parts.append(f'<text x="{GAP}" y="22" font-weight="bold" {STYLE}>{escape(title)}</text>')
    for row, (name, numbers) in enumerate(zip(rows, values, strict=True)):
        top = 36 + row * cell
        for column, number in enumerate(numbers):
            share = (number - low) / (high - low or 1.0)
            if share <= 0:
                continue
            said = f"{escape(name)} / {escape(columns[column])}: {number:.{digits}f}"
            parts.append(
                f'<rect x="{MARGIN + column * cell:.1f}" y="{top:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill="#1f4e9c" fill-opacity="{share:.3f}"><title>{said}</title></rect>'
            )
    size = max(4, min(11, round(cell * 0.8)))
    small = f'font-family="sans-serif" font-size="{size}" fill="#444"'
    for row, name in enumerate(rows):
        down = 36 + (row + 0.5) * cell + size / 3
        parts.append(f'<text x="{MARGIN - 4}" y="{down:.1f}" text-anchor="end" {small}>{escape(_short(name))}</text>')
    foot = 36 + cell * len(rows) + 4
    for column, name in enumerate(columns):
        across = MARGIN + (column + 0.5) * cell + size / 3
        turned = f'transform="translate({across:.1f} {foot:.1f}) rotate(-90)" text-anchor="end"'
        parts.append(f"<text {turned} {small}>{escape(_short(name))}</text>")
    frame = f'width="{cell * len(columns):.1f}" height="{cell * len(rows):.1f}" fill="none" stroke="{SOFT}"'
    parts.append(f'<rect x="{MARGIN}" y="36" {frame}/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(width: int, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]


def _inline(picture: bytes) -> str:
    picture = thumbnail(picture)
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _lines(text: str) -> list[str]:
    """At most four lines."""
    found = [text[start : start + LINE_CHARS] for start in range(0, len(text), LINE_CHARS)]
    return found if len(found) <= 4 else [*found[:3], found[3][:-1] + "…"]


def _short(name: str) -> str:
    return name if len(name) <= 9 else name[:8] + "…"
