"""What families check of the section `package` alike."""

from collections.abc import Collection, Iterable
from typing import Any


def layout_problems(package: Any, known: Collection[str]) -> list[str]:
    """Layouts that a family has not, in words; that there is none, if so."""
    if not package.layouts:
        return [f"package.layouts is empty, expected one or more of {', '.join(known)}. Fill the key or remove it."]
    return [
        f"package.layouts has '{layout}', expected one or more of {', '.join(known)}. Change the key."
        for layout in package.layouts
        if layout not in known
    ]


def useless_keys(package: Any, keys: Iterable[str], why: str) -> list[str]:
    """Keys that are set and that a family does nothing with, in words."""
    return [f"package.{key} is set, but {why}. Remove the key." for key in keys if getattr(package, key, None)]
