"""Greedy continuations of many prompts, each until it is done by a rule of its own.

Unlike `generating`, which has transformers answer whole batches, rows that are done leave their batch, what many
prompts begin with is computed once, and a continuation that was begun before goes on where it was. Networks that go by
what stands before in a row, padding too, continue one prompt at a time (`plain_passes`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.modalities.text.branches import MAX_LOGITS, Before, shared_starts
from components.modalities.text.plain_passes import Ids, plain_continuation, require_numbers, sees_all
from components.modalities.text.roomy_cache import roomy_cache

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
    if not sees_all(network):
        _go_on_alone(network, waiting, vocab_size, done)
        return
    wholes = [(*each.prompt, *each.tokens)[:-1] for each in waiting]
    starts = {id(waiting[place]): start for start, places in shared_starts(wholes).items() for place in places}
    befores: dict[Ids, Before] = {}
    for batch in _batches(waiting, int(network.config.vocab_size)):
        # Of long beginnings only those of this batch are held; rows of many beginnings go on together.
        befores = {start: befores.get(start) or Before(network, start) for start in {starts[id(row)] for row in batch}}
        _run(network, batch, [befores[starts[id(row)]] for row in batch], vocab_size)
        done(batch)


def _go_on_alone(network: Any, streams: list[Stream], vocab_size: int, done: Callable[[list[Stream]], None]) -> None:
    for each in streams:
        known = each.tokens

        def is_done(more: list[int], each: Stream = each, known: list[int] = known) -> bool:
            return each.is_done([*known, *more])

        whole = (*each.prompt, *known)
        each.tokens = known + plain_continuation(network, whole, each.most - len(known), vocab_size, is_done)
        done([each])


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


def _run(network: Any, batch: list[Stream], befores: list[Before], vocab_size: int) -> None:
    """Continue a batch until every stream is over; `befores` has what each begins with."""
    import torch

    rows, last = list(batch), int(network.config.max_position_embeddings) - 1
    with torch.inference_mode():
        logits, cache, lengths = _begun(network, rows, befores)
        device = logits.device
        width = int(lengths.max())
        mask = (torch.arange(width, device=device)[None] >= width - lengths[:, None]).long()
        positions = lengths[:, None]
        while True:
            logits = logits[:, :vocab_size]
            require_numbers(logits)
            chosen = logits.argmax(dim=-1)
            for stream, token in zip(rows, chosen.tolist(), strict=True):
                if not stream.is_over:
                    stream.tokens.append(token)
            left = [place for place, stream in enumerate(rows) if not stream.is_over]
            if not left:
                return
            if len(left) < KEPT_SHARE * len(rows):
                kept = torch.tensor(left, device=device)
                cache.batch_select_indices(kept)
                rows = [rows[place] for place in left]
                chosen, positions, mask = chosen[kept], positions[kept], mask[kept]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = network(
                input_ids=chosen[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            # Rows that are over go on with the others, maybe beyond the network's context; nobody reads what they say.
            positions = (positions + 1).clamp(max=last)


def _begun(network: Any, rows: list[Stream], befores: list[Before]) -> tuple[Any, Any, Any]:
    """What follows each prompt: logits, keys and values padded at the left, and lengths.

    Prompts of one length and beginning pass together: padding and a mask would cost more than a pass.
    """
    import torch

    device = next(network.parameters()).device
    wholes = [[*each.prompt, *each.tokens] for each in rows]
    alike: dict[tuple[int, Ids], list[int]] = {}
    for place, (whole, before) in enumerate(zip(wholes, befores, strict=True)):
        alike.setdefault((len(whole), before.tokens), []).append(place)
    width = max(map(len, wholes))
    logits: dict[int, Any] = {}
    caches: dict[tuple[int, Ids], Any] = {}
    for key, places in alike.items():
        before = befores[places[0]]
        caches[key] = before.repeated(len(places))
        ids = torch.tensor([wholes[place][len(before.tokens) :] for place in places], device=device)
        found = network(input_ids=ids, past_key_values=caches[key], use_cache=True, logits_to_keep=1).logits
        logits |= dict(zip(places, found[:, -1], strict=True))
    joined = roomy_cache(max(stream.most - len(stream.tokens) for stream in rows))
    for number, layer in enumerate(next(iter(caches.values())).layers):
        shape = (len(rows), layer.keys.shape[1], width, layer.keys.shape[3])
        keys, values = layer.keys.new_zeros(shape), layer.values.new_zeros(shape)
        for (length, start), places in alike.items():
            own = caches[length, start].layers[number]
            keys[places, :, width - length :], values[places, :, width - length :] = own.keys, own.values
        joined.update(keys, values, number)
    ordered = torch.stack([logits[place] for place in range(len(rows))])
    return ordered, joined, torch.tensor([len(whole) for whole in wholes], device=device)
