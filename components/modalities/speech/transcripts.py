"""Raw transcripts, speakers and phones to clean ones."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

from components.modalities import Rejected
from components.modalities.speech.schema import BOUNDARY, FIELDS, Column


def reader(column: Column) -> Callable[[dict[str, Any]], str]:
    """A function from a raw field to a clean string; it raises `Rejected` with a reason."""
    part = FIELDS[column.form]
    if column.form == "phones":
        return lambda parts: _phones(parts[part])
    if column.form == "speaker" or column.front_end == "openjtalk":
        return lambda parts: _text(parts[part])
    return lambda parts: _given(_text(parts[part]), column.lexicon)


def _text(raw: Any) -> str:
    """One line in NFKC."""
    if isinstance(raw, int) and not isinstance(raw, bool):  # speakers are often numbered
        raw = str(raw)
    if not isinstance(raw, str):
        raise Rejected("no text")
    text = " ".join(unicodedata.normalize("NFKC", raw).split())
    if not text:
        raise Rejected("empty")
    if "\ufffd" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise Rejected("marks of a wrong decoding")
    return text


def _given(text: str, lexicon: dict[str, str]) -> str:
    """Phonemes with spaces between, words with `|` between."""
    if lexicon:
        words = text.split()
        if any(word not in lexicon for word in words):
            raise Rejected("a word that the lexicon lacks")
        text = BOUNDARY.join(lexicon[word] for word in words)
    clean = [" ".join(word.split()) for word in text.split(BOUNDARY) if word.strip()]
    if not clean:
        raise Rejected("empty")
    return f" {BOUNDARY} ".join(clean)


def _phones(raw: Any) -> str:
    """JSON of [phone, begin, end] in seconds, in the order of time."""
    try:
        rows = json.loads(raw) if isinstance(raw, str | bytes) else raw
        clean = [(str(phone), float(begin), float(end)) for phone, begin, end in rows]
    except (TypeError, ValueError):
        raise Rejected("no list of [phone, begin, end]") from None
    times = [time for _, begin, end in clean for time in (begin, end)]
    if not clean or times != sorted(times) or times[0] < 0:
        raise Rejected("phones that do not follow each other in time")
    return json.dumps(clean, ensure_ascii=False)
