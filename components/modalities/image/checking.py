"""Facts about clean pictures and captions, and what a corpus expects of them."""

import hashlib
import re
from typing import Any

from components.characters import count_classes, japanese_share, language_of
from components.modalities.image.captions import pairs_of
from components.modalities.image.column_schema import Column

Expectation = tuple[str, dict[str, Any]]
KNOWN_LANGUAGES = {"ja": ["ja", "kanji"], "en": ["en"]}
"""Of a corpus -> what the fact `language` then says. Captions are short: many a Japanese one has no kana."""
HAN_SHARE = 0.3
"""Share of letters from which a text without kana is one of kanji."""


def check(value: Any, column: Column) -> dict[str, Any]:
    """Facts about one clean value.

    Of a picture `width_px`, `height_px`, `short_side_px`, `aspect` (longer side over shorter), `num_bytes`, `format`,
    and `look_digest`, equal for pictures that look alike; of captions and foils `num_texts`, `kinds`, and of captions
    `num_chars` of all, `shortest_chars`, `longest_chars`, `japanese_share`, `language` and `digest`.
    """
    if column.form == "picture":
        return _of_picture(value)
    if column.has_texts:
        return _of_captions(value, column)
    return {"name": value} if column.form == "label" else {}


def _of_picture(value: bytes) -> dict[str, Any]:
    from components.modalities.image import pictures

    image = pictures.decoded(value)
    width, height = image.size
    return {
        "width_px": width,
        "height_px": height,
        "short_side_px": min(width, height),
        "aspect": round(max(width, height) / min(width, height), 4),
        "num_bytes": len(value),
        "format": str(image.format),
        "look_digest": pictures.look_digest(image),
    }


def _of_captions(value: str, column: Column) -> dict[str, Any]:
    pairs = pairs_of(value)
    facts = {"num_texts": len(pairs), "kinds": "+".join(dict.fromkeys(kind for kind, _ in pairs)) or "none"}
    if column.form == "foils":
        return facts
    texts = [text for _, text in pairs]
    counts = count_classes("".join(texts))
    language = language_of(counts)
    if language == "other" and japanese_share(counts) >= HAN_SHARE:
        language = "kanji"
    return facts | {
        "num_chars": sum(map(len, texts)),
        "shortest_chars": min(map(len, texts)),
        "longest_chars": max(map(len, texts)),
        "japanese_share": round(japanese_share(counts), 4),
        "language": language,
        "digest": hashlib.blake2b("\n".join(sorted(texts)).encode(), digest_size=16).hexdigest(),
    }


def expectations(name: str, column: Column, language: str) -> list[Expectation]:
    """Great Expectations class names and arguments over the facts of a column, which are prefixed by its name.

    Each carries in `meta` the claim in plain words and the keys of the corpus YAML that decide it.
    """
    if column.form == "picture":
        return _for_pictures(name, column)
    return _for_captions(name, column, language) if column.form == "captions" else []


def _meant(name: str, fact: str, claim: str, keys: list[str], **arguments: Any) -> dict[str, Any]:
    meta = {"claim": claim, "keys": [f"columns.{name}.expectations.{key}" for key in keys]}
    return {"column": f"{name}_{fact}", **arguments, "meta": meta}


def _for_pictures(name: str, column: Column) -> list[Expectation]:
    wanted = column.expectations
    side = f"both sides have at least {wanted.min_side_px:,} pixels"
    aspect = f"no side is over {wanted.max_aspect:g} times as long as the other"
    found = [
        (
            "ExpectColumnValuesToBeBetween",
            _meant(
                name,
                "short_side_px",
                side,
                ["min_side_px", "side_mostly"],
                min_value=wanted.min_side_px,
                mostly=wanted.side_mostly,
            ),
        ),
        (
            "ExpectColumnValuesToBeBetween",
            _meant(
                name,
                "aspect",
                aspect,
                ["max_aspect", "aspect_mostly"],
                max_value=wanted.max_aspect,
                mostly=wanted.aspect_mostly,
            ),
        ),
    ]
    alike = _meant(name, "look_digest", "looks like no other picture", ["unique_mostly"], mostly=wanted.unique_mostly)
    return [*found, ("ExpectColumnValuesToBeUnique", alike)] if wanted.unique_mostly else found


def _for_captions(name: str, column: Column, language: str) -> list[Expectation]:
    wanted = column.expectations
    keys = ["min_chars", "max_chars", "length_mostly"]
    shortest = _meant(
        name,
        "shortest_chars",
        f"no caption under {wanted.min_chars:,} characters",
        keys,
        min_value=wanted.min_chars,
        mostly=wanted.length_mostly,
    )
    found: list[Expectation] = [("ExpectColumnValuesToBeBetween", shortest)]
    if wanted.max_chars is not None:
        longest = _meant(
            name,
            "longest_chars",
            f"no caption over {wanted.max_chars:,} characters",
            keys,
            max_value=wanted.max_chars,
            mostly=wanted.length_mostly,
        )
        found.append(("ExpectColumnValuesToBeBetween", longest))
    known = [each for word in re.split(r"[^a-z]+", language) for each in KNOWN_LANGUAGES.get(word, [])]
    if known and wanted.language_mostly:
        claim = f"captions in the corpus's language ({language})"
        arguments = _meant(name, "language", claim, ["language_mostly"], value_set=known, mostly=wanted.language_mostly)
        found.append(("ExpectColumnValuesToBeInSet", arguments))
    if wanted.unique_captions_mostly:
        arguments = _meant(
            name, "digest", "captions of its own", ["unique_captions_mostly"], mostly=wanted.unique_captions_mostly
        )
        found.append(("ExpectColumnValuesToBeUnique", arguments))
    return found
