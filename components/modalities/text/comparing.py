"""Scores of a model that tells better answers from worse ones: by its reward, or by how likely it finds them."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from components.modalities.text.chat import ChatEncoder
from components.modalities.text.schema import PreferenceAccuracy
from components.modalities.text.scoring import first_by_hash
from components.outcomes import Refused
from models.conversation import CHOSEN, PROMPT, REJECTED

BATCH_PAIRS = 16
GROUPS = ("chosen_is_longer", "chosen_is_shorter", "equal_length")
"""By tokens of the answers: a model that only counts them is right in the first and wrong in the second."""


def score(
    task: PreferenceAccuracy, model: Any, read: Callable[..., Iterable[Any]], tell: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Score a model on pairs of answers to the same prompt.

    Args:
        task: the task's section.
        model: `network` (of one label: its reward decides; a causal language model: the likelihood of the answer given
            the prompt) and `encoder` (with a prompt format).
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many pairs are done, of how many.

    Yields:
        Rows of item, metric and value: `accuracy` (1, 0, or a half for a tie), `margin` (better less worse: a reward,
        or nats). Totals are their means, and the accuracy where the better answer is longer, shorter, or as long.

    Raises:
        Refused: there is no pair, the encoder has no prompt format, or the network answers NaN.
    """
    encoder = model.encoder
    if not isinstance(encoder, ChatEncoder):
        raise Refused(
            "The model's encoder has no prompt format, expected one of kind 'chat' to put questions with. Change the "
            "recipe's key 'encoder', or take the task out of 'evaluate.tasks'."
        )
    longest = int(model.network.config.max_position_embeddings)
    rows = first_by_hash(
        _of_sources(task, read(task.corpus, [task.column, "source"], splits={task.split})), task.max_pairs
    )
    encoded = encoder.encode([row[task.column] for row in rows])
    pairs = [(row["id"], ids) for row, ids in zip(rows, encoded, strict=True) if _length(ids) <= longest]
    if not pairs:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has {len(rows)} accepted pairs of these sources, "
            f"none of at most the network's {longest} tokens. Raise 'splits.{task.split}' in the corpus, lower its "
            "filters.max_chars, or change the task's 'sources'."
        )
    accuracies: dict[str, list[float]] = {group: [] for group in GROUPS}
    margins = []
    for start in range(0, len(pairs), BATCH_PAIRS):
        part = pairs[start : start + BATCH_PAIRS]
        for (item, ids), margin in zip(part, _margins([ids for _, ids in part], model), strict=True):
            if not math.isfinite(margin):
                raise Refused(
                    f"The network gives the pair {item} a margin of {margin}, expected a finite one: training "
                    "diverged. Train again with a lower 'align.optimizer.learning_rate'."
                )
            accuracy = 0.5 if margin == 0 else float(margin > 0)
            accuracies[_group(ids)].append(accuracy)
            margins.append(margin)
            yield {"item": item, "metric": "accuracy", "value": accuracy}
            yield {"item": item, "metric": "margin", "value": margin}
        tell(start + len(part), len(pairs))
    for metric, value in _totals(accuracies, margins).items():
        yield {"item": None, "metric": metric, "value": float(value)}
    yield {"item": None, "metric": "num_left_out", "value": float(len(rows) - len(pairs))}


def _totals(accuracies: dict[str, list[float]], margins: list[float]) -> dict[str, Any]:
    """Means over all pairs, and by group."""
    everything = [each for group in GROUPS for each in accuracies[group]]
    totals: dict[str, Any] = {"accuracy": np.mean(everything), "margin": np.mean(margins), "num_pairs": len(margins)}
    for group, found in accuracies.items():
        if found:
            totals |= {f"accuracy_{group}": np.mean(found), f"num_{group}": len(found)}
    return totals


def _of_sources(task: PreferenceAccuracy, rows: Iterable[Any]) -> Iterator[Any]:
    return (row for row in rows if not task.sources or row["source"] in task.sources)


def _length(ids: np.ndarray) -> int:
    asked, better, worse = (int((ids[:, 1] == part).sum()) for part in (PROMPT, CHOSEN, REJECTED))
    return asked + max(better, worse)


def _group(ids: np.ndarray) -> str:
    difference = int((ids[:, 1] == CHOSEN).sum() - (ids[:, 1] == REJECTED).sum())
    return GROUPS[2] if difference == 0 else GROUPS[difference < 0]


def _margins(pairs: list[np.ndarray], model: Any) -> list[float]:
    """Better less worse of each pair, by one forward pass over both, the way a user of the release makes it."""
    import torch

    rows = [ids[ids[:, 1] != worse] for worse in (REJECTED, CHOSEN) for ids in pairs]
    shape = (len(rows), max(map(len, rows)))
    ids, is_token, is_answer = np.full(shape, model.encoder.facts["pad"]), np.zeros(shape, bool), np.zeros(shape, bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)], is_token[place, : len(row)] = row[:, 0], True
        is_answer[place, : len(row)] = row[:, 1] != PROMPT
    device = next(model.network.parameters()).device
    given, mask, answers = (torch.from_numpy(each).to(device) for each in (ids.astype(np.int64), is_token, is_answer))
    with torch.inference_mode():
        logits = model.network(input_ids=given, attention_mask=mask.long(), use_cache=False).logits.double()
        if logits.dim() == 2:  # one label: the reward
            found = logits[:, 0]
        else:
            chosen = logits[:, :-1].gather(-1, given[:, 1:, None])[..., 0] - logits[:, :-1].logsumexp(dim=-1)
            found = (chosen * answers[:, 1:]).sum(dim=1)
    better, worse = found.chunk(2)
    return list((better - worse).tolist())
