"""Captions and foils: JSON of [kind, text], one line each, in the order of the kinds that a column names.

A caption that is no text, too short, too long or in another language is left out as long as another one is left.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from components.characters import count_classes, is_damaged, japanese_share
from components.modalities import Rejected
from components.modalities.image.column_schema import Column, Filters


def reader(column: Column) -> Callable[[dict[str, Any]], str]:
    """A function from raw texts, by their kinds, to JSON of [kind, text].

    It raises `Rejected` where captions are wanted and none is left, with what was wrong with the first one.
    """

    def read(parts: dict[str, Any]) -> str:
        found: dict[str, str] = {}
        problem = "empty"
        for kind, raw in parts.items():
            for text in _texts(raw):
                clean = " ".join(unicodedata.normalize("NFC", text).split())
                wrong = _wrong(clean, column.filters)
                if wrong is None:
                    found.setdefault(clean, kind)
                elif problem == "empty":
                    problem = wrong
        if not found and column.form == "captions":
            raise Rejected(problem)
        return _written([(kind, text) for text, kind in found.items()])

    return read


def _texts(raw: Any) -> Iterator[str]:
    """The texts of a raw field, which holds one, a list of them, or nothing."""
    for each in raw if isinstance(raw, list | tuple) else [raw]:
        if isinstance(each, str):
            yield each
        elif each is not None:
            raise Rejected(f"not text but {type(each).__name__}")


def _wrong(text: str, limits: Filters) -> str | None:
    """What is wrong with a clean caption, in words that are equal for equal reasons."""
    if not text:
        return "empty"
    if any(0xD800 <= ord(character) < 0xE000 for character in text) or is_damaged(text):
        return "marks of a wrong decoding"
    if len(text) < limits.min_chars:
        return f"shorter than {limits.min_chars} characters (filters.min_chars)"
    if len(text) > limits.max_chars:
        return f"longer than {limits.max_chars:,} characters (filters.max_chars)"
    if limits.min_japanese_share > 0 and japanese_share(count_classes(text)) < limits.min_japanese_share:
        return f"in another language: Japanese share under {limits.min_japanese_share:g} (filters.min_japanese_share)"
    return None


def _written(pairs: list[tuple[str, str]]) -> str:
    return json.dumps(pairs, ensure_ascii=False)


def pairs_of(value: str) -> list[tuple[str, str]]:
    """(kind, text) of every caption or foil of a clean value."""
    return [(kind, text) for kind, text in json.loads(value)]


def first_of(value: str, kind: str | None) -> str | None:
    """The first caption of a kind, or of any, of a clean value; None where there is none."""
    return next((text for own, text in pairs_of(value) if kind in (None, own)), None)


def with_texts(value: str, texts: list[str]) -> dict[str, Any]:
    """Kind -> texts: the raw parts of the same captions in other words."""
    found: dict[str, Any] = {}
    for (kind, _), text in zip(pairs_of(value), texts, strict=True):
        found.setdefault(kind, []).append(text)
    return found
