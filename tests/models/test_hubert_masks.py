"""Spans that hide frames, against counts by hand and fairseq's way as torchaudio has it."""

import torch
from torchaudio.models.wav2vec2.components import _compute_mask_indices

from models.hubert.masks import equal_counts, spans


def runs(row: torch.Tensor) -> list[int]:
    """Lengths of the stretches of hidden places."""
    found, length = [], 0
    for hidden in [*row.tolist(), False]:
        if not hidden and length:
            found.append(length)
        length = length + 1 if hidden else 0
    return found


def test_spans_are_as_long_as_asked_or_longer_where_they_overlap() -> None:
    torch.manual_seed(0)
    hidden = spans(torch.full((6,), 300), 300, 0.3, 10, 2)
    assert hidden.shape == (6, 300)
    assert all(length >= 10 for row in hidden for length in runs(row))
    # 0.3 x 300 / 10 = 9 spans, or 10 by chance, of 10 places each.
    assert all(10 <= int(row.sum()) <= 100 for row in hidden)


def test_one_span_hides_exactly_its_places_and_never_begins_where_it_would_not_fit() -> None:
    torch.manual_seed(1)
    for _ in range(50):
        hidden = spans(torch.tensor([40, 25]), 40, 0.0, 10, 1)
        assert [runs(row) for row in hidden] == [[10], [10]]
        assert not hidden[1, 25:].any()


def test_no_place_beyond_a_row_is_hidden_and_short_rows_get_what_they_have_room_for() -> None:
    torch.manual_seed(2)
    lengths = torch.tensor([100, 60, 12, 7, 0])
    for _ in range(20):
        hidden = spans(lengths, 100, 0.8, 10, 2)
        assert not hidden[torch.arange(100) >= lengths[:, None]].any()
        assert int(hidden[2].sum()) in (11, 12)
        assert int(hidden[3].sum()) == 7


def test_every_row_has_as_many_hidden_frames_as_the_others_and_all_of_them_were_hidden() -> None:
    torch.manual_seed(3)
    hidden = spans(torch.full((8,), 200), 200, 0.8, 10, 2)
    places = equal_counts(hidden)
    assert places.shape == (8, int(hidden.sum(1).min()))
    assert hidden.gather(1, places).all()
    assert (places.diff(dim=1) > 0).all()


def test_the_share_of_hidden_frames_is_that_of_torchaudio() -> None:
    torch.manual_seed(4)
    ours = [equal_counts(spans(torch.full((8,), 500), 500, 0.8, 10, 2)).shape[1] / 500 for _ in range(100)]
    theirs = [float(_compute_mask_indices((8, 500), None, 0.8, 10, min_masks=2).float().mean()) for _ in range(100)]
    assert abs(sum(ours) / 100 - sum(theirs) / 100) < 0.01


def test_the_same_generator_hides_the_same() -> None:
    drawn = [spans(torch.full((3,), 80), 80, 0.6, 5, 1, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*drawn)
