"""Greedy continuations of many prompts, each until it is done by a rule of its own.

Unlike `generating`, which has transformers answer whole batches, rows that are done leave their batch, what many
prompts begin with is computed once, a continuation that was begun before goes on where it was, and a pass answers for
several tokens where the next ones could be guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.modalities.text.branches import MAX_LOGITS, Before, Ids, shared_starts
from components.modalities.text.guessing import Lookup, Pace
from components.modalities.text.roomy_cache import roomy_cache
from components.outcomes import Refused

MAX_CELLS = 2**15
"""Tokens of all rows of a batch together, prompts and answers: what the cache of keys and values holds."""
MAX_ROWS = 128
KEPT_SHARE = 0.75
"""A batch of which less is not done is packed anew."""


@dataclass
class Stream:
    """One prompt and how it goes on."""

    prompt: Ids
    """At least one token."""
    most: int
    """It goes on for no more tokens; with the prompt they fit into the network's context."""
    is_done: Callable[[list[int]], bool]
    """Whether these tokens are enough; asked after each one."""
    tokens: list[int] = field(default_factory=list)
    """How it goes on, as far as it is known."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is asked of it."""
        return len(self.tokens) >= self.most or (bool(self.tokens) and self.is_done(self.tokens))


def go_on(network: Any, streams: Sequence[Stream], vocab_size: int, done: Callable[[list[Stream]], None]) -> None:
    """Continue streams with the most likely token each, until all are over.

    Args:
        network: a causal language model of transformers, on its device, in evaluation mode.
        streams: those that are over are left alone.
        vocab_size: of the tokenizer; a network may have more rows, which stand for nothing.
        done: receives the streams of a batch when it ends.

    Raises:
        Refused: logits are no numbers.
    """
    waiting = [each for each in streams if not each.is_over]
    for start, places in shared_starts([(*each.prompt, *each.tokens)[:-1] for each in waiting]).items():
        before = Before(network, start)
        for batch in _batches([waiting[place] for place in places], int(network.config.vocab_size)):
            _run(network, batch, before, vocab_size)
            done(batch)


def _batches(streams: list[Stream], vocabulary: int) -> list[list[Stream]]:
    """Streams of about the same length, longest first."""
    found: list[list[Stream]] = []
    for each in sorted(streams, key=lambda stream: -len(stream.prompt) - len(stream.tokens)):
        longest = len(found[-1][0].prompt) + max(row.most for row in (*found[-1], each)) if found else 0
        size = len(found[-1]) + 1 if found else 1
        if not found or size * longest > MAX_CELLS or size > MAX_ROWS or size * vocabulary > MAX_LOGITS:
            found.append([])
        found[-1].append(each)
    return found


def _run(network: Any, batch: list[Stream], before: Before, vocab_size: int) -> None:
    """Continue a batch until every stream is over."""
    import torch

    longest = int(network.config.max_position_embeddings)
    with torch.inference_mode():
        logits, cache, positions = _begun(network, batch, before)
        device, width = logits.device, int(positions.max())
        mask = (torch.arange(width, device=device)[None] >= width - positions[:, None]).long()
        rows, pace = [_Row(stream) for stream in batch], Pace(device.type)
        _go_on_by(rows, [[]] * len(rows), logits[:, None, :vocab_size])
        while left := [place for place, row in enumerate(rows) if not row.stream.is_over]:
            if len(left) < KEPT_SHARE * len(rows):
                kept = torch.tensor(left, device=device)
                cache.batch_select_indices(kept)
                rows, positions, mask = [rows[place] for place in left], positions[kept], mask[kept]
            guesses = _guesses(rows, pace.number(len(rows)))
            ids = torch.tensor([[row.stream.tokens[-1], *guess] for row, guess in zip(rows, guesses, strict=True)])
            places = positions[:, None] + torch.arange(ids.shape[1], device=device)
            logits = network(
                input_ids=ids.to(device),
                attention_mask=torch.cat([mask, mask.new_ones(ids.shape)], dim=1),
                # What is over, or guessed beyond the last token that counts, may lie beyond the network's context.
                position_ids=places.clamp(max=longest - 1),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=ids.shape[1],
            ).logits
            said = _go_on_by(rows, guesses, logits[..., :vocab_size])
            pace.learn((ids.shape[1] - 1) * len(left), sum(said) - len(left))
            # Of the pass stay the tokens that are said by some row, and each row sees its own.
            cache.crop(max(said) - ids.shape[1])
            num_said = torch.tensor(said, device=device)
            seen = torch.arange(max(said), device=device)[None] < num_said[:, None]
            mask, positions = torch.cat([mask, seen.long()], dim=1), positions + num_said


