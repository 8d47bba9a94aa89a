"""Log-likelihoods and greedy continuations of any causal network, nothing shared and nothing masked.

`branches` and `continuing` put several texts into one row, or padding before a text, and say by a mask who sees whom.
A layer with a sliding window, chunks, a convolution or a state goes by what stands before in the row, whatever a mask
says; so do positions that a network counts itself. `sees_all` tells such networks. For them each text is a row of its
own with padding after it, which no causal layer looks at, and each continuation is transformers' own `generate`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from components.outcomes import Refused

Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]
"""A context of at least one token, and what follows it."""
Target = tuple[int, int, int, int]
"""(place, row, column that predicts, token)."""

LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**24}
"""Summed up together: of a processor they stay in its cache (2 MB in float32)."""
ROPES_BY_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations of transformers that depend on the longest text of a pass."""


def sees_all(network: Any) -> bool:
    """Whether every layer attends to all tokens that a mask lets it see, at the positions that it is given.

    Args:
        network: a causal language model of transformers.
    """
    config = network.config.get_text_config(decoder=True)
    if getattr(network, "_is_stateful", False) or "position_ids" not in signature(network.forward).parameters:
        return False
    if getattr(config, "alibi", False) or set(getattr(config, "attention_layers", None) or ()) - {"global"}:
        return False  # Falcon's distances are of a two-dimensional mask, GPT-Neo's windows stand in no `layer_types`
    longest = int(config.max_position_embeddings)
    return not _is_by_length(config) and all(_is_whole(each, longest) for each in DynamicCache(config=config).layers)


def _is_whole(layer: Any, longest: int) -> bool:
    """Whether a layer keeps every token of the context, and keeps nothing else."""
    if type(layer) is DynamicSlidingWindowLayer:
        return int(layer.sliding_window) >= longest
    return type(layer) is DynamicLayer


def _is_by_length(config: Any) -> bool:
    given = getattr(config, "rope_parameters", None) or {}
    parts = [given, *(each for each in given.values() if isinstance(each, dict))]
    return not ROPES_BY_LENGTH.isdisjoint(part.get("rope_type") for part in parts)


# ---- log-likelihoods -------------------------------------------------------------------------------------------------


def plain_likelihoods(
    network: Any, pairs: Sequence[Pair], max_tokens: int, max_logits: int
) -> Iterator[dict[int, tuple[float, bool]]]:
    """Compute how likely continuations are.

    Args:
        network: a causal language model of transformers, on its device, in evaluation mode.
        pairs: what is asked; both together have at most one token more than the network's context.
        max_tokens: of one pass, unless it has one row.
        max_logits: the same, in numbers.

    Yields:
        After each pass: place of a pair -> nats of its continuation, and whether it is the most likely one.
    """
    for places in _batches(network, pairs, max_tokens, max_logits):
        yield _pass(network, {place: pairs[place] for place in places})


def _batches(network: Any, pairs: Sequence[Pair], max_tokens: int, max_logits: int) -> Iterator[list[int]]:
    """Places of pairs of about the same length, longest first."""
    config = network.config.get_text_config(decoder=True)
    vocabulary, is_exact = int(config.vocab_size), _is_by_length(config)
    batch: list[int] = []
    width = first = 0
    for place in sorted(range(len(pairs)), key=lambda place: -len(pairs[place][0]) - len(pairs[place][1])):
        context, tokens = pairs[place]
        length, begins = len(context) + len(tokens) - 1, len(context) - 1
        size = len(batch) + 1
        is_full = size * width > max_tokens or size * (width - min(first, begins)) * vocabulary > max_logits
        if batch and (is_full or (is_exact and length != width)):
            yield batch
            batch = []
        if not batch:
            width, first = length, begins
        first = min(first, begins)
        batch.append(place)
    if batch:
        yield batch


def _pass(network: Any, pairs: dict[int, Pair]) -> dict[int, tuple[float, bool]]:
    import torch

    width = max(len(context) + len(tokens) - 1 for context, tokens in pairs.values())
    first = min(len(context) for context, _ in pairs.values()) - 1
    rows = [(context + tokens)[:-1] for context, tokens in pairs.values()]
    ids = [row + (0,) * (width - len(row)) for row in rows]
    targets: list[Target] = []
    for number, (place, (context, tokens)) in enumerate(pairs.items()):
        start = len(context) - 1 - first
        targets += [(place, number, start + step, token) for step, token in enumerate(tokens)]
    keeps = "logits_to_keep" in signature(network.forward).parameters
    with torch.inference_mode():
        logits = network(
            input_ids=torch.tensor(ids, device=next(network.parameters()).device),
            use_cache=False,
            **({"logits_to_keep": width - first} if keeps else {}),
        ).logits[:, first - width :]
        return of_targets(logits, targets)


