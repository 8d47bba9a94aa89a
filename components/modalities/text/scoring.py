"""Scores of a language model on text: how many bits it needs for documents that no training saw.

A document is scored as the training stream shows it: the end-of-text token that closed the document before it (of
somebody else's model, what its own tokenizer puts there) stands in front and is not scored, every token of the document
and its own end-of-text token are. So the bits of a document are the code length of its text and of where it ends,
whatever the tokenizer, and bits per character compare models of different vocabularies.
"""

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.text.schema import HeldOutBits
from components.outcomes import Refused

if TYPE_CHECKING:
    import torch

# The logits of one batch in float32 stay below 256 MB; a batch is at least one window.
MAX_BATCH_LOGITS = 2**26
# Windows of this many documents are sorted by length before they are batched, so that little is padding.
DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True)
class Window:
    """A stretch of one document's tokens that passes through the network at once."""

    document: int
    start: int
    """First input; counted in the sequence `eos, token, token, ..., eos`."""
    end: int
    """One past the last input; the input at i predicts the token at i + 1."""
    num_scored: int
    """The last so many predictions count; those before are context, and counted by the window before."""


Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]


def score(task: HeldOutBits, model: Any, read: Read, tell: Tell) -> Iterator[dict[str, Any]]:
    """Score a model on a task of text.

    Args:
        task: the task's section.
        model: `network` (a causal language model of transformers, on its device) and `encoder` (the tokenizer).
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many documents are done, of how many.

    Yields:
        Rows of item (the record's id; None for the whole task), metric and value. Totals are sums over sums: bits of
        all documents / characters of all documents.

    Raises:
        Refused: there is no document, or the network answers NaN.
    """
    records = first_by_hash(read(task.corpus, [task.column], splits={task.split}), task.max_documents)
    totals = {"bits": 0.0, "num_characters": 0, "num_bytes": 0, "num_tokens": 0}
    for start in range(0, len(records), DOCUMENTS_AT_ONCE):
        chunk = records[start : start + DOCUMENTS_AT_ONCE]

        def told(share: float, before: int = start, size: int = len(chunk)) -> None:
            tell(before + int(share * size), len(records))

        measured = _measure(task, model, [row[task.column] for row in chunk], told)
        for record, counts in zip(chunk, measured, strict=True):
            if not math.isfinite(counts["bits"]):
                raise Refused(
                    f"The network gives document {record['id']} a likelihood of {counts['bits']}, expected a finite "
                    "one: its weights are damaged or training diverged. Look at the curve, then train again with a "
                    "lower 'pretrain.optimizer.learning_rate'."
                )
            for metric, value in {**counts, "bits_per_character": counts["bits"] / counts["num_characters"]}.items():
                yield {"item": record["id"], "metric": metric, "value": value}
            totals = {metric: totals[metric] + counts[metric] for metric in totals}
    if not records:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has no accepted document, expected at least one to score. "
            f"Raise 'splits.{task.split}' in the corpus, or choose another 'split' in the task."
        )
    rates = {
        "bits_per_character": totals["bits"] / totals["num_characters"],
        "bits_per_byte": totals["bits"] / totals["num_bytes"],
        "perplexity": 2.0 ** (totals["bits"] / totals["num_tokens"]),
        "tokens_per_character": (totals["num_tokens"] - len(records)) / totals["num_characters"],
    }
    del totals["bits"]  # told by the rates
    for metric, value in {**rates, **totals, "num_documents": len(records)}.items():
        yield {"item": None, "metric": metric, "value": value}


def first_by_hash(records: Iterable[dict[str, Any]], num_records: int | None) -> list[dict[str, Any]]:
    """A sample of records that only their ids decide: those with the smallest hashes, smallest first; None takes all.

    Ids themselves would not do: they begin with the file a record comes from, so the first ones are of one source.
    """
    ordered = records if num_records is None else heapq.nsmallest(num_records, records, key=_id_hash)
    return list(ordered)


def _id_hash(record: dict[str, Any]) -> bytes:
    return hashlib.blake2b(record["id"].encode("utf-8"), digest_size=16).digest()


