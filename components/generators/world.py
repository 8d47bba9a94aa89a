"""The text of the demo world: a small invented Japanese town whose facts hold in every document.

24,000 documents of 2 to 12 sentences, in which later sentences follow from earlier ones or from the town's fixed
facts, so a network that uses its context does better than an n-gram model. Besides, on purpose, dirt for `ingest` and
`validate` to find, spread over all files:

    1 %    exact copies of earlier documents of the same file (DUPLICATES_PER_1000 = 10)
    0.5 %  shorter than 10 characters (SHORT_PER_1000 = 5)
    0.5 %  English (ENGLISH_PER_1000 = 5)

The shares are of the number of all lines of a file, rounded down. All other documents differ from one another.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from components.generators import errands, households, reckoning, townsfolk
from components.generators.page import Page
from components.generators.town import Town, build_town, pick

SEED = 20_240_707
LICENCE = "CC0-1.0"
DUPLICATES_PER_1000 = 10
SHORT_PER_1000 = 5
ENGLISH_PER_1000 = 5

Writer = Callable[[Page], None]

# Each file: number of lines, and its kinds of documents, all equally frequent.
FILES: dict[str, tuple[int, tuple[Writer, ...]]] = {
    "errands": (
        6_000,
        (
            errands.shopping,
            errands.two_buyers,
            errands.sharing,
            errands.forgotten,
            errands.saving,
            errands.closed_shop,
        ),
    ),
    "households": (
        7_000,
        (
            households.moved,
            households.lending,
            households.arrivals,
            households.picture,
            households.owners,
            households.seats,
            households.boxes,
            households.lost_pet,
        ),
    ),
    "reckoning": (
        5_000,
        (
            reckoning.chain,
            reckoning.journey,
            reckoning.calendar,
            reckoning.weather,
            reckoning.ranks,
            reckoning.race,
            reckoning.gathering,
        ),
    ),
    "townsfolk": (
        6_000,
        (
            townsfolk.introduction,
            townsfolk.greeting,
            townsfolk.neighbours,
            townsfolk.shop_guide,
            townsfolk.festival,
            townsfolk.school_test,
        ),
    ),
}
SHORT = ("（終わり）", "つづく。", "メモ", "…", "次のページへ", "写真なし", "以上です。", "未定")
ENGLISH_SUBJECTS = (
    "The baker",
    "A small dog",
    "Our teacher",
    "The train",
    "My neighbour",
    "The old clock",
    "A traveller",
)
ENGLISH_VERBS = ("waits near", "walks past", "remembers", "likes", "never leaves", "looks at", "comes back to")
ENGLISH_PLACES = (
    "the station",
    "the harbour",
    "the library",
    "the quiet river",
    "the market",
    "the hill",
    "the bridge",
)


def english(rng: random.Random) -> str:
    """Two to four English sentences, which a Japanese corpus should turn away."""
    return " ".join(
        f"{pick(rng, ENGLISH_SUBJECTS)} {pick(rng, ENGLISH_VERBS)} {pick(rng, ENGLISH_PLACES)}."
        for _ in range(rng.randrange(2, 5))
    )


def documents(name: str, town: Town) -> Iterator[str]:
    """All texts of one file in order, dirt included."""
    num_lines, writers = FILES[name]
    rng = random.Random(SEED + 1 + list(FILES).index(name))  # noqa: S311 - nothing secret
    shares = {"copy": DUPLICATES_PER_1000, "short": SHORT_PER_1000, "english": ENGLISH_PER_1000}
    kinds = [kind for kind, share in shares.items() for _ in range(num_lines * share // 1000)]
    # The first line is a story, so there is always one to copy.
    places = list(range(1, num_lines))
    dirt = {places.pop(rng.randrange(len(places))): kind for kind in kinds}
    seen: set[str] = set()
    stories: list[str] = []
    for line in range(num_lines):
        kind = dirt.get(line, "story")
        if kind == "copy":
            yield pick(rng, stories)
            continue
        if kind == "short":
            yield pick(rng, SHORT)
            continue
        while True:
            if kind == "english":
                text = english(rng)
            else:
                page = Page(rng, town)
                pick(rng, writers)(page)
                text = page.text()
            if text not in seen:
                break
        seen.add(text)
        if kind == "story":
            stories.append(text)
        yield text


def write_world(data: Path) -> None:
    """Write `demo/text/<file>.jsonl` below the folder of raw data: fields id, text, source, license."""
    folder = data / "demo" / "text"
    folder.mkdir(parents=True, exist_ok=True)
    town = build_town(SEED)
    for name in FILES:
        partial = folder / f"{name}.jsonl.partial"
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for number, text in enumerate(documents(name, town)):
                row = {"id": f"{name}-{number:05d}", "text": text, "source": f"world/{name}", "license": LICENCE}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial.replace(folder / f"{name}.jsonl")
