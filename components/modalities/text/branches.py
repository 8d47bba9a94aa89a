"""Log-likelihoods of continuations, what they share computed once.

The continuations of one question become one row: their common beginning, the trunk, and after it the branches side by
side, which see the trunk and themselves only (a mask) and count their positions from its end. What all rows begin with,
such as the description of a task and examples that never change, is computed once and stands before them as keys and
values. Rows of about the same length pass together. Each number is the one that a pass of its own would give, but for
the order of additions. Networks that go by what stands before in a row, whatever a mask says, pass by `plain_passes`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.modalities.text.plain_passes import Ids, Target, limit_on, of_targets, plain_likelihoods, sees_all
from components.outcomes import Refused

MAX_LOGITS = 2**26
"""Of one pass, in float32: 256 MB; a pass has at least one row."""
MAX_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Of one pass; more of them gain nothing on a CPU, and leave more padding."""
MAX_SEEN = 2**15
"""Tokens of one pass whose keys and values are held, the beginning's in each row; one row alone may have more."""
MIN_SHARED = 8
MIN_SHARING = 4
"""A beginning of fewer tokens, or of fewer rows, is not worth keys and values of its own."""


@dataclass(frozen=True)
class Continuation:
    """What is asked: how likely some tokens are after others."""

    question: int
    """Continuations with the same number and context share a row."""
    context: Ids
    """At least one token; with the continuation it has at most one token more than the network's context."""
    tokens: Ids
    """At least one."""


@dataclass(frozen=True)
class Likelihood:
    """What is answered."""

    nats: float
    """The sum of log-probabilities, at most 0."""
    is_greedy: bool
    """Whether every token is the most likely one."""


@dataclass(frozen=True)
class Row:
    """Continuations of one context."""

    trunk: Ids
    num_scored: int
    """So many last tokens of the trunk are the beginning of every continuation."""
    branches: tuple[Ids, ...]
    """What follows it in each; at least one token."""
    places: tuple[int, ...]
    """Of the continuations."""

    @property
    def branch_tokens(self) -> int:
        """Inputs after the trunk: the last token of a branch is only predicted."""
        return sum(len(branch) - 1 for branch in self.branches)

    @property
    def width(self) -> int:
        """Inputs."""
        return len(self.trunk) + self.branch_tokens

    @property
    def num_unasked(self) -> int:
        """So many first inputs predict nothing that is asked."""
        return len(self.trunk) - self.num_scored - 1


def likelihoods(network: Any, asked: Sequence[Continuation], done: Callable[[dict[int, Likelihood]], None]) -> None:
    """Compute how likely continuations are.

    Args:
        network: a causal language model of transformers, on its device, in evaluation mode.
        asked: the continuations.
        done: receives, after each pass, the place of each answered one and its likelihood.

    Raises:
        Refused: a likelihood is no number.
    """
    if not sees_all(network):
        pairs = [(each.context, each.tokens) for each in asked]
        for passed in plain_likelihoods(network, pairs, _max_tokens(network), MAX_LOGITS):
            done(_finite(passed))
        return
    for group, prefix in _groups(rows_of(asked)):
        before = Before(network, prefix)
        for batch in _batches(network, group, len(prefix)):
            done(_finite(_pass(network, batch, before)))


def _groups(rows: list[Row]) -> Iterator[tuple[list[Row], Ids]]:
    """Rows with what they begin with; what few share is not worth it."""
    starts = shared_starts([row.trunk[: row.num_unasked] for row in rows])
    for start, places in starts.items():
        yield [rows[place] for place in places], start


def shared_starts(sequences: Sequence[Ids]) -> dict[Ids, list[int]]:
    """What many sequences begin with -> their places; the others have begun with nothing."""
    alike: dict[Ids, list[int]] = {}
    for place, each in enumerate(sequences):
        alike.setdefault(each[:MIN_SHARED], []).append(place)
    found: dict[Ids, list[int]] = {}
    for places in alike.values():
        start = common_start([sequences[place] for place in places])
        is_worth_it = len(places) >= MIN_SHARING and len(start) >= MIN_SHARED
        found.setdefault(start if is_worth_it else (), []).extend(places)
    return found


def rows_of(asked: Sequence[Continuation]) -> list[Row]:
    """One row for all continuations of a question that have the same context."""
    groups: dict[tuple[int, Ids], list[int]] = {}
    for place, each in enumerate(asked):
        groups.setdefault((each.question, each.context), []).append(place)
    rows = []
    for (_, context), places in groups.items():
        tokens = [asked[place].tokens for place in places]
        # Every branch keeps a token of its own.
        cut = min(len(common_start(tokens)), min(map(len, tokens)) - 1)
        rows.append(Row(context + tokens[0][:cut], cut, tuple(each[cut:] for each in tokens), tuple(places)))
    return rows


