"""The right answer of an item: where it is, whether it is told, and whether it is one that can be right.

A task file says it under `metadata`: `gold` is the path to it, `gold_is` what it has to be (a list of values, or a word
of `KINDS`), `gold_hidden` what stands there in data whose answers are kept secret. lm-eval itself counts an answer that
cannot be right as 0 and says so in a log at most.
"""

import json
from collections.abc import Callable
from typing import Any

from components.outcomes import Refused
from components.wording import one_line, unknown_name

KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str)),
    "texts": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    ),
    "number": (
        "a whole number",
        lambda value: (
            (isinstance(value, int) and not isinstance(value, bool))
            or (isinstance(value, float) and value.is_integer())
        ),
    ),
}
"""Word of `gold_is` -> the same for a person, and whether a value is one."""


def gold_of(row: dict[str, Any], metadata: dict[str, Any]) -> Any:
    """What the path `gold` leads to; None if it leads nowhere."""
    value: Any = row
    for part in str(metadata["gold"]).split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def has_gold(row: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether an item has a right answer that is told, where the task's file says which field holds it."""
    if "gold" not in metadata:
        return True
    value = gold_of(row, metadata)
    if value is None or _is_same(value, metadata.get("gold_hidden")):
        return False
    return any(str(each).strip() for each in value) if isinstance(value, list) else bool(str(value).strip())


def problem_of(row: dict[str, Any], metadata: dict[str, Any]) -> str:
    """What is wrong with the right answer of an item that has one, in words that follow its name; or nothing.

    Raises:
        Refused: the task's file asks for a kind of answer that does not exist.
    """
    wanted = metadata.get("gold_is")
    if wanted is None:
        return ""
    value = gold_of(row, metadata)
    if isinstance(wanted, list):
        expected, is_right = f"one of {', '.join(map(_shown, wanted))}", any(_is_same(value, each) for each in wanted)
    elif wanted in KINDS:
        expected, is_right = KINDS[wanted][0], KINDS[wanted][1](value)
    else:
        raise Refused(unknown_name("kind of right answer", str(wanted), KINDS, "Change 'gold_is' in the task's file."))
    return "" if is_right else f"has {_shown(value)} in {metadata['gold']}, expected {expected}"


def problem_of_choice(gold: Any, choices: list[str], path: str) -> str:
    """The same, of a task whose file does not say what its right answers are, by what lm-eval makes of an item.

    Args:
        gold: numbers of choices, or one, or the text of one.
        choices: what is chosen from.
        path: to the right answer, for the message.
    """
    for each in gold if isinstance(gold, list) else [gold]:
        is_right = each in choices if isinstance(each, str) else isinstance(each, int) and 0 <= each < len(choices)
        if not is_right:
            return (
                f"has the right answer {_shown(each)}{f' by {path}' if path else ''}, expected a number from 0 to "
                f"{len(choices) - 1} or the text of a choice"
            )
    return ""


def _is_same(value: Any, other: Any) -> bool:
    """Equal and of one type: neither True nor a text is a number."""
    return type(value) is type(other) and bool(value == other)


def _shown(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False, default=str), 60)