class _Row:
    """A stream, and what it may say next."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.lookup = Lookup([*stream.prompt, *stream.tokens])


def _guesses(rows: list[_Row], number: int) -> list[list[int]]:
    """As many guesses of each row, none at all if no row has some; a row that has none repeats its last token."""
    found = [row.lookup.guesses(number) if number and not row.stream.is_over else [] for row in rows]
    longest = max(map(len, found))
    return [guess or [row.stream.tokens[-1]] * longest for row, guess in zip(rows, found, strict=True)]


def _go_on_by(rows: list[_Row], guesses: list[list[int]], logits: Any) -> list[int]:
    """Append what a pass says after the last token and after each guess that holds.

    Args:
        rows: those that are over are left alone.
        guesses: of each row, equally many.
        logits: [rows, 1 + guesses, vocabulary].

    Returns:
        How many tokens each row has said.
    """
    highest, chosen = logits.max(dim=-1)
    _require_numbers(highest)
    counts = []
    for row, guess, tokens in zip(rows, guesses, chosen.tolist(), strict=True):
        stream, count = row.stream, 0
        for token in tokens:
            if stream.is_over or (count and stream.tokens[-1] != guess[count - 1]):
                break
            stream.tokens.append(token)
            count += 1
        row.lookup.add(stream.tokens[len(stream.tokens) - count :])
        counts.append(count)
    return counts


def _begun(network: Any, rows: list[Stream], before: Before) -> tuple[Any, Any, Any]:
    """What follows each prompt: logits, keys and values padded at the left, and lengths.

    Prompts of one length pass together, so that none needs padding or a mask, which cost more than a pass.
    """
    import torch

    device = next(network.parameters()).device
    wholes = [[*each.prompt, *each.tokens] for each in rows]
    alike: dict[int, list[int]] = {}
    for place, whole in enumerate(wholes):
        alike.setdefault(len(whole), []).append(place)
    width = max(alike)
    logits: dict[int, Any] = {}
    caches: dict[int, Any] = {}
    for length, places in alike.items():
        caches[length] = before.repeated(len(places))
        ids = torch.tensor([wholes[place][len(before.tokens) :] for place in places], device=device)
        found = network(input_ids=ids, past_key_values=caches[length], use_cache=True, logits_to_keep=1).logits
        logits |= dict(zip(places, found[:, -1], strict=True))
    joined = roomy_cache(max(stream.most - len(stream.tokens) for stream in rows))
    for number, layer in enumerate(caches[width].layers):
        shape = (len(rows), layer.keys.shape[1], width, layer.keys.shape[3])
        keys, values = layer.keys.new_zeros(shape), layer.values.new_zeros(shape)
        for length, places in alike.items():
            keys[places, :, width - length :] = caches[length].layers[number].keys
            values[places, :, width - length :] = caches[length].layers[number].values
        joined.update(keys, values, number)
    ordered = torch.stack([logits[place] for place in range(len(rows))])
    return ordered, joined, torch.tensor([len(whole) for whole in wholes], device=device)


def _require_numbers(highest: Any) -> None:
    """NaN is the highest where there is one; it would be answered with some id, and look like a bad model."""
    if bool(highest.isnan().any()):
        raise Refused(
            "The network gives logits that are no numbers: its weights are damaged or training diverged. Look at the "
            "curve, then train again with a lower 'optimizer.learning_rate'."
        )
