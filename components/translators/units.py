"""Texts cut into what is translated at once, and put together again."""

import re

SENTENCE = re.compile(r".+?(?:[.!?]+[\"'”’)\]]*(?=\s|$)\s*|[。！？]+[」』）]*|$)", re.DOTALL)
"""Up to the mark that ends a sentence; an abbreviation with a full stop ends one too."""
WITHOUT_SPACES = ("ja", "zh")
"""Languages that write sentences one after another without a space."""


def cut(text: str, unit: str) -> list[list[str]]:
    """Lines of units; an empty line has none.

    Args:
        text: anything.
        unit: `sentence`, `line` or `text`.
    """
    if unit == "text":
        return [[text]]
    lines = [line.strip() for line in text.split("\n")]
    if unit == "line":
        return [[line] if line else [] for line in lines]
    return [[found.strip() for found in SENTENCE.findall(line) if found.strip()] for line in lines]


def joined(lines: list[list[str]], translations: dict[str, str], language: str) -> str:
    """The translated text, its lines where they were.

    Args:
        lines: of `cut`.
        translations: of every unit.
        language: of the translations.
    """
    space = "" if language.split("-")[0] in WITHOUT_SPACES else " "
    return "\n".join(space.join(translations[unit] for unit in line) for line in lines)