def limit_on(device: Any, limits: Mapping[str, int]) -> int:
    """What one pass may have on a device of torch; other accelerators are taken for a GPU."""
    return limits.get(device.type, limits["cuda"])


def of_targets(logits: Any, targets: Iterable[Target]) -> dict[int, tuple[float, bool]]:
    """Sum up what a pass says of its targets.

    Args:
        logits: [rows, columns, vocabulary].
        targets: each with a column of these.

    Returns:
        Place -> nats of all its tokens, and whether every one is the most likely.
    """
    import torch

    listed = list(targets)
    at_once = max(1, limit_on(logits.device, LOGITS_AT_ONCE) // logits.shape[-1])
    nats, hits = [], []
    for part in range(0, len(listed), at_once):
        _, rows, columns, tokens = torch.tensor(listed[part : part + at_once], device=logits.device).unbind(1)
        asked = logits[rows, columns].float()  # [targets, vocabulary]
        of_tokens = asked.gather(1, tokens[:, None])[:, 0]
        nats += (of_tokens - asked.logsumexp(dim=-1)).double().tolist()
        # The first of several that are most likely is the greedy one; only there argmax is called, slow on a CPU.
        is_greedy = of_tokens == asked.amax(dim=-1)
        best = is_greedy.nonzero()[:, 0]
        is_greedy[best] = asked[best].argmax(dim=-1) == tokens[best]
        hits += is_greedy.tolist()
    found: dict[int, tuple[float, bool]] = {}
    for (place, *_), value, hit in zip(listed, nats, hits, strict=True):
        before, are_hits = found.get(place, (0.0, True))
        found[place] = (before + value, are_hits and hit)
    return found


# ---- continuations ---------------------------------------------------------------------------------------------------


def plain_continuation(
    network: Any, tokens: Sequence[int], most: int, vocab_size: int, is_done: Callable[[list[int]], bool]
) -> list[int]:
    """Continue one text with the most likely token each.

    Args:
        network: a causal language model of transformers, on its device, in evaluation mode.
        tokens: at least one.
        most: so many follow at most; with the others they fit into the network's context.
        vocab_size: of the tokenizer; a network may have more rows, which stand for nothing.
        is_done: whether what follows is enough; asked after each token.

    Raises:
        Refused: logits are no numbers.
    """
    import torch

    ids = torch.tensor([list(tokens)], device=next(network.parameters()).device)
    with torch.inference_mode(), _without_habits(network):
        found = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            logits_processor=LogitsProcessorList([_Known(vocab_size)]),
            stopping_criteria=StoppingCriteriaList([_Done(len(tokens), is_done)]),
        )
    return [int(each) for each in found[0, len(tokens) :].tolist()]


@contextmanager
def _without_habits(network: Any) -> Iterator[None]:
    """The most likely token is asked for, and a folder may bring a penalty on repetition, or ends of its own."""
    own = network.generation_config
    network.generation_config = GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


class _Known(LogitsProcessor):
    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def __call__(self, _input_ids: Any, scores: Any) -> Any:
        require_numbers(scores[:, : self.vocab_size])
        return scores.index_fill(1, scores.new_tensor(range(self.vocab_size, scores.shape[1])).long(), float("-inf"))


class _Done(StoppingCriteria):
    def __init__(self, num_before: int, is_done: Callable[[list[int]], bool]) -> None:
        self.num_before, self.is_done = num_before, is_done

    def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
        import torch

        return torch.tensor([self.is_done(input_ids[0, self.num_before :].tolist())], device=input_ids.device)


def require_numbers(logits: Any) -> None:
    """Stop at NaN: it would be answered with the first id of the vocabulary, and look like a bad model.

    Raises:
        Refused: logits are no numbers.
    """
    if bool(logits.isnan().any()):
        raise Refused(
            "The network gives logits that are no numbers: its weights are damaged or training diverged. Look at the "
            "curve, then train again with a lower 'optimizer.learning_rate'."
        )
