"""Rows of tables written as lines: CSV, TSV, and the lists of a Kaldi folder.

CSV is that of RFC 4180: cells parted by commas, quoted where they hold one, a quotation mark doubled inside quotes. TSV
knows no quotes: a tab always parts two cells. The first line of both names the keys; every value is a string.

A Kaldi folder (kaldi-asr.org/doc/data_prep.html) has `wav.scp` (recording, path), and where there are any `segments`
(utterance, recording, begin and end in seconds), `text` (utterance, transcript), `utt2spk` (utterance, speaker). A row
is an utterance with the keys `id`, `audio`, and of those lists that are there `begin`, `end`, `text`, `speaker`. Paths
alone are read: where `wav.scp` has a command instead, which Kaldi would run, the list is refused.

Memory holds the lists of one Kaldi folder, and of other tables one row.
"""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.lines import Unreadable, decoded_lines
from components.outcomes import Refused
from components.rows import Row
from components.wording import one_line

PATH_KEY = "audio"
"""The key of a Kaldi row that holds the path."""
MAX_QUOTED_CHARS = 1 << 20
"""A longer row of a CSV file has a quotation mark that is never closed."""
OPEN_QUOTES = Unreadable("a quotation mark that is never closed")
NOT_CSV = Unreadable("not CSV")


# ---- CSV and TSV -----------------------------------------------------------------------------------------------------


def table_rows(path: Path, separator: str) -> Iterator[Row]:
    """Rows of a CSV file (`,`) or of a TSV file (a tab), in order.

    Raises:
        Refused: its first line names a key twice or not at all.
    """
    rows = _csv_cells(path) if separator == "," else _plain_cells(path, separator)
    keys: list[str] | None = None
    for number, cells in rows:
        where = f"{path.as_posix()}:{number}"
        if isinstance(cells, Unreadable):
            yield Row(where, None, cells.problem, cells.excerpt)
        elif keys is None:
            keys = _header(path, cells)
        elif len(cells) != len(keys):
            text = one_line(separator.join(cells)[:1000])
            yield Row(where, None, "another number of cells than the first line of the table has", text)
        else:
            yield Row(where, dict(zip(keys, cells, strict=True)))


def _header(path: Path, cells: list[str]) -> list[str]:
    keys = [cell.strip() for cell in cells]
    twice = sorted({key for key in keys if keys.count(key) > 1 or not key})
    if twice:
        raise Refused(
            f"{path}: the first line names '{twice[0]}' {keys.count(twice[0])} times, expected one name for each "
            f"column: {one_line(', '.join(keys))}. Mend the first line."
        )
    return keys


def _plain_cells(path: Path, separator: str) -> Iterator[tuple[int, list[str] | Unreadable]]:
    for number, line in decoded_lines(path):
        if isinstance(line, Unreadable):
            yield number, line
        elif line.strip():
            yield number, line.removesuffix("\r").split(separator)


def _csv_cells(path: Path) -> Iterator[tuple[int, list[str] | Unreadable]]:
    """Cells by row; a quoted cell may hold line ends, so lines are joined until their quotation marks are even.

    Where they never are, or make no row, the first of these lines alone is at fault: the others are read again.
    """
    lines = decoded_lines(path)
    waiting: deque[tuple[int, str | Unreadable]] = deque()
    while (first := waiting.popleft() if waiting else next(lines, None)) is not None:
        number, line = first
        if isinstance(line, Unreadable):
            yield number, line
            continue
        if not line.strip():
            continue
        parts, more = _row_of(line, waiting, lines)
        cells = _parsed("\n".join(parts)) if parts else OPEN_QUOTES
        if more and isinstance(cells, Unreadable):
            waiting.extendleft(reversed(more))
            cells = OPEN_QUOTES
        if isinstance(cells, Unreadable):
            cells = Unreadable(cells.problem, one_line(line[:1000]))
        yield number, cells


