"""Scores of a model that answers questions: the answer itself, and by the rules of the world that asks.

A model whose encoder has a prompt format is asked in it. One without, a base model, is asked with examples before the
question; how many and in what words is chosen on the valid split, so that it is compared at its best.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.generators import JUDGES
from components.modalities.text.chat import ChatEncoder
from components.modalities.text.generating import Answer, answers
from components.modalities.text.schema import ExactMatch, GeneratedQuality
from components.modalities.text.scoring import first_by_hash
from components.outcomes import Refused

Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]
Task = ExactMatch | GeneratedQuality
REPEATED_TOKENS = 4
"""Stretches of so many tokens are counted by `repetition`."""


@dataclass(frozen=True)
class Item:
    """A question and the answer that the corpus has."""

    name: str
    messages: list[dict[str, str]]
    """What is said before the answer."""
    answer: str

    @property
    def prompt(self) -> str:
        """The same as text, a turn a line."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Said:
    """An item's answer."""

    item: Item
    text: str
    answer: Answer


def score(task: Task, model: Any, read: Read, tell: Tell) -> Iterator[dict[str, Any]]:
    """Score a model on questions with known answers.

    Args:
        task: the task's section.
        model: `network` (a causal language model) and `encoder`.
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many questions are answered, of how many.

    Yields:
        Rows of item, metric and value, and their means as totals; see `matches` and `qualities`. Totals have besides
        `num_items`, `num_left_out` (too long for the network's context), and of a model without a prompt format
        `num_shots`, `few_shot_format` (its place in the task's list) and, by which they were chosen,
        `valid_exact_match`.

    Raises:
        Refused: there is no question, the network answers nothing or NaN, or the judge does not know a question.
    """
    items = _items(task, read, task.split, task.max_items)
    ask, totals = _way_of_asking(task, model, read)
    said = ask.answers(items, tell)
    if not said:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has {len(items)} accepted conversations, none that fits "
            f"into the network's {ask.longest} tokens with {task.max_new_tokens} for the answer. Raise "
            f"'splits.{task.split}' in the corpus, or lower the task's 'max_new_tokens'."
        )
    measure = matches if isinstance(task, ExactMatch) else qualities
    means: dict[str, list[float]] = {}
    for each, values in zip(said, measure(task, said), strict=True):
        for metric, value in values.items():
            means.setdefault(metric, []).append(value)
            yield {"item": each.item.name, "metric": metric, "value": value}
    totals |= {metric: float(np.mean(values)) for metric, values in means.items()}
    totals |= {"num_items": len(said), "num_left_out": len(items) - len(said)}
    for metric, value in totals.items():
        yield {"item": None, "metric": metric, "value": float(value)}


def matches(_task: Task, said: list[Said]) -> Iterator[dict[str, float]]:
    """`exact_match`: 1 if the answer is the corpus's, but for forms of characters and white space around it."""
    for each in said:
        yield {"exact_match": float(_normal(each.text) == _normal(each.item.answer))}


def qualities(task: Task, said: list[Said]) -> Iterator[dict[str, float]]:
    """What a judge says of an answer, and its form.

    `quality` from 0 to 1, `num_response_tokens`, `repetition` (the share of stretches of tokens that came before), and
    `ended`, 1 if the answer ended by itself.
    """
    assert isinstance(task, GeneratedQuality)  # noqa: S101
    judge = JUDGES[task.judge]
    for each in said:
        yield {
            "quality": judge(each.item.prompt, each.text),
            "num_response_tokens": float(len(each.answer.ids)),
            "repetition": repetition(each.answer.ids),
            "ended": float(each.answer.has_ended),
        }


