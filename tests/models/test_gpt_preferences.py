"""Reward models, DPO and sampling, against transformers on the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from models.conversation import CHOSEN, PADDING, PROMPT
from models.gpt import convert, likelihoods, network, preferences
from models.gpt.generation import sample
from models.gpt.schema import Dpo, Reward
from models.objective import Mismatch, Setting
from tests.models.test_gpt_objectives import FACTS, SECTIONS, network_of

LENGTHS = {"chosen": [7, 9, 5], "rejected": [8, 6, 5]}


def pairs(seed: int = 0) -> dict[str, torch.Tensor]:
    """Three prompts of four tokens, each with two answers, padded at the right by other ids than real ones."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(4, 500, (3, 4), generator=generator)
    batch = {}
    for name, lengths in LENGTHS.items():
        ids, parts = torch.full((3, max(lengths)), 3), torch.full((3, max(lengths)), PADDING)
        for row, length in enumerate(lengths):
            ids[row, :4], parts[row, :4] = prompts[row], PROMPT
            ids[row, 4:length] = torch.randint(4, 500, (length - 4,), generator=generator)
            parts[row, 4:length] = CHOSEN
        batch |= {f"{name}_ids": ids, f"{name}_parts": parts}
    return batch


def reward_network(architecture: str) -> Any:
    made: Any = network.with_scalar_head(network_of(architecture))
    torch.nn.init.normal_(made.score.weight)
    return made.eval()


@pytest.mark.parametrize("architecture", SECTIONS)
def test_a_reward_is_what_the_released_classifier_gives(architecture: str, tmp_path: Path) -> None:
    made, batch = reward_network(architecture), pairs()
    convert.save(made, tmp_path)
    released = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    found = preferences.rewards(made, *preferences.both(batch))
    expected = []
    for name, lengths in LENGTHS.items():
        for row, length in enumerate(lengths):
            expected.append(released(input_ids=batch[f"{name}_ids"][row : row + 1, :length]).logits[0, 0])
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_pairwise_loss_is_the_logistic_loss_of_the_margin() -> None:
    made, batch = reward_network("gpt2"), pairs()
    better, worse = preferences.rewards(made, *preferences.both(batch)).chunk(2)
    loss = preferences.reward_objective(Reward(kind="reward"), made)(batch)
    expected = torch.log1p(torch.exp(worse - better)).mean()
    torch.testing.assert_close(loss.total, expected)
    assert loss.parts["accuracy"].item() == pytest.approx((better > worse).float().mean().item())
    centred = preferences.reward_objective(Reward(kind="reward", centre=0.1), made)(batch)
    torch.testing.assert_close(centred.total, expected + 0.1 * (better + worse).square().mean())


