"""Exact match and quality against transformers' own generation, one question at a time, on tiny networks."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.generators import JUDGES
from components.generators.instructions import questions
from components.modalities.text import answering, chat, generating, tokenizers
from components.modalities.text.answering import repetition
from components.modalities.text.schema import Chat, ExactMatch, FewShot, GeneratedQuality, SentencePiece
from components.outcomes import Refused
from models.gpt import network
from models.gpt.schema import GPT2, GPTNeoX

SHAPE = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "max_positions": 96}
ASKED = [each for each in questions()["instructions"]["facts"] if len(each.prompt) < 20][:40]
ROWS = {
    split: [
        {
            "id": f"{split}-{number}",
            "conversation": json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": each.prompt},
                        {"role": "assistant", "content": each.answer},
                    ]
                }
            ),
        }
        for number, each in enumerate(asked)
    ]
    for split, asked in (("train", ASKED[:10]), ("valid", ASKED[10:20]), ("test", ASKED[20:]))
}


def read(corpus, columns, splits):
    assert (corpus, columns) == ("town", ["conversation"])
    [split] = splits
    return ROWS[split]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks of this size gain nothing from a second one, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A tokenizer, and the same with a prompt format."""
    root = tmp_path_factory.mktemp("encoders")
    texts = [each.prompt + each.answer for each in questions()["instructions"]["facts"][:300]]
    section = SentencePiece(kind="sentencepiece", corpora=[{"corpus": "town"}], vocab_size=640)
    tokenizers.fit(section, texts, texts[:5], root / "plain")
    chat.fit(Chat(kind="chat", tokenizer="plain"), root / "plain", root / "chat")
    return {"plain": tokenizers.open_encoder(root / "plain"), "chat": chat.open_encoder(root / "chat")}


def model_of(encoder, architecture="gpt2", kind=None, seed=1):
    torch.manual_seed(seed)
    section = (GPT2 if architecture == "gpt2" else GPTNeoX)(architecture=architecture, **SHAPE)
    built = (kind or network.build)(section, encoder.facts).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return SimpleNamespace(network=built, encoder=encoder)


class Oracle:
    """Stands in for generation: answers with what it was told, so that only asking and comparing are tested."""

    def __init__(self, encoder, answer_of):
        self.encoder, self.answer_of, self.prompts = encoder, answer_of, []

    def __call__(self, model, prompts, *_):
        texts = [self.encoder.decode(ids) for ids in prompts]
        self.prompts += texts
        rows = [self.encoder.encode_texts([self.answer_of(text)])[0].tolist() for text in texts]
        return [generating.Answer(tuple(row), has_ended=True) for row in rows]


def scored(task, model) -> dict[tuple[str | None, str], float]:
    told: list[tuple[int, int]] = []
    found = {
        (row["item"], row["metric"]): row["value"]
        for row in answering.score(task, model, read, lambda *done: told.append(done))
    }
    assert told == sorted(told)
    return found


def exact(**keys) -> ExactMatch:
    return ExactMatch(kind="exact-match", corpus="town", max_new_tokens=12, **keys)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_answers_in_batches_are_those_that_transformers_gives_one_by_one(encoders, architecture) -> None:
    model = model_of(encoders["chat"], architecture)
    prompts = [encoders["chat"].prompt([{"role": "user", "content": each.prompt}]) for each in ASKED[:6]]
    assert len({len(each) for each in prompts}) > 2  # so some are padded
    found = generating.answers(model, prompts, max_new_tokens=8)
    for prompt, answer in zip(prompts, found, strict=True):
        given = torch.from_numpy(prompt.astype(np.int64))[None]
        alone = model.network.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=8, use_cache=False
        )[0, len(prompt) :].tolist()
        eos = encoders["chat"].facts["eos"]
        assert answer.has_ended == (eos in alone)
        assert list(answer.ids) == (alone[: alone.index(eos)] if eos in alone else alone)


