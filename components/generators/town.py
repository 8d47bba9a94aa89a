"""The fixed facts of the demo world: who lives where, works as what, owns which pet, and which shop opens when.

They are drawn once from a seed and hold in every document.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from components.generators import vocabulary as words

T = TypeVar("T")
AGES = {"child": (7, 13), "adult": (26, 60), "elder": (66, 86)}
"""Youngest, and one more than the oldest, of each group."""
CLASSES = (0, 0, 1, 1, 2, 3)
"""Which of the four teachers has the pupils of each of the six school years."""


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options. Only `randrange` is used anywhere: its stream is the same in every Python version."""
    return options[rng.randrange(len(options))]


def pick_distinct(rng: random.Random, options: Sequence[T], number: int) -> list[T]:
    """So many different ones, in random order."""
    left = list(options)
    return [left.pop(rng.randrange(len(left))) for _ in range(number)]


@dataclass(frozen=True)
class Pet:
    """The pet of one person."""

    name: str
    kind: str
    counter: str
    colour: words.Colour

    @property
    def runs(self) -> bool:
        """Whether it can run away."""
        return self.kind != "金魚"


@dataclass(frozen=True)
class Person:
    """Somebody of the town. Children have a teacher and a grade, elders have retired from their job."""

    name: str
    group: str
    """child, adult or elder"""
    age: int
    home: str
    job: str
    workplace: str
    food: str
    hobby: str
    birthday: tuple[int, int]
    friend: str
    speed_rank: int
    """0 is the fastest of the group."""
    pet: Pet | None
    teacher: str = ""


@dataclass(frozen=True)
class Shop:
    """A shop; there is one of each kind."""

    kind: str
    district: str
    keeper: str
    closed_on: str
    opens_hour: int
    closes_hour: int
    wares: tuple[words.Thing, ...]


@dataclass(frozen=True)
class Town:
    """All fixed facts."""

    people: tuple[Person, ...]
    shops: tuple[Shop, ...]

    def person(self, name: str) -> Person:
        """The person of a name; names are unique."""
        return next(person for person in self.people if person.name == name)

    def group(self, *groups: str) -> list[Person]:
        """Everybody of these groups."""
        return [person for person in self.people if person.group in groups]


def _friends(rng: random.Random, names: Sequence[str]) -> dict[str, str]:
    """Pairs of best friends: who is whose friend holds both ways."""
    mixed = pick_distinct(rng, names, len(names))
    return {a: b for i in range(0, len(mixed), 2) for a, b in (mixed[i : i + 2], mixed[i : i + 2][::-1])}


def _occupations(adults: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name of an adult -> job and workplace: keepers of shops first, then teachers, then the rest."""
    posts = [(f"{kind}の店主", kind) for kind in words.WARES]
    posts += [("先生", "小学校")] * 4 + list(words.JOBS.items())
    return dict(zip(adults, posts, strict=True))


def _person(rng: random.Random, name: str, group: str, rank: int, pet_names: list[str], **known: str) -> Person:
    """Draw what is not known of one person; a name is taken from `pet_names` when there is a pet."""
    pet = None
    if pet_names and rng.randrange(3):
        kind = pick(rng, list(words.PETS))
        counter, colours = words.PETS[kind]
        pet = Pet(pet_names.pop(), kind, counter, pick(rng, colours))
    return Person(
        name=name,
        group=group,
        age=rng.randrange(*AGES[group]),
        home=pick(rng, words.DISTRICTS),
        food=pick(rng, words.FOODS),
        hobby=pick(rng, words.HOBBIES),
        birthday=(rng.randrange(1, 13), rng.randrange(1, 29)),
        speed_rank=rank,
        pet=pet,
        **known,
    )


def build_town(seed: int) -> Town:
    """Draw the town's facts.

    Args:
        seed: the same number gives the same town on every machine.
    """
    rng = random.Random(seed)  # noqa: S311 - nothing secret: the same numbers everywhere
    occupations = _occupations(words.ADULTS)
    pet_names = pick_distinct(rng, words.PET_NAMES, len(words.PET_NAMES))
    people = []
    for group, names in (
        ("child", words.CHILDREN),
        ("adult", words.ADULTS),
        ("elder", words.ELDERS),
    ):
        friends = _friends(rng, names)
        ranks = pick_distinct(rng, range(len(names)), len(names))
        for name, rank in zip(names, ranks, strict=True):
            job, workplace = occupations.get(name, (words.PUPIL, "小学校"))
            if group == "elder":
                job, workplace = pick(rng, list(words.JOBS.items()))
            people.append(
                _person(rng, name, group, rank, pet_names, job=job, workplace=workplace, friend=friends[name])
            )
    teachers = [person.name for person in people if person.job == "先生"]
    people = [
        replace(person, teacher=teachers[CLASSES[person.age - AGES["child"][0]]]) if person.group == "child" else person
        for person in people
    ]
    keepers = {job.removesuffix("の店主"): name for name, (job, _) in occupations.items()}
    shops = tuple(
        Shop(
            kind=kind,
            district=pick(rng, words.DISTRICTS),
            keeper=keepers[kind],
            closed_on=pick(rng, words.WEEKDAYS),
            opens_hour=rng.randrange(7, 11),
            closes_hour=rng.randrange(5, 9),
            wares=wares,
        )
        for kind, wares in words.WARES.items()
    )
    return Town(tuple(people), shops)
