"""A question to the demo world: what is asked, the one good answer, and what could stand wrongly in its place."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from components.generators.page import styled
from components.generators.town import pick, pick_distinct

T = TypeVar("T")
PLACE = "<>"
"""Stands in a frame where the fact belongs."""
NUMBERS = "numbers"


@dataclass(frozen=True)
class Question:
    """One question with its answer.

    A frame is a sentence in both styles, as `Page.say` takes it, with `<>` where the fact stands: so the good answer,
    the same in plain style, and answers with another fact differ in nothing else.
    """

    prompt: str
    frame: str
    fact: str
    values: tuple[str, ...] | str
    """What a fact of this kind can be; NUMBERS where it is any number."""
    subject: str
    """What a whole sentence names besides the fact."""
    rivals: tuple[str, ...] = ()
    """Wrong facts that are near at hand; empty takes the other values."""
    before: tuple[str, ...] = ()
    """What user and assistant said before, in turns."""

    @cached_property
    def key(self) -> str:
        """All that stands before the answer, a turn a line; no two questions have the same."""
        return "\n".join((*self.before, self.prompt))

    @cached_property
    def answer(self) -> str:
        """The good answer: one polite sentence."""
        return self.answer_with(self.fact)

    @cached_property
    def plain(self) -> str:
        """The same, not polite."""
        return styled(self.frame, polite=False).replace(PLACE, self.fact)

    def answer_with(self, fact: str) -> str:
        """The good answer but for the fact."""
        return styled(self.frame, polite=True).replace(PLACE, fact)

    def wrong_facts(self) -> list[str]:
        """What may stand in the place of the fact, those of its length first."""
        values = self.rivals or (() if isinstance(self.values, str) else self.values)
        others = [value for value in dict.fromkeys(values) if value != self.fact]
        return sorted(others, key=lambda value: len(value) != len(self.fact))


def shuffled(rng: random.Random, options: Iterable[T]) -> list[T]:
    """The options in random order."""
    mixed = list(options)
    for last in range(len(mixed) - 1, 0, -1):
        other = rng.randrange(last + 1)
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


def near_numbers(rng: random.Random, number: int, unit: str = "") -> tuple[str, ...]:
    """Wrong results as somebody gets them who slips: other last or first digits, the same number of digits."""
    steps = (1, 2, 3, 10, 20, 100) if number % 10 else (10, 20, 30, 50, 100, 200)
    near = [number + sign * step for step in steps for sign in (1, -1)]
    kept = [each for each in near if each > 0 and len(str(each)) == len(str(number))]
    return tuple(f"{each}{unit}" for each in shuffled(rng, kept or [number + 1]))


def different(rng: random.Random, options: Sequence[T], number: int, but: T | None = None) -> list[T]:
    """So many different options, none of them `but`."""
    return pick_distinct(rng, [each for each in options if each != but], number)


__all__ = ["NUMBERS", "PLACE", "Question", "different", "near_numbers", "pick", "shuffled"]
