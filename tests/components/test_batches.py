"""The batch plan and the stream of batches."""

from typing import Any

import numpy as np
import pytest
import torch

from components.batches import BatchPlan, Feed, Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1000, 65_537])
def test_a_permutation_meets_every_number_once(size: int) -> None:
    assert np.array_equal(np.sort(Permutation(size, "key")(np.arange(size))), np.arange(size))


def test_a_permutation_can_be_asked_at_any_place() -> None:
    permutation = Permutation(1000, "key")
    whole = permutation(np.arange(1000))
    assert np.array_equal(permutation(np.array([999, 3, 500])), whole[[999, 3, 500]])


def test_a_permutation_is_spread_as_a_random_one_would_be() -> None:
    size = 20_000
    order = Permutation(size, "key")(np.arange(size))
    # |place - number| of a random permutation has the mean size / 3; neighbours lie as far apart.
    assert np.abs(order - np.arange(size)).mean() == pytest.approx(size / 3, rel=0.03)
    assert np.abs(np.diff(order)).mean() == pytest.approx(size / 3, rel=0.03)
    # Chi-square over 100 x 100 cells of (place, number): 9,801 degrees of freedom, standard deviation 140.
    cells = np.histogram2d(np.arange(size), order, bins=100)[0]
    assert abs(((cells - 2) ** 2 / 2).sum() - 9801) < 5 * 140
    assert abs(np.corrcoef(order, Permutation(size, "other key")(np.arange(size)))[0, 1]) < 0.03


def test_an_epoch_of_a_small_set_takes_all_orders() -> None:
    orders = {tuple(Permutation(4, f"0/{epoch}")(np.arange(4))) for epoch in range(500)}
    assert len(orders) == 24


def test_every_sample_comes_once_an_epoch_but_for_the_remainder() -> None:
    plan = BatchPlan(num_samples=103, batch_samples=10, seed=7)
    assert plan.epoch_batches == 10
    for epoch in range(3):
        batches = [plan.indices(number) for number in range(10 * epoch, 10 * epoch + 10)]
        assert {found for found, _ in batches} == {epoch}
        numbers = np.concatenate([indices for _, indices in batches])
        assert len(set(numbers.tolist())) == 100
    dropped = [
        set(range(103)) - {int(i) for k in range(10 * e, 10 * e + 10) for i in plan.indices(k)[1]} for e in range(3)
    ]
    assert len({frozenset(each) for each in dropped}) == 3  # another remainder each time


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, number: int) -> list[int]:
        return BatchPlan(100, 100, seed).indices(number)[1].tolist()

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 5) == order(0, 5)


def test_the_plan_of_a_published_seed_never_changes() -> None:
    # A changed order would make every checkpoint in the world resume on other data.
    assert BatchPlan(1000, 8, seed=0).indices(0)[1].tolist() == [768, 76, 613, 70, 98, 289, 253, 628]


def test_a_billion_samples_need_no_table() -> None:
    plan = BatchPlan(num_samples=10**9 + 7, batch_samples=4, seed=0)
    epoch, indices = plan.indices(10**12)
    assert epoch == 10**12 // plan.epoch_batches
    assert ((indices >= 0) & (indices < 10**9 + 7)).all()


def test_a_batch_larger_than_an_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch takes 11 samples of 10"):
        BatchPlan(num_samples=10, batch_samples=11, seed=0)


class Numbers:
    """Samples that are their own numbers, with the epoch beside them."""

    def __len__(self) -> int:
        return 50

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        return {"numbers": torch.from_numpy(indices), "epoch": torch.tensor(epoch)}


def read(start: int, num_workers: int, count: int) -> list[tuple[list[int], int]]:
    feed = Feed(Numbers(), BatchPlan(50, 8, seed=3), num_workers, pin_memory=False)
    feed.go_to(start, ())
    return [(batch["numbers"].tolist(), int(batch["epoch"])) for _, batch in (feed.next() for _ in range(count))]


def test_the_stream_is_the_plan_whatever_the_number_of_workers() -> None:
    plan = BatchPlan(50, 8, seed=3)
    expected = [(plan.indices(number)[1].tolist(), plan.indices(number)[0]) for number in range(20)]
    assert [epoch for _, epoch in expected][-1] == 3  # it crosses epochs
    assert read(0, num_workers=0, count=20) == expected
    assert read(0, num_workers=2, count=20) == expected
    assert read(5, num_workers=3, count=15) == expected[5:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipped_batches_are_left_out_and_the_others_keep_their_numbers(num_workers: int) -> None:
    feed = Feed(Numbers(), BatchPlan(50, 8, seed=3), num_workers, pin_memory=False)
    feed.go_to(3, [4, 6])
    assert [feed.next()[0] for _ in range(4)] == [3, 5, 7, 8]
    feed.go_to(3, [])
    assert [feed.next()[0] for _ in range(2)] == [3, 4]


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_shares_of_the_ranks_are_the_batch(num_ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(num_ranks))
    shares = []
    for rank in range(num_ranks):
        monkeypatch.setenv("RANK", str(rank))
        ((numbers, _),) = read(7, num_workers=0, count=1)
        shares.append(numbers)
    whole = BatchPlan(50, 8, seed=3).indices(7)[1].tolist()
    assert [shares[place % num_ranks][place // num_ranks] for place in range(8)] == whole
