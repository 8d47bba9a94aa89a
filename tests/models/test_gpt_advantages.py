"""The arithmetic of PPO, by hand."""

import math

import pytest
import torch

from models.gpt import advantages as subject

MASK = torch.tensor([[False, True, True, True, False], [True, True, False, False, False]])


def test_the_score_is_earned_at_the_last_token_and_the_penalty_at_each() -> None:
    log_ratio = torch.tensor([[9.0, 0.1, -0.2, 0.3, 9.0], [0.5, 0.5, 9.0, 9.0, 9.0]])
    earned = subject.token_rewards(torch.tensor([2.0, -1.0]), log_ratio, MASK, kl_coefficient=0.1)
    expected = torch.tensor([[0.0, -0.01, 0.02, 1.97, 0.0], [-0.05, -1.05, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(earned, expected)


def test_advantages_are_discounted_sums_of_surprises_worked_out_by_hand() -> None:
    earned = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0]])
    values = torch.tensor([[7.0, 0.5, 1.0, 1.5, 7.0], [1.0, 2.0, 7.0, 7.0, 7.0]])
    gains, returns = subject.advantages_and_returns(earned, values, MASK, discount=0.9, trace=0.5)
    # First answer, from its end: 2 - 1.5; 0 + 0.9 * 1.5 - 1 + 0.45 * 0.5; 1 + 0.9 * 1 - 0.5 + 0.45 * 0.575.
    expected = torch.tensor([[0.0, 1.65875, 0.575, 0.5, 0.0], [0.8 + 0.45, 1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(gains, expected)
    torch.testing.assert_close(returns, (expected + values) * MASK)


def test_with_discount_and_trace_of_one_the_return_is_the_sum_of_what_is_still_earned() -> None:
    earned = torch.tensor([[0.0, 1.0, -2.0, 4.0, 0.0], [1.0, 3.0, 0.0, 0.0, 0.0]])
    values = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    _, returns = subject.advantages_and_returns(earned, values, MASK, discount=1.0, trace=1.0)
    torch.testing.assert_close(returns, torch.tensor([[0.0, 3.0, 2.0, 4.0, 0.0], [4.0, 3.0, 0.0, 0.0, 0.0]]))


def test_whitening_looks_at_answers_only() -> None:
    values = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    found = subject.whitened(values, MASK)
    assert found[~MASK].eq(0).all()
    torch.testing.assert_close(found[MASK].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[MASK].std(), torch.tensor(1.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [(1.0, 2.0, -2.0, 0), (1.5, 2.0, -2.4, 1), (1.5, -2.0, 3.0, 0), (0.5, 2.0, -1.0, 0), (0.5, -2.0, 1.6, 1)],
)
def test_the_surrogate_is_held_only_where_it_would_gain(
    ratio: float, advantage: float, loss: float, is_clipped: float
) -> None:
    mask = torch.tensor([[True]])
    log_ratio, gains = torch.tensor([[math.log(ratio)]]), torch.tensor([[advantage]])
    found, clipped = subject.policy_loss(log_ratio, gains, mask, clip=0.2)
    assert found.item() == pytest.approx(loss, rel=1e-5)
    assert clipped.item() == is_clipped


def test_the_critic_pays_for_the_larger_error_of_free_and_held() -> None:
    mask = torch.tensor([[True, True]])
    # Moved by 1 from 0, held at 0.2: errors 0 and 0.8 for a return of 1; 2 and 1.2 for a return of -1.
    found = subject.value_loss(
        torch.tensor([[1.0, 1.0]]), torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), mask, clip=0.2
    )
    assert found.item() == pytest.approx(0.5 * (0.8**2 + 2.0**2) / 2)


def test_the_coefficient_follows_its_target_within_bounds() -> None:
    assert subject.adapted(0.1, kl=6.0, target=6.0, num_samples=100, horizon=1000) == pytest.approx(0.1)
    assert subject.adapted(0.1, kl=60.0, target=6.0, num_samples=100, horizon=1000) == pytest.approx(0.1 * 1.02)
    assert subject.adapted(0.1, kl=0.0, target=6.0, num_samples=100, horizon=1000) == pytest.approx(0.1 * 0.98)
