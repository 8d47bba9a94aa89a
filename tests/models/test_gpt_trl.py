"""Our PPO and DPO beside TRL's, on the logits, rewards and values that TRL's own trainers had.

`truths/trl.json` was written by `benchmarks/peers/trl_truths.py`. Where an answer ends before the limit, TRL counts one
state more, in which the score is paid and the critic still expects something; ours pays it with the last token. So what
TRL makes of such answers is compared with ours on answers of one token more.
"""

import json
from typing import Any

import pytest
import torch

from models.gpt import advantages as arithmetic
from models.gpt.likelihoods import token_log_likelihoods
from models.gpt.preferences import DpoLoss
from tests.conftest import ROOT
from tests.models.test_gpt_objectives import network_of

TRUTHS = json.loads((ROOT / "tests" / "models" / "truths" / "trl.json").read_text(encoding="utf-8"))
PPO, DPO = TRUTHS["ppo"], TRUTHS["dpo"]
WITHIN = {"atol": 1e-5, "rtol": 0.0}


def tensors(found: dict[str, Any]) -> dict[str, Any]:
    """Lists of numbers as tensors, in double precision."""
    made = {key: torch.tensor(value) for key, value in found.items() if key != "updates" and isinstance(value, list)}
    return {key: value.double() if value.is_floating_point() else value for key, value in made.items()}


def log_likelihoods(logits: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Those of our objectives, [samples, tokens]: the logits are the hidden states of an identity head."""
    width = logits.shape[-1]
    found = token_log_likelihoods(
        logits.flatten(0, 1), torch.eye(width, dtype=logits.dtype), targets.flatten(), temperature
    )
    return found.view(targets.shape)


def test_the_values_are_those_of_the_last_release_that_has_ppo() -> None:
    assert TRUTHS["trl"] == "1.12.0"
    assert "trl==1.12.0" in (ROOT / "benchmarks/peers/trl.lock").read_text(encoding="utf-8")
    assert tensors(PPO["full"])["after_state"].sum() == 0
    assert (~tensors(PPO["ended"])["after_answer"]).sum(dim=1).tolist() == [1, 5, 3, 6]


@pytest.mark.parametrize("answers", ["full", "ended"])
def test_penalty_rewards_advantages_and_whitening_are_those_of_trl(answers: str) -> None:
    theirs = tensors(PPO[answers])
    is_answer, is_state = ~theirs["after_answer"], ~theirs["after_state"]
    log_ratio = (theirs["old"] - theirs["reference"]) * is_answer
    torch.testing.assert_close(log_ratio, theirs["kl"], **WITHIN)
    assert log_ratio.abs().max() > 0.5
    earned = arithmetic.token_rewards(theirs["scores"], log_ratio, is_state, PPO["kl_coef"])
    torch.testing.assert_close(earned, theirs["earned"], **WITHIN)
    gains, returns = arithmetic.advantages_and_returns(earned, theirs["values"], is_state, PPO["gamma"], PPO["lam"])
    torch.testing.assert_close(returns, theirs["returns"], **WITHIN)
    whitened = arithmetic.whitened(gains, is_answer)
    torch.testing.assert_close(whitened, theirs["whitened"], **WITHIN)


@pytest.mark.parametrize("answers", ["full", "ended"])
@pytest.mark.parametrize("number", [0, 3])
def test_losses_of_an_update_and_their_gradients_are_those_of_trl(answers: str, number: int) -> None:
    found, theirs = tensors(PPO[answers]), PPO[answers]["updates"][number]
    rows, update = theirs["rows"], tensors(theirs)
    is_answer, is_state = ~found["after_answer"][rows], ~found["after_state"][rows]
    logits, values = update["logits"].requires_grad_(), update["values"].requires_grad_()
    log_ratio = (log_likelihoods(logits, update["targets"]) - update["old"]) * is_answer
    policy, clipped = arithmetic.policy_loss(log_ratio, update["advantages"], is_answer, PPO["cliprange"])
    value = arithmetic.value_loss(values, update["old_values"], update["returns"], is_state, PPO["cliprange_value"])
    total = policy + PPO["vf_coef"] * value
    for ours, key in ((policy, "policy_loss"), (value, "value_loss"), (total, "loss")):
        assert ours.item() == pytest.approx(theirs[key], abs=1e-5)
    assert (clipped.item() > 0) == (number > 0)
    gradients = torch.autograd.grad(total, (logits, values))
    torch.testing.assert_close(gradients[0], update["logits_gradient"], **WITHIN)
    torch.testing.assert_close(gradients[1], update["values_gradient"], **WITHIN)


def test_a_temperature_divides_logits_as_it_does_for_trl() -> None:
    """The first update's likelihoods are those that TRL had from sampling, which divides logits by the temperature."""
    update = tensors(PPO["full"]["updates"][0])
    found = log_likelihoods(update["logits"] * PPO["temperature"], update["targets"], PPO["temperature"])
    torch.testing.assert_close(found.double(), update["old"], **WITHIN)


def test_the_loss_of_dpo_and_its_gradient_are_those_of_trl() -> None:
    theirs = tensors(DPO)
    logits = theirs["logits"].requires_grad_()
    sums = [
        (log_likelihoods(each, theirs["targets"]) * theirs["is_answer"]).sum(dim=1)
        for each in (logits, theirs["reference_logits"])
    ]
    network = network_of("gpt2")
    subject = DpoLoss(network, network, beta=DPO["beta"], smoothing=0.0)
    loss = subject.of_log_likelihoods(*sums[0].chunk(2), *sums[1].chunk(2)).total
    assert loss.item() == pytest.approx(DPO["loss"], abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, theirs["logits_gradient"], atol=1e-6, rtol=0.0)
