"""Conversations and preferences: raw fields become clean JSON, or a reject with its reason.

A conversation is `{"messages": [{"role": "user" | "assistant", "content": text}, ...]}`; user and assistant take turns,
the user begins and the assistant has the last word. A preference is `{"messages": [...], "chosen": text, "rejected":
text}`, whose messages end with the user's. The JSON is compact and its keys stand in this order, so equal content has
equal bytes.
"""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

from components.modalities import Rejected
from components.modalities.text import checking, cleaning
from components.modalities.text.schema import Column, Filters, Speakers

ROLES = ("user", "assistant")
ANSWERS = ("chosen", "rejected")


def messages_of(value: str) -> list[dict[str, str]]:
    """The turns of a conversation, or those before the answers of a preference."""
    return list(json.loads(value)["messages"])


def text_of(value: str) -> str:
    """Everything that is said, a turn a line: what filters and facts look at."""
    return "\n".join(texts_of(value))


def texts_of(value: str) -> list[str]:
    """What is said, turn by turn, then the better and the worse answer of a preference."""
    parts = json.loads(value)
    return [*(each["content"] for each in parts["messages"]), *(parts[key] for key in ANSWERS if key in parts)]


def with_texts(value: str, texts: list[str]) -> dict[str, Any]:
    """The raw parts of the same conversation or preference in other words.

    Args:
        value: clean JSON.
        texts: as many as `texts_of` gives, in their order.
    """
    parts = json.loads(value)
    turns = len(parts["messages"])
    messages = [{**each, "content": text} for each, text in zip(parts["messages"], texts[:turns], strict=True)]
    answers = dict(zip([key for key in ANSWERS if key in parts], texts[turns:], strict=True))
    return {"prompt": messages, **answers} if answers else {"messages": messages}


def reader(column: Column) -> Callable[[dict[str, Any]], str]:
    """A function from raw fields, by their parts, to clean JSON; it raises `Rejected` with a reason."""
    clean = cleaning.reader(column.model_copy(update={"filters": _of_a_turn(column.filters)}))
    accept = cleaning.reader(column)

    def turn(raw: Any, what: str) -> str:
        try:
            return clean(raw)
        except Rejected as rejected:
            raise Rejected(f"{what}: {rejected}") from None

    def read(parts: dict[str, Any]) -> str:
        value: dict[str, Any]
        if "response" in parts:
            answer = {"role": "assistant", "content": turn(parts["response"], "response")}
            value = {"messages": [*_prompt(parts["prompt"], turn), answer]}
        elif "messages" in parts:
            value = {"messages": _messages(_rows(parts["messages"], column.speakers), "messages", turn)}
        else:
            if column.speakers and "prompt" not in parts:
                parts = _pair(parts, column.speakers)
            value = {"messages": _prompt(parts["prompt"], turn)}
            value |= {key: turn(parts[key], key) for key in ANSWERS}
            if value["chosen"] == value["rejected"]:
                raise Rejected("chosen is equal to rejected")
        _check_turns(value["messages"], last="user" if "chosen" in value else "assistant")
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        accept(text_of(text))
        return text

    return read


def _rows(raw: Any, speakers: Speakers | None) -> Any:
    """The turns of a conversation that is one text, as rows of role and content; anything else as it is."""
    if speakers is None or not isinstance(raw, str):
        return raw
    marks = {speakers.user: "user", speakers.assistant: "assistant"}
    either = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
    before, *pieces = re.split(f"({either})", raw)
    if not pieces or before.strip():
        raise Rejected("a conversation does not begin with the mark of a speaker (speakers)")
    return [
        {"role": marks[mark], "content": text.strip()} for mark, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _pair(parts: dict[str, Any], speakers: Speakers) -> dict[str, Any]:
    """Prompt and answers of two conversations that are one text each and differ in their last turn."""
    found = {key: _rows(parts[key], speakers) for key in ANSWERS}
    if not all(isinstance(rows, list) and rows and rows[-1]["role"] == "assistant" for rows in found.values()):
        raise Rejected("chosen or rejected does not end with a turn of the assistant")
    chosen, rejected = found["chosen"], found["rejected"]
    if chosen[:-1] != rejected[:-1]:
        raise Rejected("chosen and rejected differ before their last turn")
    return {"prompt": chosen[:-1], "chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}


def _of_a_turn(filters: Filters) -> Filters:
    """What changes a text, for every turn; what measures it looks at all turns together."""
    changing = ("unicode_form", "mask_personal_information", "drop_headers_and_footers")
    return Filters(**{key: getattr(filters, key) for key in changing})


def _prompt(raw: Any, turn: Callable[[Any, str], str]) -> list[dict[str, str]]:
    if isinstance(raw, list):
        return _messages(raw, "prompt", turn)
    return [{"role": "user", "content": turn(raw, "prompt")}]


def _messages(raw: Any, what: str, turn: Callable[[Any, str], str]) -> list[dict[str, str]]:
    if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
        raise Rejected(f"{what}: not a list of rows with role and content")
    messages = []
    for row in raw:
        role = row.get("role")
        if role not in ROLES:
            raise Rejected(f"{what}: a role is none of {', '.join(ROLES)}")
        messages.append({"role": role, "content": turn(row.get("content"), f"a turn of {role}")})
    return messages


def _check_turns(messages: list[dict[str, str]], last: str) -> None:
    roles = [each["role"] for each in messages]
    if not roles:
        raise Rejected("no turn")
    for before, after in itertools.pairwise(roles):
        if before == after:
            raise Rejected(f"two turns of {after} in a row")
    if roles[0] != "user":
        raise Rejected("the assistant has the first word")
    if roles[-1] != last:
        raise Rejected(f"the last turn is of {roles[-1]}, not of {last}")


def check(value: str) -> dict[str, Any]:
    """Facts about a conversation or preference: those of its whole text, `num_turns`, and what is answered.

    `num_answer_chars` counts the last answer, of a preference the better one; `length_difference` is what the better
    one has more than the worse one, 0 in a conversation.
    """
    parts = json.loads(value)
    messages = parts["messages"]
    answer = parts["chosen"] if "chosen" in parts else messages[-1]["content"]
    facts = checking.check(text_of(value))
    return facts | {
        "num_turns": len(messages) + ("chosen" in parts),
        "num_answer_chars": len(answer),
        "length_difference": len(answer) - len(parts["rejected"]) if "chosen" in parts else 0,
    }