def common_start(sequences: Sequence[Ids]) -> Ids:
    """What all begin with."""
    if not sequences:
        return ()
    least, most = min(sequences), max(sequences)
    length = next((place for place, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[:length]


class Before:
    """Keys and values of tokens that stand before every row.

    Args:
        network: see `likelihoods`.
        tokens: may be none.
    """

    def __init__(self, network: Any, tokens: Ids) -> None:
        import torch

        self.tokens = tokens
        self.cache: Any = None
        if tokens:
            from transformers import DynamicCache

            device = next(network.parameters()).device
            with torch.inference_mode():
                self.cache = DynamicCache()
                network(
                    input_ids=torch.tensor([tokens], device=device),
                    past_key_values=self.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )

    def repeated(self, num_rows: int) -> Any:
        """A cache of its own for so many rows, which a pass may append to."""
        from transformers import DynamicCache

        copy = DynamicCache()
        for number, layer in enumerate(self.cache.layers if self.cache else ()):
            shape = (num_rows, -1, -1, -1)
            copy.update(layer.keys.expand(shape), layer.values.expand(shape), number)
        return copy


def _max_tokens(network: Any) -> int:
    return limit_on(next(network.parameters()).device, MAX_TOKENS)


def _batches(network: Any, rows: list[Row], num_before: int) -> Iterator[list[Row]]:
    """Rows of about the same length, longest first."""
    vocabulary, most = int(network.config.vocab_size), _max_tokens(network)
    batch: list[Row] = []
    width = kept = 0
    for row in sorted(rows, key=lambda each: (-each.width, each.trunk)):
        own_width, own_kept = row.width - num_before, row.width - row.num_unasked
        width, kept = max(width, own_width), max(kept, own_kept)
        size = len(batch) + 1
        is_wide = size * width > most or size * (num_before + width) > MAX_SEEN
        if batch and (is_wide or size * kept * vocabulary > MAX_LOGITS):
            yield batch
            batch = []
            width, kept = own_width, own_kept
        batch.append(row)
    if batch:
        yield batch


@dataclass
class _Layout:
    """Where the tokens of a batch stand: in each row the trunk, then its branches; all rows end at the last column."""

    ids: np.ndarray
    """[rows, columns]."""
    positions: np.ndarray
    """[rows, columns], counted from the beginning of the row."""
    parts: np.ndarray
    """[rows, columns]: -1 padding, 0 the trunk, then the branches."""
    targets: list[Target]
    num_kept: int
    """So many last columns predict a token that counts."""


def _laid_out(batch: list[Row], num_before: int) -> _Layout:
    columns = max(row.width for row in batch) - num_before
    ids = np.zeros((len(batch), columns), np.int64)
    positions, parts = np.zeros_like(ids), np.full_like(ids, -1)
    targets: list[Target] = []
    for number, row in enumerate(batch):
        length, end = len(row.trunk), columns - row.branch_tokens
        begin = end - length + num_before
        ids[number, begin:end] = row.trunk[num_before:]
        positions[number, begin:end] = np.arange(num_before, length)
        parts[number, begin:end] = 0
        scored, asked_of_trunk = row.trunk[length - row.num_scored :], range(end - row.num_scored - 1, end)
        for part, (place, branch) in enumerate(zip(row.places, row.branches, strict=True), start=1):
            own = range(end, end + len(branch) - 1)
            ids[number, own.start : own.stop] = branch[:-1]
            positions[number, own.start : own.stop] = np.arange(length, length + len(own))
            parts[number, own.start : own.stop] = part
            asked = zip([*asked_of_trunk, *own], (*scored, *branch), strict=True)
            targets += [(place, number, column, token) for column, token in asked]
            end = own.stop
    first = min(column for _, _, column, _ in targets)
    return _Layout(ids, positions, parts, targets, columns - first)


def _pass(network: Any, batch: list[Row], before: Before) -> dict[int, tuple[float, bool]]:
    """One forward pass: place -> likelihood."""
    import torch

    parameter = next(network.parameters())
    layout = _laid_out(batch, len(before.tokens))
    ids, positions, parts = (
        torch.from_numpy(each).to(parameter.device) for each in (layout.ids, layout.positions, layout.parts)
    )
    with torch.inference_mode():
        logits = network(
            input_ids=ids,
            position_ids=positions,
            attention_mask=_mask(parts, len(before.tokens), parameter.dtype),
            past_key_values=before.repeated(len(batch)) if before.tokens else None,
            use_cache=bool(before.tokens),
            logits_to_keep=layout.num_kept,
        ).logits  # [rows, num_kept, vocabulary]
        first = ids.shape[1] - layout.num_kept
        return of_targets(logits, [(place, row, column - first, token) for place, row, column, token in layout.targets])


def _mask(parts: Any, num_before: int, dtype: Any) -> Any:
    """What each token sees, as numbers to add to the scores of attention: [rows, 1, columns, num_before + columns]."""
    import torch

    rows, columns = parts.shape
    own = torch.tril(torch.ones(columns, columns, dtype=torch.bool, device=parts.device))
    same = (parts[:, None, :] == parts[:, :, None]) | (parts[:, None, :] == 0)
    sees = own & same
    sees = torch.cat([torch.ones(rows, columns, num_before, dtype=torch.bool, device=parts.device), sees], dim=-1)
    mask = torch.zeros(sees.shape, dtype=dtype, device=parts.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def _finite(found: dict[int, tuple[float, bool]]) -> dict[int, Likelihood]:
    if not all(np.isfinite(nats) for nats, _ in found.values()):
        raise Refused(
            "The network gives a likelihood that is no finite number: its weights are damaged or training diverged. "
            "Look at the curve, then train again with a lower 'optimizer.learning_rate'."
        )
    return {place: Likelihood(*each) for place, each in found.items()}