def test_samples_come_from_their_seed_and_leave_torchs_own_generator_alone(encoders) -> None:
    model = model_of(encoders["chat"])
    prompts = [encoders["chat"].prompt([{"role": "user", "content": each.prompt}]) for each in ASKED[:4]]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = generating.answers(model, prompts, 8, temperature=1.0, seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert generating.answers(model, prompts, 8, temperature=1.0, seed=3) == first
    assert generating.answers(model, prompts, 8, temperature=1.0, seed=4) != first


def test_an_answer_ends_before_the_end_of_text(encoders) -> None:
    eos = encoders["chat"].facts["eos"]
    assert generating._answer([7, 8, eos, 3, 3], eos) == generating.Answer((7, 8), has_ended=True)
    assert generating._answer([7, 8, 9], eos) == generating.Answer((7, 8, 9), has_ended=False)


def test_exact_match_counts_the_corpus_own_answers_and_forgives_forms_of_characters(encoders, monkeypatch) -> None:
    right = {each.prompt: each.answer for each in ASKED}
    chosen = ASKED[20:25]

    def answer_of(text: str) -> str:
        prompt = text.removeprefix("ユーザー: ").partition("\n")[0]
        return f" {right[prompt]}" if prompt in {each.prompt for each in chosen} else "わかりません。"

    monkeypatch.setattr(answering, "answers", Oracle(encoders["chat"], answer_of))
    found = scored(exact(), SimpleNamespace(network=SimpleNamespace(config=CONFIG), encoder=encoders["chat"]))
    assert found[None, "exact_match"] == 5 / 20
    assert found[None, "num_items"] == 20
    assert [found[f"test-{number}", "exact_match"] for number in range(7)] == [1, 1, 1, 1, 1, 0, 0]
    assert (None, "num_shots") not in found
    assert answering._normal("１２足す３は１５です。 ") == answering._normal("12足す3は15です。")


CONFIG = SimpleNamespace(max_position_embeddings=96)


def test_a_base_model_is_asked_in_the_way_that_is_best_on_the_valid_split(encoders, monkeypatch) -> None:
    right = {each.prompt: each.answer for each in ASKED}

    def answer_of(text: str) -> str:
        """Right only with two examples, in the second format."""
        question = text.rpartition("「")[0].rpartition("「")[2].partition("」")[0]
        examples = text.count("と答えました。")
        return (right[question] if examples == 2 else "はい") + "」と答えました。"

    oracle = Oracle(encoders["plain"], answer_of)
    monkeypatch.setattr(answering, "answers", oracle)
    longer = SimpleNamespace(max_position_embeddings=200)
    found = scored(exact(), SimpleNamespace(network=SimpleNamespace(config=longer), encoder=encoders["plain"]))
    assert found[None, "num_shots"] == 2
    assert found[None, "few_shot_format"] == 1
    assert found[None, "valid_exact_match"] == 1.0
    assert found[None, "exact_match"] == 1.0
    tests = {each.prompt for each in ASKED[20:]}
    tried = oracle.prompts[:-20]
    assert len(tried) == 3 * 4 * 10
    assert not any(prompt in text for prompt in tests for text in tried)  # nothing of the test split is looked at


def test_examples_without_room_are_left_out_the_first_ones(encoders) -> None:
    model = SimpleNamespace(network=SimpleNamespace(config=CONFIG), encoder=encoders["plain"])
    items = [answering.Item("a", [{"role": "user", "content": each.prompt}], each.answer) for each in ASKED[:5]]
    ask = answering.FewShot(exact(), model, FewShot().formats[0], items[:4])
    text = encoders["plain"].decode(ask.prompt(items[4]))
    assert len(ask.prompt(items[4])) <= 96 - 12
    assert text.endswith(f"質問: {items[4].prompt}\n答え: ")
    kept = [item.prompt in text for item in items[:4]]
    assert kept == sorted(kept)
    assert 0 < sum(kept) < 4


@pytest.mark.parametrize(
    ("words", "said", "kept", "has_ended"),
    [
        ("質問: {prompt}\n答え: {response}\n", "駅前です。\n質問: また", "駅前です。", True),
        ("「{prompt}」「{response}」", "駅前です。」と", "駅前です。", True),
        ("{prompt}{response}", "駅前です。また、", "駅前です。", True),
        ("{prompt}{response}", "駅前で", "駅前で", False),
    ],
)
def test_an_answer_among_examples_ends_where_theirs_do(encoders, words, said, kept, has_ended) -> None:
    model = SimpleNamespace(network=SimpleNamespace(config=CONFIG), encoder=encoders["plain"])
    ask = answering.FewShot(exact(), model, words, [])
    ids = tuple(encoders["plain"].encode_texts([said])[0].tolist())
    found = ask.said(answering.Item("a", [], ""), generating.Answer(ids, has_ended=False))
    assert (found.text, found.answer.has_ended) == (kept, has_ended)


def test_an_item_of_several_turns_is_written_as_several_examples(encoders) -> None:
    model = SimpleNamespace(network=SimpleNamespace(config=CONFIG), encoder=encoders["plain"])
    ask = answering.FewShot(exact(), model, "Q {prompt} A {response};", [])
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert ask._written(messages, "d") == "Q a A b;Q c A d;"
    assert ask._written(messages, None) == "Q a A b;Q c A "


def test_quality_is_the_judges_and_form_is_told_beside_it(encoders) -> None:
    model = model_of(encoders["chat"])
    task = GeneratedQuality(
        kind="generated-quality", corpus="town", judge="world", max_new_tokens=12, temperature=1.0, max_items=6
    )
    found = scored(task, model)
    items = {item for item, _ in found if item}
    assert len(items) == found[None, "num_items"] == 6
    for metric in ("quality", "num_response_tokens", "repetition", "ended"):
        assert found[None, metric] == pytest.approx(np.mean([found[item, metric] for item in items]))
    assert all(0 <= found[item, "quality"] <= 1 for item in items)
    assert max(found[item, "num_response_tokens"] for item in items) <= 12


def test_a_perfect_answer_is_judged_perfect(encoders, monkeypatch) -> None:
    right = {each.prompt: each.answer for each in ASKED}
    oracle = Oracle(encoders["chat"], lambda text: right[text.removeprefix("ユーザー: ").partition("\n")[0]])
    monkeypatch.setattr(answering, "answers", oracle)
    task = GeneratedQuality(kind="generated-quality", corpus="town", judge="world")
    found = scored(task, SimpleNamespace(network=SimpleNamespace(config=CONFIG), encoder=encoders["chat"]))
    assert found[None, "quality"] == found[None, "ended"] == 1.0
    assert found[None, "repetition"] == 0.0


def test_repetition_is_the_share_of_stretches_that_came_before() -> None:
    assert repetition((1, 2, 3)) == 0.0
    assert repetition((1, 2, 3, 4, 5)) == 0.0
    assert repetition((1, 1, 1, 1, 1, 1)) == pytest.approx(2 / 3)


def test_a_reward_model_is_asked_nothing(encoders) -> None:
    model = model_of(encoders["chat"])
    model.network.can_generate = lambda: False
    with pytest.raises(Refused, match="preference-accuracy"):
        scored(exact(), model)


def test_a_network_that_answers_nan_is_refused(encoders) -> None:
    model = model_of(encoders["chat"])
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(Refused, match="not finite"):
        scored(exact(), model)


def test_questions_that_leave_no_room_are_refused_when_none_is_left(encoders) -> None:
    task = ExactMatch(kind="exact-match", corpus="town", max_new_tokens=90)
    with pytest.raises(Refused, match="max_new_tokens"):
        scored(task, model_of(encoders["chat"]))


def test_a_task_with_an_unknown_judge_or_a_format_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="known are world"):
        GeneratedQuality(kind="generated-quality", corpus="town", judge="moon")
    with pytest.raises(ValueError, match="a format has"):
        FewShot(formats=["{response} {prompt}"])


def test_judges_are_found_by_the_name_of_their_world() -> None:
    each = ASKED[0]
    assert JUDGES["world"](each.key, each.answer) == 1.0