@pytest.mark.parametrize("architecture", SECTIONS)
def test_an_answer_is_as_likely_as_transformers_says(architecture: str) -> None:
    policy, batch = network_of(architecture).eval(), pairs()
    ids, parts = preferences.both(batch)
    found = preferences.answer_log_likelihoods(policy, ids, parts)
    for row, length in enumerate([*LENGTHS["chosen"], *LENGTHS["rejected"]]):
        labels = ids[row : row + 1, :length].clone()
        labels[:, :4] = -100
        loss = policy(input_ids=ids[row : row + 1, :length], labels=labels).loss
        torch.testing.assert_close(found[row], -loss * (length - 4), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kept_bytes", [likelihoods.KEPT_BYTES, 0])
def test_the_gradient_of_likelihoods_is_that_of_whole_logits(monkeypatch: pytest.MonkeyPatch, kept_bytes: int) -> None:
    monkeypatch.setattr(likelihoods, "CHUNK_BYTES", 4 * 4 * 512)
    monkeypatch.setattr(likelihoods, "KEPT_BYTES", kept_bytes)
    policy, batch = network_of("gpt2").eval(), pairs()
    ids, parts = preferences.both(batch)
    preferences.answer_log_likelihoods(policy, ids, parts).sum().backward()
    found = {name: each.grad.clone() for name, each in policy.named_parameters()}
    policy.zero_grad()
    shares = policy(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(dim=-1)
    chosen = shares.gather(-1, ids[:, 1:, None])[..., 0]
    (chosen * (parts[:, 1:] == CHOSEN)).sum().backward()
    for name, each in policy.named_parameters():
        torch.testing.assert_close(found[name], each.grad, atol=1e-4, rtol=1e-4)


def test_dpo_begins_at_the_logarithm_of_two_and_is_the_papers_formula(tmp_path: Path) -> None:
    policy, batch = network_of("gpt2").eval(), pairs()
    convert.save(policy, tmp_path)
    subject = preferences.dpo_objective(Dpo(kind="dpo", beta=0.3), policy, Setting(FACTS, start=tmp_path))
    assert subject(batch).total.item() == pytest.approx(0.6931472, abs=1e-6)
    numbers = torch.tensor([[-4.0, -6.0], [-5.0, -3.0], [-4.5, -6.5], [-4.0, -3.5]], dtype=torch.float64)
    found = subject.of_log_likelihoods(*numbers)
    gains = 0.3 * ((numbers[0] - numbers[2]) - (numbers[1] - numbers[3]))
    assert found.total.item() == pytest.approx(torch.log1p(torch.exp(-gains)).mean().item(), abs=1e-9)
    assert set(dict(subject.named_parameters())) == {f"network.{name}" for name, _ in policy.named_parameters()}


@pytest.mark.parametrize("architecture", SECTIONS)
def test_the_likeliest_answer_is_that_of_transformers_generate(architecture: str) -> None:
    policy = network_of(architecture).eval()
    for parameter in policy.parameters():
        parameter.data.mul_(4)  # else all ids are about as likely
    prompts = torch.randint(4, 500, (3, 6), generator=torch.Generator().manual_seed(3))
    is_prompt = torch.tensor([[False] * lack + [True] * (6 - lack) for lack in (0, 2, 4)])
    found = sample(policy, prompts, is_prompt, 10, FACTS["eos"], FACTS["vocab_size"], temperature=0)
    for row, lack in enumerate((0, 2, 4)):
        given = prompts[row : row + 1, lack:]
        theirs: Any = policy.generate(given, do_sample=False, max_new_tokens=10, eos_token_id=FACTS["eos"])
        answer = theirs[0, given.shape[1] :].tolist()
        assert found[row, : len(answer)].tolist() == answer
        assert set(found[row, len(answer) :].tolist()) <= {FACTS["eos"]}


def test_sampled_ids_follow_the_distribution_and_stay_within_the_vocabulary() -> None:
    policy = network_of("gpt2").eval()
    prompts = torch.tensor([[5, 6]]).expand(4000, 2)
    torch.manual_seed(0)
    found = sample(policy, prompts, torch.ones_like(prompts, dtype=torch.bool), 1, FACTS["eos"], num_ids=8)
    expected = policy(input_ids=prompts[:1]).logits[0, -1, :8].softmax(dim=0)
    shares = found.flatten().bincount(minlength=8) / 4000
    assert (shares - expected).abs().max() < 4 * 0.5 / 4000**0.5


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    convert.save(network_of("gpt2"), tmp_path)
    section = SECTIONS["gpt2"].model_copy(update={"num_layers": 3})
    with pytest.raises(Mismatch, match=r"another shape.*lacks transformer\.h\.2"):
        network.begin(section, Dpo(kind="dpo"), Setting(FACTS, start=tmp_path))


def test_dpo_begins_at_the_logarithm_of_two_from_a_file_in_half_precision(tmp_path: Path) -> None:
    convert.save(network_of("gpt2").half(), tmp_path)
    section = Dpo(kind="dpo")
    policy: Any = network.begin(SECTIONS["gpt2"], section, Setting(FACTS, start=tmp_path)).eval()
    subject = preferences.dpo_objective(section, policy, Setting(FACTS, start=tmp_path))
    assert policy.dtype == subject.frozen[0].dtype == torch.float32
    assert subject(pairs()).total.item() == pytest.approx(0.6931472, abs=1e-6)


@pytest.mark.parametrize("architecture", SECTIONS)
def test_a_language_model_does_not_start_from_a_reward_model_but_a_reward_model_does(
    architecture: str, tmp_path: Path
) -> None:
    begun: Any = reward_network(architecture)
    convert.save(begun, tmp_path)
    setting = Setting(FACTS, start=tmp_path)
    with pytest.raises(Mismatch, match=r"another shape or kind: .* lacks (lm_head|embed_out)\.weight"):
        network.begin(SECTIONS[architecture], Dpo(kind="dpo"), setting)
    again: Any = network.begin(SECTIONS[architecture], Reward(kind="reward"), setting)
    assert torch.equal(again.score.weight, begun.score.weight)
