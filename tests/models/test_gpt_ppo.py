"""Rounds of PPO on a tiny network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.conversation import CHOSEN, PADDING, PROMPT
from models.gpt import convert, network, ppo
from models.gpt.objectives import objective
from models.gpt.schema import Ppo
from models.objective import Collapsed, Setting
from tests.models.test_gpt_objectives import FACTS, SECTIONS, network_of


def prompts(count: int = 8) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 500, (count, 5), generator=torch.Generator().manual_seed(4))
    parts = torch.full((count, 5), PROMPT)
    parts[::2, :2] = PADDING
    return {"prompt_ids": ids, "prompt_parts": parts}


def rounds(tmp_path: Path, architecture: str = "gpt2", **keys: Any) -> ppo.PpoRounds:
    start, reward = tmp_path / "start", tmp_path / "reward"
    if not start.is_dir():
        convert.save(network_of(architecture), start)
        convert.save(network.with_scalar_head(network_of(architecture)), reward)
    section = Ppo(kind="ppo", reward="judge", mini_batch_samples=4, max_answer_tokens=6, **keys)
    setting = Setting(FACTS, start=start, parents={"judge": reward})
    shape = SECTIONS[architecture].model_copy(update={"dropout": 0.1})
    made: Any = objective(section, network.begin(shape, section, setting), setting)
    made.train()
    return made


@pytest.mark.parametrize("architecture", SECTIONS)
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_first_ratio_of_a_round_is_exactly_one(tmp_path: Path, architecture: str, critic: str) -> None:
    subject = rounds(tmp_path, architecture, critic=critic)
    torch.manual_seed(0)
    experience = subject.collect(prompts(), part_samples=4)
    loss = subject(next(subject.updates(experience)))
    assert loss.parts["ratio"].item() == 1.0
    assert loss.parts["policy_kl"].item() == 0.0
    assert loss.parts["clip_fraction"].item() == 0.0
    assert subject.found["kl_per_answer"] == pytest.approx(0.0, abs=1e-5)


def test_answers_follow_their_prompts_without_padding_and_end_once(tmp_path: Path) -> None:
    subject, given = rounds(tmp_path), prompts()
    torch.manual_seed(0)
    order = torch.randperm(8)
    torch.manual_seed(0)
    experience = subject.collect(given, part_samples=8)
    for row, source in enumerate(order.tolist()):
        kept = given["prompt_parts"][source] == PROMPT
        asked = given["prompt_ids"][source][kept].tolist()
        ids, parts = experience["ids"][row].tolist(), experience["parts"][row].tolist()
        assert ids[: len(asked)] == asked
        assert parts == sorted(parts)
        answer = [token for token, part in zip(ids, parts, strict=True) if part == CHOSEN]
        assert 1 <= len(answer) <= 6
        assert FACTS["eos"] not in answer[:-1]


def test_updates_raise_what_is_rewarded(tmp_path: Path) -> None:
    subject = rounds(tmp_path, kl_coefficient=0.0, missing_end_penalty=0.0, normalise_rewards=False)
    wanted = torch.arange(4, 60)

    def pay(_network: Any, ids: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        answers = parts == CHOSEN
        return (torch.isin(ids, wanted) & answers).sum(dim=1) / answers.sum(dim=1)

    optimizer = torch.optim.Adam(subject.network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    paid = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "rewards", pay)
        for _ in range(12):
            for batch in subject.updates(subject.collect(prompts(32), part_samples=32)):
                optimizer.zero_grad()
                subject(batch).total.backward()
                optimizer.step()
            paid.append(subject.found["reward"])
    assert paid[0] < 0.3
    assert sum(paid[-3:]) / 3 > paid[0] + 0.2
    assert subject.found["kl_per_answer"] > 0.1


def test_only_the_last_layers_move_and_the_reference_shares_the_others(tmp_path: Path) -> None:
    subject = rounds(tmp_path, num_trained_layers=1)
    policy, reference = subject.network.policy, subject.frozen[0]
    trained = {name for name, each in policy.named_parameters() if each.requires_grad}
    assert trained
    assert all(name.startswith(("transformer.h.1.", "transformer.ln_f.")) for name in trained)
    theirs = dict(reference.named_parameters())
    for name, each in policy.named_parameters():
        assert (theirs[name].data_ptr() == each.data_ptr()) == (name not in trained)
        assert not theirs[name].requires_grad
    assert not any(name.startswith("frozen") for name, _ in subject.named_parameters())


def test_a_reward_that_is_no_number_ends_the_round_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = rounds(tmp_path)
    monkeypatch.setattr(ppo, "rewards", lambda _n, ids, _p: torch.full((len(ids),), torch.nan))
    with pytest.raises(Collapsed, match="the reward model 'judge' gives 8 of 8 answers a reward that is no number"):
        subject.collect(prompts(), part_samples=8)


def test_a_policy_that_says_one_token_only_ends_the_round_in_words(tmp_path: Path) -> None:
    subject = rounds(tmp_path)
    head: Any = subject.network.policy.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        subject.network.policy.transformer.ln_f.bias.fill_(1.0)
        head.weight[7] = 10.0
    with pytest.raises(Collapsed, match="collapsed: 100% of 192 sampled tokens are the id 7"):
        subject.collect(prompts(32), part_samples=32)


def test_an_answer_that_does_not_end_pays_for_it(tmp_path: Path) -> None:
    subject = rounds(tmp_path, missing_end_penalty=3.0)
    raw = torch.zeros(2)
    ids = torch.tensor([[5, 6, FACTS["eos"], FACTS["eos"]], [5, 6, 7, 8]])
    parts = torch.tensor([[PROMPT, CHOSEN, CHOSEN, PADDING], [PROMPT, CHOSEN, CHOSEN, CHOSEN]])
    scores, missing = subject._scores(raw, ids, parts)
    assert scores.tolist() == [0.0, -3.0]
    assert missing.tolist() == [False, True]


def test_the_coefficient_goes_on_from_its_state(tmp_path: Path) -> None:
    subject = rounds(tmp_path, kl_target=0.01, kl_horizon=10)
    subject.found = {"kl_per_answer": 1.0, "num_answers": 8.0}
    subject.end_round()
    assert subject.state() == {"kl_coefficient": pytest.approx(0.05 * 1.16)}
    other = rounds(tmp_path, kl_target=0.01)
    other.restore(subject.state())
    assert other.kl_coefficient == subject.kl_coefficient
    other.restore({})
    assert other.kl_coefficient == 0.05


def test_repetition_counts_runs_of_three_that_were_said_before() -> None:
    ids = torch.tensor([[0, 1, 2, 3, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6]])
    mask = torch.ones(2, 6, dtype=torch.bool)
    assert ppo.repetition(ids, mask) == pytest.approx(0.5 * (1 / 4))
