"""Scores of what a model writes by itself: repetition and diversity, and the samples for a person to read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from components.modalities.text.generating import answers
from components.modalities.text.schema import DISTINCT_CHARS, Samples
from components.modalities.text.scoring import first_by_hash
from components.outcomes import Refused

REPEATED_CHARS = 8
"""Stretches of so many characters are counted by `repeated_share`."""

Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]


def score(task: Samples, model: Any, read: Read, tell: Tell) -> Iterator[dict[str, Any]]:
    """Let a model write, and measure it.

    Args:
        task: the task's section.
        model: `network` (a causal language model) and `encoder`.
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many samples are written, of how many.

    Yields:
        For each sample a row of what was written (item, prompt, output), and rows of item, metric and value:
        `repeated_share`, `num_characters`, `ended` (1 if it ended by itself), and `distinct_n_of_others`, by which
        `distinct_n` has a standard error. Totals are their means, `distinct_n`, and `reference_...` of what people
        wrote.

    Raises:
        Refused: no document is long enough, the network has no room, or answers nothing or NaN.
    """
    begun = _begun(task, read)
    facts, longest = model.encoder.facts, int(model.network.config.max_position_embeddings)
    start = facts.get("start", facts["eos"])
    prompts = [
        np.concatenate([[start], ids]).astype(np.int64)
        for ids in model.encoder.encode_texts([prompt for _, prompt, _ in begun])
    ]
    needed = max(map(len, prompts)) + task.max_new_tokens
    if needed > longest:
        raise Refused(
            f"The longest prompt and max_new_tokens are {needed} tokens, but the network's context is {longest}. Lower "
            "the task's 'prompt_chars' or 'max_new_tokens'."
        )
    found = answers(model, prompts, task.max_new_tokens, task.temperature, task.seed, tell)
    written = [model.encoder.decode(answer.ids) for answer in found]
    theirs = [rest[: len(text)] for (_, _, rest), text in zip(begun, written, strict=True)]
    values, totals = _measured(written)
    values["num_characters"] = [float(len(text)) for text in written]
    values["ended"] = [float(answer.has_ended) for answer in found]
    totals |= {"ended": float(np.mean(values["ended"])), "num_samples": len(written)}
    totals["characters_per_sample"] = float(np.mean(values["num_characters"]))
    if task.corpus is not None:
        own, means = _measured(theirs)
        values |= {f"reference_{metric}": each for metric, each in own.items()}
        totals |= {f"reference_{metric}": value for metric, value in means.items()}
    for place, ((item, prompt, _), text) in enumerate(zip(begun, written, strict=True)):
        yield {"item": item, "prompt": prompt, "output": text}
        for metric, each in values.items():
            yield {"item": item, "metric": metric, "value": each[place]}
    for metric, value in totals.items():
        yield {"item": None, "metric": metric, "value": float(value)}


def _measured(texts: list[str]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Metric -> a value of each text, and total -> its value."""
    repeated = [repeated_share(text) for text in texts]
    values = {"repeated_share": repeated, **distinct_of_others(texts)}
    return values, {"repeated_share": float(np.mean(repeated)), **distinct(texts)}


def _begun(task: Samples, read: Read) -> list[tuple[str, str, str]]:
    """(item, prompt, how a person went on) of each sample."""
    if task.corpus is None:
        return [(f"sample-{number:04d}", "", "") for number in range(task.num_samples)]
    rows = read(task.corpus, [task.column], splits={task.split})
    long = (row for row in rows if len(row[task.column]) > task.prompt_chars)
    chosen = first_by_hash(long, task.num_samples)
    if not chosen:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has no accepted document of more than {task.prompt_chars} "
            f"characters, expected some to begin with. Lower the task's 'prompt_chars', or raise 'splits.{task.split}'."
        )
    texts = [(row["id"], row[task.column]) for row in chosen]
    return [(item, text[: task.prompt_chars], text[task.prompt_chars :]) for item, text in texts]


def repeated_share(text: str) -> float:
    """The share of a text's stretches that stood in it before; 0 for one shorter than two."""
    stretches = _stretches(text, REPEATED_CHARS)
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def distinct(texts: list[str]) -> dict[str, float]:
    """`distinct_n`: how many different stretches texts have together, by how many they have; none of no stretch."""
    found = {}
    for length in DISTINCT_CHARS:
        stretches = [each for text in texts for each in _stretches(text, length)]
        if stretches:
            found[f"distinct_{length}"] = len(set(stretches)) / len(stretches)
    return found


def distinct_of_others(texts: list[str]) -> dict[str, list[float]]:
    """`distinct_n_of_others`: for each text `distinct_n` of all others; none where the others have no stretch."""
    found = {}
    for length in DISTINCT_CHARS:
        own = [_stretches(text, length) for text in texts]
        holders = Counter(each for stretches in own for each in set(stretches))
        lefts = [sum(map(len, own)) - len(stretches) for stretches in own]
        if texts and all(lefts):
            alone = [sum(holders[each] == 1 for each in set(stretches)) for stretches in own]
            found[f"distinct_{length}_of_others"] = [
                (len(holders) - gone) / left for gone, left in zip(alone, lefts, strict=True)
            ]
    return found


def _stretches(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(len(text) - length + 1)]
