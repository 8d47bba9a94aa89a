"""Rounds of PPO on a tiny network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.blocks import recompute
from components.checkpoints import Checkpoints, fingerprint_of
from components.outcomes import Refused
from components.rounds import play_round
from models.conversation import CHOSEN, PADDING, PROMPT
from models.gpt import convert, network, ppo
from models.gpt.objectives import objective
from models.gpt.schema import Ppo
from models.objective import Collapsed, Mismatch, Setting
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
        judge: Any = network.with_scalar_head(network_of(architecture))
        judge.config.reward_mean, judge.config.reward_deviation = 0.0, 1.0
        convert.save(judge, reward)
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


def test_a_reward_model_in_half_precision_judges_and_becomes_a_critic_in_single(tmp_path: Path) -> None:
    rounds(tmp_path)
    convert.save(convert.load(tmp_path / "reward").half(), tmp_path / "reward")
    subject = rounds(tmp_path, critic="separate")
    assert convert.load(tmp_path / "reward").dtype == torch.float16
    for each in (subject.frozen[1], subject.network):
        assert {parameter.dtype for parameter in each.parameters()} == {torch.float32}


def with_spread(folder: Path, mean: float | None, deviation: float | None) -> None:
    """Write a reward model's mean and deviation anew, or take them out."""
    path = folder / "config.json"
    found = json.loads(path.read_text(encoding="utf-8")) | {"reward_mean": mean, "reward_deviation": deviation}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), encoding="utf-8")


def test_scores_are_rewards_less_their_mean_by_their_deviation(tmp_path: Path) -> None:
    rounds(tmp_path)
    with_spread(tmp_path / "reward", 3.0, 0.5)
    raw, ids = torch.tensor([3.0, 4.0, 1.5, 100.0]), torch.full((4, 3), FACTS["eos"])
    parts = torch.tensor([[PROMPT, CHOSEN, CHOSEN]]).expand(4, 3)
    scores, _ = rounds(tmp_path, reward_clip=5.0)._scores(raw, ids, parts)
    assert scores.tolist() == [0.0, 2.0, -3.0, 5.0]
    scores, _ = rounds(tmp_path, reward_clip=5.0, normalise_rewards=False)._scores(raw, ids, parts)
    assert scores.tolist() == [3.0, 4.0, 1.5, 5.0]


def test_a_reward_model_without_mean_and_deviation_is_refused_where_they_are_wanted(tmp_path: Path) -> None:
    rounds(tmp_path)
    with_spread(tmp_path / "reward", None, None)
    for critic in ("shared", "separate"):
        with pytest.raises(Mismatch, match=r"'judge' has no reward_mean.*set the key to false"):
            rounds(tmp_path, critic=critic)
    rounds(tmp_path, normalise_rewards=False)


@pytest.mark.parametrize("is_normalised", [True, False])
def test_a_separate_critic_begins_with_the_scores_of_the_reward_model(tmp_path: Path, is_normalised: bool) -> None:
    rounds(tmp_path)
    with_spread(tmp_path / "reward", 3.0, 0.25)
    subject = rounds(tmp_path, critic="separate", normalise_rewards=is_normalised, reward_clip=1e3)
    ids = torch.randint(4, 500, (3, 6), generator=torch.Generator().manual_seed(5))
    ids[:, -1] = FACTS["eos"]
    parts = torch.tensor([[PROMPT, PROMPT, CHOSEN, CHOSEN, CHOSEN, CHOSEN]]).expand(3, 6)
    with torch.no_grad():
        scores, _ = subject._scores(ppo.rewards(subject.frozen[1], ids, parts), ids, parts)
        values = subject.network.hidden_and_values(ids)[1][:, -1]
    torch.testing.assert_close(values, scores, atol=1e-5, rtol=1e-5)


def test_a_policy_that_is_no_number_is_not_taken_for_one_that_says_one_token_only(tmp_path: Path) -> None:
    subject = rounds(tmp_path)
    with torch.no_grad():
        subject.network.policy.transformer.ln_f.bias.fill_(torch.nan)
    with pytest.raises(Collapsed, match=r"the policy gives 192 of 192 sampled tokens what is no number\. Lower align"):
        subject.collect(prompts(32), part_samples=32)


def test_updates_of_a_round_end_where_the_policy_has_gone_far_enough(tmp_path: Path) -> None:
    checkpoints = Checkpoints("align", "tiny", fingerprint_of({}))
    counts = {}
    for limit in (None, 0.02):
        subject = rounds(tmp_path, kl_limit=limit)
        moved = iter([0.0, 0.01, 0.03] + [0.0] * 20)

        def update(_batch: dict[str, torch.Tensor], moved: Any = moved) -> Any:
            return {"loss": torch.zeros(()), "policy_kl": torch.tensor(next(moved))}, torch.zeros(())

        counts[limit] = int(play_round(subject, prompts(), 8, update, checkpoints)[0]["updates"])
    assert counts == {None: 8, 0.02: 3}  # 4 epochs of 2 mini-batches


def test_a_round_that_collapses_says_what_to_change_and_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path / "checkpoints"))
    subject, checkpoints = rounds(tmp_path), Checkpoints("align", "tiny", fingerprint_of({}))
    monkeypatch.setattr(ppo, "rewards", lambda _n, ids, _p: torch.full((len(ids),), torch.nan))

    def no_update(_batch: dict[str, torch.Tensor]) -> Any:
        raise AssertionError

    with pytest.raises(Refused, match=r"'judge' gives 8 of 8.*in its own recipe\. No checkpoint was written yet\."):
        play_round(subject, prompts(), 8, no_update, checkpoints)
    checkpoints.save(3, {"x": torch.zeros(1)})
    with pytest.raises(Refused, match=r"in its own recipe\. The checkpoint of step 3 is kept\."):
        play_round(subject, prompts(), 8, no_update, checkpoints)


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_activations_of_policy_and_critic_are_computed_again_in_updates_only(tmp_path: Path, critic: str) -> None:
    subject = rounds(tmp_path, critic=critic)
    torch.manual_seed(0)
    plain = subject(next(subject.updates(subject.collect(prompts(), part_samples=8))))
    calls = []
    for block in network.blocks(subject.network):
        block.ln_1.register_forward_hook(lambda *_: calls.append(0))
    recompute(network.blocks(subject.network))
    torch.manual_seed(0)
    experience = subject.collect(prompts(), part_samples=8)
    calls.clear()
    loss = subject(next(subject.updates(experience)))
    forward = len(calls)
    loss.total.backward()
    assert loss.total.item() == plain.total.item()
    assert len(calls) == 2 * forward == 2 * 2 * (2 if critic == "separate" else 1)


def test_held_out_answers_are_the_likeliest_so_their_log_ratio_is_not_called_a_divergence(tmp_path: Path) -> None:
    subject = rounds(tmp_path)
    told = subject(prompts()).parts
    assert set(told) == {"reward", "log_ratio_per_answer", "answer_tokens", "repetition"}
    with torch.no_grad():
        subject.network.policy.transformer.ln_f.weight.mul_(3)
    assert float(subject(prompts()).parts["log_ratio_per_answer"]) > 0.1


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
