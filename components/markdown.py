"""Small pieces of Markdown: numbers, words, tables and blocks of code, for a person to read."""

from collections.abc import Iterable
from typing import Any


def number(value: Any) -> str:
    """A value for a person: whole numbers with commas, others with four significant digits, yes and no; lists of them.

    Of a mapping, its keys as words before their values, but for empty ones.
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, dict):
        return ", ".join(f"{label(key).lower()} {number(each)}" for key, each in value.items() if not _is_empty(each))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1000 else f"{value:.4g}"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def label(key: str) -> str:
    """A key as words: `num_layers` is `Layers`, `batch_tokens` `Batch (tokens)`, `train/tokens` `Train tokens`."""
    words = key.removeprefix("num_").replace("/", " ").replace("_", " ")
    if not key.startswith("num_") and "/" not in key and key.endswith("_tokens"):
        words = f"{words.removesuffix(' tokens')} (tokens)"
    return words[:1].upper() + words[1:]


def cell(text: object) -> str:
    """Text that cannot end a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; columns whose cells are all numbers stand to the right."""
    head, body = list(header), [[cell(value) for value in row] for row in rows]
    plain = [[row[i].replace(",", "").replace(".", "").replace("-", "") for row in body] for i in range(len(head))]
    rule = ["--:" if column and all(value.isdigit() for value in column) else "---" for column in plain]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


def fenced(text: str, language: str = "") -> str:
    """A block of code that its own content cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def short(content_hash: str) -> str:
    """The beginning of a hash, enough to tell two apart."""
    return f"`{content_hash[:12]}`"
