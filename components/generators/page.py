"""One document while it is written: a style that holds throughout, and sentences that are chosen among variants."""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from components.generators import town as facts
from components.generators import vocabulary as words

T = TypeVar("T")
_CHOICE = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")


def styled(text: str, polite: bool) -> str:
    """A text written for both styles in one of them."""
    return _CHOICE.sub(r"\2" if polite else r"\1", text)


class Page:
    """A document of the demo world.

    Variants are written once for both styles: `買[った|いました]` becomes 買った in plain and 買いました in polite
    documents. Inside a quotation people speak politely, whatever the style.
    """

    def __init__(self, rng: random.Random, town: facts.Town) -> None:
        self.rng = rng
        self.town = town
        self.polite = rng.randrange(2) == 1
        self.sentences: list[str] = []

    def say(self, *variants: str) -> None:
        """Add one of the variants, each one or more whole sentences."""
        self.sentences.append(styled(self.pick(variants), self.polite))

    def maybe(self, percent: int, *variants: str) -> None:
        """Add one of the variants in so many of a hundred cases."""
        if self.rng.randrange(100) < percent:
            self.say(*variants)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return facts.pick(self.rng, options)

    def pick_distinct(self, options: Sequence[T], number: int) -> list[T]:
        """So many different options in random order."""
        return facts.pick_distinct(self.rng, options, number)

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.rng.randrange(low, high + 1)

    def people(self, number: int, *groups: str, but: str = "") -> list[facts.Person]:
        """So many different persons, of these groups or of all, without the one of that name."""
        people = self.town.group(*groups) if groups else self.town.people
        return self.pick_distinct([person for person in people if person.name != but], number)

    def text(self) -> str:
        """The finished document."""
        return "".join(self.sentences)


def count(number: int, thing: words.Thing) -> str:
    """How many of a thing, such as 三本."""
    return words.counted(number, thing.counter)
