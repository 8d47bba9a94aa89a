"""Which frames and channels a training step hides: spans at random places, drawn for a whole batch at once.

As in fairseq's `compute_mask_indices` (static spans that may overlap): a row of n places gets
floor(share x n / span + u) spans, u uniform in [0, 1) and drawn for each row, whose beginnings are drawn without
replacement among the first n - span places. (Of channels, which nothing pads, fairseq draws one u for all rows.)
Everything is drawn on the CPU, so that each device hides the same.
"""

import torch
from torch import Tensor


def spans(
    lengths: Tensor, num_places: int, share: float, span: int, min_spans: int, generator: torch.Generator | None = None
) -> Tensor:
    """Hide spans of each row.

    Args:
        lengths: int64, shape [rows], on the CPU: places of each row; none beyond is hidden.
        num_places: of the longest row.
        share: of places that would be hidden if no spans overlapped.
        span: places of one.
        min_spans: a row gets at least so many, as far as it has beginnings.
        generator: None takes torch's own.

    Returns:
        Truth values, shape [rows, num_places].
    """
    chance = torch.rand(len(lengths), generator=generator)
    count = (share * lengths.float() / span + chance).long().clamp(min=min_spans)
    begins = (lengths - span).clamp(min=1)  # at the last places that would have room, fairseq begins none
    count = torch.minimum(count, begins) * (lengths > 0)
    most = int(count.max())
    places = torch.arange(num_places)
    if most == 0:
        return torch.zeros(len(lengths), num_places, dtype=torch.bool)
    order = torch.rand(len(lengths), num_places, generator=generator)
    chosen = order.masked_fill(places >= begins[:, None], -1.0).topk(most, dim=1).indices
    starts = torch.zeros(len(lengths), num_places + span, dtype=torch.int32)
    is_wanted = torch.arange(most) < count[:, None]
    starts.scatter_(1, chosen, is_wanted.int())
    begun = starts.cumsum(1)
    ended = torch.nn.functional.pad(begun, (span, 0))[:, :num_places]
    return (begun[:, :num_places] > ended) & (places < lengths[:, None])


def equal_counts(hidden: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The hidden places of each row, as many in each as the row with the fewest has; which is left to chance.

    Args:
        hidden: truth values, shape [rows, places].
        generator: None takes torch's own.

    Returns:
        Numbers of places in rising order, int64, shape [rows, count].
    """
    count = int(hidden.sum(1).min())
    order = torch.rand(hidden.shape, generator=generator).masked_fill(~hidden, -1.0)
    return order.topk(count, dim=1).indices.sort(1).values
