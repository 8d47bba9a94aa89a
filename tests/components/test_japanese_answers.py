"""Measures of answers in Japanese against values computed by hand, and shared passes against plain ones."""

import random

import pytest
import torch

from components.modalities.text import branches, plain_passes
from components.modalities.text import japanese_answers as answers
from components.modalities.text.branches import Continuation, likelihoods, rows_of
from components.modalities.text.continuing import Stream, go_on
from components.modalities.text.shortening import cut_sentences
from models.gpt import network
from models.gpt.schema import GPT2, GPTNeoX

SHAPE = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": 64}


def test_widths_emoji_and_white_space_do_not_count() -> None:
    assert answers.normalised("　ＡＢＣ😀  東京 ") == "ABC東京"
    document = {"answers": {"text": ["東京都", "東京"]}}
    assert answers.extracted(document, [" 東京😀\n"])["exact_match"] == 1
    assert answers.extracted(document, ["京都"])["exact_match"] == 0


def test_f1_is_of_words_without_punctuation() -> None:
    assert answers.words("私は猫が好き。") == ["私", "は", "猫", "が", "好き", "。"]
    # Three of four words, and three of five: 2 * 3 / 9.
    assert answers.f1("猫が好きだ", "私は猫が好き。") == pytest.approx(2 * 3 / 9)
    assert answers.f1("。", "。") == 0


def test_rouge_is_of_pairs_of_neighbours() -> None:
    def words(text: str) -> list[str]:
        return text.split()

    # Of a-b, b-c and a-b, b-d one is common: precision and recall are a half.
    assert answers.rouge2("a b c", "a b d", words) == pytest.approx(0.5)
    assert answers.rouge2("a b c d", "a b d", words) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert answers.rouge2("a", "a", words) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("1+2=3。答えは1,234.です", 1234), ("-5", -5), ("3.5", None), ("なし", None), ("1.2.3", None), ("4.0", 4)],
)
def test_the_last_number_counts(text: str, number: int | None) -> None:
    assert answers.last_number(text) == number


def test_articles_share_the_room_and_keep_their_first_sentences() -> None:
    context = "説明\n\n記事:一。二。三。\n要約:短い\n\n記事:四四。五。\n要約:"
    # Twelve characters for two articles: six each, with the mark.
    cut = cut_sentences(context, 12, "記事:", "要約:", "\n", len)
    assert cut == "説明\n\n記事:一。二。\n要約:短い\n\n記事:四四。\n要約:"
    assert cut_sentences(context, 100, "記事:", "要約:", "\n", len) == context


@pytest.fixture(params=["gpt2", "gpt_neox"])
def built(request):
    torch.manual_seed(0)
    section = (GPT2 if request.param == "gpt2" else GPTNeoX)(architecture=request.param, **SHAPE)
    found = network.build(section, {"vocab_size": 50, "bos": 1, "eos": 2, "pad": 3}).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return found


def drawn(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(50) for _ in range(rng.randrange(low, high)))


@pytest.mark.parametrize("is_narrow", [False, True])
def test_continuations_that_share_their_beginnings_are_as_likely_as_alone(built, is_narrow, monkeypatch) -> None:
    rng = random.Random(1)
    shared = drawn(rng, 12, 13)
    asked = [Continuation(99, (2,), (7,)), Continuation(98, drawn(rng, 60, 61), drawn(rng, 4, 5))]
    for question in range(12):
        context, start = shared + drawn(rng, 1, 30), drawn(rng, 0, 3)
        asked += [Continuation(question, context, start + drawn(rng, 1, 5)) for _ in range(3)]
    # One whole continuation is the beginning of another.
    asked += [Continuation(50, shared, (4, 5)), Continuation(50, shared, (4, 5, 6))]
    found, passes = {}, []
    if is_narrow:
        monkeypatch.setattr(branches, "MAX_SEEN", 3 * (len(shared) + 20))

    def done(passed: dict) -> None:
        found.update(passed)
        passes.append(len(passed))

    likelihoods(built, asked, done)
    assert (max(passes) > 15) != is_narrow
    assert len(found) == len(asked)
    for place, each in enumerate(asked):
        with torch.no_grad():
            logits = built(torch.tensor([each.context + each.tokens[:-1]])).logits[0].double().log_softmax(-1)
        logits = logits[len(each.context) - 1 :]
        expected = sum(float(logits[number, token]) for number, token in enumerate(each.tokens))
        assert found[place].nats == pytest.approx(expected, abs=1e-4)
        assert found[place].is_greedy == (logits.argmax(-1).tolist() == list(each.tokens))


def test_choices_of_one_question_are_one_row() -> None:
    rows = rows_of([Continuation(0, (1, 2), (3, 4)), Continuation(0, (1, 2), (3, 5, 6)), Continuation(1, (1, 2), (3,))])
    assert [(row.trunk, row.branches) for row in rows] == [((1, 2, 3), ((4,), (5, 6))), ((1, 2), ((3,),))]


def test_what_a_pass_says_is_summed_up_in_parts_and_of_equals_the_first_is_the_greedy_one(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 5, 7, generator=generator)
    logits[1, 2, 4] = logits[1, 2, 6] = 9.0
    targets = [(place, place % 3, column, (place + column) % 7) for place in range(6) for column in range(5)]
    targets += [(6, 1, 2, 4), (7, 1, 2, 6)]
    nats = logits.double().log_softmax(-1)
    for most in (1, 3 * 7, 2**20):
        monkeypatch.setattr(plain_passes, "LOGITS_AT_ONCE", {"cpu": most, "cuda": most})
        found = plain_passes.of_targets(logits, targets)
        assert (found[6][1], found[7][1]) == (True, False)
        for place in range(8):
            own = [each[1:] for each in targets if each[0] == place]
            assert found[place][0] == pytest.approx(sum(float(nats[each]) for each in own), abs=1e-5)
            assert found[place][1] == all(int(logits[row, column].argmax()) == token for row, column, token in own)


def test_streams_go_on_as_alone_until_each_is_done_and_from_where_they_were(built) -> None:
    rng = random.Random(2)
    shared = drawn(rng, 12, 13)
    streams = []
    for number in range(12):
        stop = rng.randrange(50)
        prompt = shared + drawn(rng, 1, 20) if number else (4,)
        streams.append(Stream(prompt, rng.randrange(2, 20), lambda tokens, stop=stop: tokens[-1] == stop))
    expected = []
    for stream in streams:
        ids: list[int] = []
        with torch.no_grad():
            while len(ids) < stream.most and not (ids and stream.is_done(ids)):
                ids.append(int(built(torch.tensor([[*stream.prompt, *ids]])).logits[0, -1].argmax()))
        expected.append(ids)
    streams[3].tokens = expected[3][:1]
    go_on(built, streams, 50, lambda _: None)
    assert [stream.tokens for stream in streams] == expected