def windows_of(document: int, num_predictions: int, window_tokens: int, stride_tokens: int) -> Iterator[Window]:
    """Cut a document so that every prediction counts once and sees at least window_tokens - stride_tokens tokens.

    The first predictions of a document see all that is before them, which may be fewer.
    """
    counted = 0
    while counted < num_predictions:
        end = min(counted + (window_tokens if counted == 0 else stride_tokens), num_predictions)
        yield Window(document, max(0, end - window_tokens), end, end - counted)
        counted = end


def _measure(task: HeldOutBits, model: Any, texts: list[str], told: Callable[[float], None]) -> list[dict[str, float]]:
    """Bits and sizes of each text; bits are summed in float64, in the order of a text's windows.

    `told` receives the share of the work that is done.
    """
    eos = int(model.encoder.facts["eos"])
    end = np.array([eos], dtype=np.int64)
    start = np.array([model.encoder.facts.get("start", eos)], dtype=np.int64)
    sequences = [np.concatenate([start, ids.astype(np.int64), end]) for ids in model.encoder.encode_texts(texts)]
    window_tokens = _window_tokens(task, model.network)
    stride_tokens = max(1, math.floor(window_tokens * task.stride_share))
    windows = [
        window
        for document, sequence in enumerate(sequences)
        for window in windows_of(document, len(sequence) - 1, window_tokens, stride_tokens)
    ]
    bits, num_done = [0.0] * len(windows), 0
    order = sorted(range(len(windows)), key=lambda i: windows[i].start - windows[i].end)
    for batch in _batches(order, windows, MAX_BATCH_LOGITS // int(model.network.config.vocab_size)):
        for i, value in zip(batch, _bits_of([windows[i] for i in batch], sequences, model.network, eos), strict=True):
            bits[i] = value
        num_done += len(batch)
        told(num_done / len(windows))
    measured = [
        {
            "bits": 0.0,
            "num_characters": len(text),
            "num_bytes": len(text.encode("utf-8")),
            "num_tokens": len(sequence) - 1,
        }
        for text, sequence in zip(texts, sequences, strict=True)
    ]
    for window, value in zip(windows, bits, strict=True):
        measured[window.document]["bits"] += value
    return measured


def _window_tokens(task: HeldOutBits, network: Any) -> int:
    longest = int(network.config.max_position_embeddings)
    if task.window_tokens is not None and task.window_tokens > longest:
        raise Refused(
            f"The task's window_tokens {task.window_tokens} is longer than the network's context of {longest} tokens. "
            f"Set 'window_tokens' to {longest} or less, or leave it out."
        )
    return task.window_tokens or longest


def _batches(order: list[int], windows: list[Window], max_tokens: int) -> Iterator[list[int]]:
    """Group windows, longest first, so that a padded batch has at most max_tokens tokens."""
    batch: list[int] = []
    for i in order:
        longest = windows[batch[0]].end - windows[batch[0]].start if batch else 0
        if batch and longest * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _bits_of(batch: list[Window], sequences: list[np.ndarray], network: "torch.nn.Module", eos: int) -> list[float]:
    """Bits of the scored predictions of each window, by one forward pass."""
    import torch

    longest = max(window.end - window.start for window in batch)
    # Padding stands on the right, where a causal network never looks back from, so it needs no mask.
    inputs = np.full((len(batch), longest), eos, dtype=np.int64)  # [windows, tokens]
    targets = inputs.copy()
    is_scored = np.zeros((len(batch), longest), dtype=bool)
    for row, window in enumerate(batch):
        sequence = sequences[window.document]
        length = window.end - window.start
        inputs[row, :length] = sequence[window.start : window.end]
        targets[row, :length] = sequence[window.start + 1 : window.end + 1]
        is_scored[row, length - window.num_scored : length] = True
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network(input_ids=torch.from_numpy(inputs).to(device), use_cache=False).logits.float()
        chosen = logits.gather(-1, torch.from_numpy(targets).to(device)[..., None])[..., 0]
        nats = (torch.logsumexp(logits, dim=-1) - chosen).double().cpu()
    scored = torch.where(torch.from_numpy(is_scored), nats, torch.zeros_like(nats))
    return (scored.sum(dim=1) / math.log(2)).tolist()
