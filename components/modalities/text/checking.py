"""Facts about a clean text, and what a corpus expects of them."""

import re
from typing import Any

from components.characters import CLASSES, count_classes, is_damaged, japanese_share, language_of
from components.modalities.text.schema import Column

KNOWN_LANGUAGES = ("ja", "en")
"""What the fact `language` can say besides `other`."""


def check(value: str) -> dict[str, Any]:
    """Facts about one clean text: `num_` counts, `japanese_share` in [0, 1], `language`, `damaged`."""
    counts = count_classes(value)
    return {
        "num_chars": len(value),
        "num_bytes": len(value.encode("utf-8")),
        **{f"num_chars/{name}": int(count) for name, count in zip(CLASSES, counts, strict=True)},
        "japanese_share": round(japanese_share(counts), 4),
        "language": language_of(counts),
        "damaged": is_damaged(value),
    }


def expectations(name: str, column: Column, language: str) -> list[tuple[str, dict[str, Any]]]:
    """Great Expectations class names and arguments over the facts of a column, which are prefixed by its name.

    Each carries in `meta` the claim in plain words and the keys of the corpus YAML that decide it.
    """
    expected = column.expectations
    place = f"columns.{name}.expectations"

    def meta(claim: str, *keys: str) -> dict[str, Any]:
        return {"claim": claim, "keys": [f"{place}.{key}" for key in keys]}

    most = "" if expected.max_chars is None else f" and at most {expected.max_chars:,}"
    wanted = [word for word in re.split(r"[^a-z]+", language) if word in KNOWN_LANGUAGES]
    claim = f"most records are in the corpus's language ({', '.join(wanted)})"
    arguments = {"column": f"{name}_language", "value_set": wanted, "meta": {"claim": claim, "keys": ["language"]}}
    in_language = [("ExpectColumnMostCommonValueToBeInSet", arguments)] if wanted else []
    return [
        *in_language,
        (
            "ExpectColumnValuesToBeBetween",
            {
                "column": f"{name}_num_chars",
                "min_value": expected.min_chars,
                "max_value": expected.max_chars,
                "mostly": expected.length_mostly,
                "meta": meta(
                    f"at least {expected.min_chars:,}{most} characters", "min_chars", "max_chars", "length_mostly"
                ),
            },
        ),
        (
            "ExpectColumnValuesToBeBetween",
            {
                "column": f"{name}_japanese_share",
                "min_value": expected.min_japanese_share,
                "mostly": expected.japanese_mostly,
                "meta": meta(
                    f"at least {expected.min_japanese_share:.0%} of the letters are kana or kanji",
                    "min_japanese_share",
                    "japanese_mostly",
                ),
            },
        ),
        (
            "ExpectColumnValuesToBeInSet",
            {
                "column": f"{name}_damaged",
                "value_set": [False],
                "mostly": 1 - expected.max_damaged_share,
                "meta": meta(
                    f"no marks of a wrong decoding; columns.{name}.filters.drop_damaged takes such records out",
                    "max_damaged_share",
                ),
            },
        ),
    ]
