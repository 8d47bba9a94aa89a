"""Encoders that take their pieces from other encoders."""

from typing import Any

from components.outcomes import Refused
from components.recipes import Library, references


def encoder_lineage(library: Library, name: str) -> list[str]:
    """An encoder and those it takes its pieces from, the one that was trained last.

    Raises:
        Refused: one is missing, or they form a circle.
    """
    found = [name]
    while refers := [each for kind, each in references(library.read("encoder", found[-1])) if kind == "encoder"]:
        if refers[0] in found:
            raise Refused(f"The encoders {' and '.join(found)} name each other. Let one be trained on corpora.")
        found.append(refers[0])
    return found


def tokenizer_of(library: Library, name: str) -> Any:
    """The section of the encoder that an encoder takes its pieces from, which knows how many there are."""
    return library.read("encoder", encoder_lineage(library, name)[-1])