def _row_of(
    line: str, waiting: deque[tuple[int, str | Unreadable]], lines: Iterator[tuple[int, str | Unreadable]]
) -> tuple[list[str] | None, list[tuple[int, str | Unreadable]]]:
    """The lines of a row that begins with this one, and what was read for it beside: None if its quotes stay open."""
    parts = [line.removesuffix("\r")]
    taken: list[tuple[int, str | Unreadable]] = []
    is_open, size = line.count('"') % 2 == 1, len(line)
    while is_open:
        following = waiting.popleft() if waiting else next(lines, None)
        if following is None:
            return None, taken
        taken.append(following)
        if isinstance(following[1], Unreadable) or (size := size + len(following[1])) > MAX_QUOTED_CHARS:
            return None, taken
        parts.append(following[1].removesuffix("\r"))
        is_open ^= following[1].count('"') % 2 == 1
    return parts, taken


def _parsed(text: str) -> list[str] | Unreadable:
    before = csv.field_size_limit(max(MAX_QUOTED_CHARS, len(text)))
    try:
        (cells,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        return NOT_CSV
    finally:
        csv.field_size_limit(before)
    return cells


# ---- Kaldi -----------------------------------------------------------------------------------------------------------


def kaldi_rows(recordings: Path) -> Iterator[Row]:
    """Utterances of a Kaldi folder, in the order of `segments`, or of `wav.scp` where there are none.

    Args:
        recordings: its `wav.scp`.

    Raises:
        Refused: `wav.scp` has a command in place of a path, or a list names a recording or an utterance twice.
    """
    folder = recordings.parent
    texts, speakers = _by_utterance(folder / "text"), _by_utterance(folder / "utt2spk")

    def row(where: str, utterance: str, fields: dict[str, Any]) -> Row:
        found = {"id": utterance, **fields}
        if texts is not None and utterance in texts:
            found["text"] = texts[utterance]
        if speakers is not None and utterance in speakers:
            found["speaker"] = speakers[utterance]
        return Row(where, found)

    if not (folder / "segments").is_file():
        for where, recording, path in _recordings(recordings):
            yield row(where, recording, {PATH_KEY: path})
        return
    places = _by_recording(recordings)
    for where, utterance, rest in _entries(folder / "segments"):
        fields = _segment(rest, places)
        if isinstance(fields, str):
            yield Row(where, None, fields, one_line(f"{utterance} {rest}"))
        else:
            yield row(where, utterance, fields)


def _segment(rest: str, places: dict[str, str]) -> dict[str, Any] | str:
    """The fields of a line of `segments`, or what is wrong with it."""
    words = rest.split()
    if len(words) != 3:
        return "a line of segments without recording, begin and end"
    if words[0] not in places:
        return "a segment of a recording that wav.scp does not name"
    try:
        begin, end = float(words[1]), float(words[2])
    except ValueError:
        return "a segment whose begin or end is no number"
    if not 0 <= begin < end < float("inf"):
        return "a segment that does not end after its begin"
    return {PATH_KEY: places[words[0]], "begin": begin, "end": end}


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """(place, first word, the rest) of each line; no first word comes twice."""
    seen: dict[str, int] = {}
    for number, line in decoded_lines(path):
        where = f"{path.as_posix()}:{number}"
        if isinstance(line, Unreadable):
            raise Refused(f"{where}: {line.problem}: {line.excerpt}. Save the list as UTF-8.")
        first, *rest = line.split(maxsplit=1) or [""]
        if not first:
            continue
        if first in seen:
            raise Refused(
                f"{where} names '{first}' a second time, after {path.as_posix()}:{seen[first]}. Give each a name of "
                "its own, or take one line out."
            )
        seen[first] = number
        yield where, first, rest[0].strip() if rest else ""


def _recordings(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, recording, place in _entries(path):
        if place.startswith("|") or place.endswith("|"):
            raise Refused(
                f"{where} has a command in place of a path, and commands of a list are not run: "
                f"{one_line(place, 80)}. Run it yourself, keep the file it writes, and name that."
            )
        yield where, recording, place


def _by_recording(path: Path) -> dict[str, str]:
    return {recording: place for _, recording, place in _recordings(path)}


def _by_utterance(path: Path) -> dict[str, str] | None:
    """First word -> the rest of each line; None where there is no such list."""
    return {utterance: rest for _, utterance, rest in _entries(path)} if path.is_file() else None