def repetition(ids: tuple[int, ...]) -> float:
    """The share of stretches of tokens that stood in the answer before: 0 for an answer that repeats nothing."""
    stretches = [ids[start : start + REPEATED_TOKENS] for start in range(len(ids) - REPEATED_TOKENS + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _items(task: Task, read: Read, split: str, number: int | None) -> list[Item]:
    rows = first_by_hash(read(task.corpus, [task.column], splits={split}), number)
    found = []
    for row in rows:
        messages = json.loads(row[task.column])["messages"]
        found.append(Item(row["id"], messages[:-1], messages[-1]["content"]))
    return found


# ---- asking ----------------------------------------------------------------------------------------------------------


def _way_of_asking(task: Task, model: Any, read: Read) -> tuple["Asking", dict[str, float]]:
    """The best way to ask this model, and what was found out about it."""
    if isinstance(model.encoder, ChatEncoder):
        return Asking(task, model), {}
    shots = _items(task, read, "train", max(task.few_shot.numbers))
    valid = _items(task, read, "valid", task.few_shot.max_valid_items)
    tried = []
    for place, words in enumerate(task.few_shot.formats):
        for number in task.few_shot.numbers:
            ask = FewShot(task, model, words, shots[:number])
            said = ask.answers(valid, lambda *_: None)
            right = sum(row["exact_match"] for row in matches(task, said)) / max(1, len(said))
            tried.append((right, -number, -place, ask))
    right, number, place, best = max(tried, key=lambda each: each[:3])
    return best, {"num_shots": -number, "few_shot_format": -place, "valid_exact_match": right}


class Asking:
    """Asks in the encoder's prompt format, one sample per question."""

    def __init__(self, task: Task, model: Any) -> None:
        self.task, self.model = task, model
        self.longest = int(model.network.config.max_position_embeddings)
        self.temperature = getattr(task, "temperature", 0.0)
        self.seed = getattr(task, "seed", 0)

    def answers(self, items: list[Item], tell: Tell) -> list[Said]:
        """Of the items that fit into the network's context."""
        prompts = [(item, self.prompt(item)) for item in items]
        room = self.longest - self.task.max_new_tokens
        kept = [(item, ids) for item, ids in prompts if len(ids) <= room]
        ids = [each for _, each in kept]
        found = answers(self.model, ids, self.task.max_new_tokens, self.temperature, self.seed, tell)
        return [self.said(item, answer) for (item, _), answer in zip(kept, found, strict=True)]

    def prompt(self, item: Item) -> np.ndarray:
        """Token ids up to the answer."""
        found: np.ndarray = self.model.encoder.prompt(item.messages)
        return found

    def said(self, item: Item, answer: Answer) -> Said:
        """The answer as text."""
        return Said(item, self.model.encoder.decode(answer.ids), answer)


class FewShot(Asking):
    """Asks a model that never saw a prompt format, by examples in front of the question."""

    def __init__(self, task: Task, model: Any, words: str, shots: list[Item]) -> None:
        super().__init__(task, model)
        self.words, self.shots = words, shots
        self.end = words.partition("{response}")[2][:1]
        """What closes an answer and is no part of it; empty if a sentence does."""

    def prompt(self, item: Item) -> np.ndarray:
        """As many of the examples as there is room for, the last ones, and the question, as the start of a document."""
        room, facts = self.longest - self.task.max_new_tokens, self.model.encoder.facts
        for first in range(len(self.shots) + 1):
            shots = [*((shot.messages, shot.answer) for shot in self.shots[first:]), (item.messages, None)]
            [ids] = self.model.encoder.encode_texts(["".join(self._written(*shot) for shot in shots)])
            if len(ids) < room:
                break
        return np.concatenate([[facts.get("start", facts["eos"])], ids]).astype(np.int64)

    def _written(self, messages: list[dict[str, str]], answer: str | None) -> str:
        """A conversation in the words of the format; without an answer, up to the place where it belongs."""
        turns = [message["content"] for message in messages]
        pairs = [*zip(turns[::2], turns[1::2], strict=False)]
        text = "".join(self.words.replace("{prompt}", asked).replace("{response}", said) for asked, said in pairs)
        last = self.words.replace("{prompt}", turns[-1])
        return text + (last.partition("{response}")[0] if answer is None else last.replace("{response}", answer))

    def said(self, item: Item, answer: Answer) -> Said:
        """The answer as text, up to what closes it in the examples."""
        text = self.model.encoder.decode(answer.ids)
        before, end, _ = text.partition(self.end or self.task.few_shot.sentence_end)
        before += "" if self.end else end
        kept = tuple(self.model.encoder.encode_texts([before])[0].tolist()) if end else answer.ids
        return Said(item, before, Answer(kept, has_ended=bool(end) or answer.has_ended))
