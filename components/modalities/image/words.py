"""Raw labels, groups, flags and scenes to clean ones."""

import json
import math
import unicodedata
from collections.abc import Callable
from typing import Any

from components.modalities import Rejected
from components.modalities.image.column_schema import FLAGGED, Column

SAFE = "safe"
"""What is left of a flag."""


def reader(column: Column) -> Callable[[dict[str, Any]], str]:
    """A function from a raw field to a clean string; it raises `Rejected` with a reason."""
    if column.form == "flag":
        return lambda parts: _unflagged(_only(parts), column.max_score)
    clean = {"scene": _scene, "score": _scene, "labels": _labels}.get(column.form, _line)
    return lambda parts: clean(_only(parts))


def _only(parts: dict[str, Any]) -> Any:
    (raw,) = parts.values()
    return raw


def _line(raw: Any) -> str:
    """One line of text; classes and groups are often numbered."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        raise Rejected("no text")
    text = " ".join(unicodedata.normalize("NFC", raw).split())
    if not text or "\ufffd" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise Rejected("marks of a wrong decoding" if text else "empty")
    return text


def _labels(raw: Any) -> str:
    """JSON of a list of names, each once, in their order."""
    try:
        names = json.loads(raw) if isinstance(raw, str | bytes) else raw
    except ValueError:
        raise Rejected("not JSON") from None
    if not isinstance(names, list) or not names:
        raise Rejected("no list of names of classes")
    return json.dumps(sorted({_line(name) for name in names}), ensure_ascii=False)


def _unflagged(raw: Any, max_score: float | None) -> str:
    """That a picture may be used; what says nothing says so too, except where scores are asked for."""
    if max_score is not None:
        try:
            score = float(raw)
        except (TypeError, ValueError):
            raise Rejected("no number that says how unsafe it is (max_score)") from None
        if not score <= max_score or math.isnan(score):
            raise Rejected("flagged as unsafe (max_score)")
    elif raw is not None and (raw is True or str(raw).strip().lower() in FLAGGED):
        raise Rejected("flagged as unsafe")
    return SAFE


def _scene(raw: Any) -> str:
    """JSON of a list or a mapping, written in one way."""
    try:
        scene = json.loads(raw) if isinstance(raw, str | bytes) else raw
    except ValueError:
        raise Rejected("not JSON") from None
    if not isinstance(scene, dict | list) or not scene:
        raise Rejected("no mapping or list of what is drawn")
    return json.dumps(scene, ensure_ascii=False, sort_keys=True)
