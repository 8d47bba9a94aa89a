"""What the demo's models are aligned with: questions to the town with good answers, hasty ones, and pairs.

    demo/instructions/   questions with their good answer: facts, situations, follow-ups
    demo/hasty/          other questions, answered rightly by somebody in a hurry: rude, rambling, repeating, unfinished
    demo/preferences/    other questions, each with the good answer and a worse one

The questions of the three differ, and within each no prompt stands twice, so what a split holds out is in none of the
others. A prompt that is held out still asks for a fact that others ask for in other words, or tells a new situation.
"""

import json
import random
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from components.generators import asking
from components.generators.questions import Question, pick, shuffled
from components.generators.situations import situations
from components.generators.town import build_town
from components.generators.world import LICENCE, SEED

# How many questions of each file; the preferences have what is left of the follow-ups.
FACTS = {"instructions": 4_000, "hasty": 1_000, "preferences": 8_000}
SITUATIONS = {"instructions": 2_500, "hasty": 500, "preferences": 800}
FOLLOW_UPS = {"instructions": 260}
ONE_FACT_PER_100 = 65
"""Of pairs: those whose worse answer differs in one fact alone."""

CHATTER = (
    "また何でも聞いてください。",
    "お役に立てたらうれしいです。",
    "ほかに知りたいことはありますか。",
    "そういえば、きょうはいい天気ですね。",
    "ちなみに、私は海を見るのが好きです。",
    "とてもいい質問ですね。",
    "そうですね、少し考えてみます。",
)
EVASIONS = ("わかりません。", "知りません。", "それは難しい質問です。", "はい。", "そうですね。")


def plain(question: Question, _rng: random.Random) -> str:
    """Right, and not polite."""
    return question.plain


def terse(question: Question, _rng: random.Random) -> str:
    """The fact, and no sentence."""
    return f"{question.fact}。"


def rambling(question: Question, rng: random.Random) -> str:
    """Right, with chatter after or before it."""
    chatter = "".join(pick(rng, CHATTER) for _ in range(1 + rng.randrange(2)))
    return question.answer + chatter if rng.randrange(3) else chatter + question.answer


def repeating(question: Question, rng: random.Random) -> str:
    """Right, again and again."""
    return question.answer * (2 + rng.randrange(2))


def unfinished(question: Question, rng: random.Random) -> str:
    """Broken off within the last few words."""
    return question.answer[: -(1 + rng.randrange(3))]


def evasive(_question: Question, rng: random.Random) -> str:
    """An answer that says nothing."""
    return pick(rng, EVASIONS)


HASTY = (plain, plain, plain, terse, terse, rambling, rambling, rambling, repeating, unfinished)
WORSE = (plain, plain, terse, rambling, rambling, repeating, unfinished, evasive)


@cache
def questions() -> dict[str, dict[str, list[Question]]]:
    """All questions: folder -> file -> questions, every prompt once."""
    town = build_town(SEED)
    rng = random.Random(SEED + 100)  # noqa: S311 - nothing secret
    known = asking.facts(town, rng)
    pools = {
        "facts": _distinct(asking.fact_questions(known, rng)),
        "situations": situations(rng, sum(SITUATIONS.values())),
        "follow-ups": asking.follow_ups(known, rng),
    }
    found: dict[str, dict[str, list[Question]]] = {"instructions": {}, "hasty": {}, "preferences": {}}
    for name, shares in (("facts", FACTS), ("situations", SITUATIONS), ("follow-ups", FOLLOW_UPS)):
        left = iter(pools[name])
        for folder, number in shares.items():
            found[folder][name] = [question for _, question in zip(range(number), left, strict=False)]
        if "preferences" not in shares:
            found["preferences"][name] = list(left)
    return found


def _distinct(found: Iterable[Question]) -> list[Question]:
    """Without those whose words are the same as those of another."""
    return list({question.key: question for question in found}.values())


def _prompt(question: Question) -> str | list[dict[str, str]]:
    """A text, or, if something was said before, turns."""
    if not question.before:
        return question.prompt
    roles = ("user", "assistant", "user")
    turns = zip(roles, (*question.before, question.prompt), strict=True)
    return [{"role": role, "content": content} for role, content in turns]


def _answered(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, fields) of prompts with one answer."""
    rng = random.Random(SEED + 200)  # noqa: S311
    for name, asked in questions()[folder].items():
        for question in asked:
            answer = pick(rng, HASTY)(question, rng) if folder == "hasty" else question.answer
            yield name, {"prompt": _prompt(question), "response": answer}


def _compared() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, fields) of prompts with a better and a worse answer."""
    rng = random.Random(SEED + 300)  # noqa: S311
    asked = [question for found in questions()["preferences"].values() for question in found]
    for question in shuffled(rng, asked):
        wrong = question.wrong_facts()
        alike = [each for each in wrong if len(each) == len(question.fact)]
        pair = {"prompt": _prompt(question), "chosen": question.answer}
        if rng.randrange(100) < ONE_FACT_PER_100:
            name = "one-fact" if alike else "another-fact"
            # What the question itself offers is the easiest mistake, so it is made half of the time.
            near = [each for each in alike[:1] if each in question.rivals[:1]]
            other = pick(rng, near if near and rng.randrange(2) else alike or wrong)
            yield name, pair | {"rejected": question.answer_with(other)}
        else:
            yield "manner", pair | {"rejected": pick(rng, WORSE)(question, rng)}


def write_instructions(data: Path) -> None:
    """Write all three folders below the folder of raw data; fields besides the texts: id, source, license."""
    for folder in ("instructions", "hasty", "preferences"):
        rows: dict[str, list[dict[str, Any]]] = {}
        for name, fields in _compared() if folder == "preferences" else _answered(folder):
            file = rows.setdefault(name, [])
            names = {"id": f"{folder}-{name}-{len(file):05d}", "source": f"world/{folder}/{name}", "license": LICENCE}
            file.append(names | fields)
        place = data / "demo" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, file in sorted(rows.items()):
            partial = place / f"{name}.jsonl.partial"
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in file)
            partial.write_text(text, encoding="utf-8", newline="\n")
            partial.replace(place / f"{name}.jsonl")
