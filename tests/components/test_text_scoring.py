"""Held-out bits against transformers' own loss, hand-computed codes, and a token-by-token reference."""

import hashlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.modalities.text import scoring
from components.modalities.text.schema import HeldOutBits
from components.outcomes import Refused
from models.gpt import network
from models.gpt.schema import GPT2, GPTNeoX

VOCABULARY = 50
CONTEXT = 16
SHAPE = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": CONTEXT}


class Characters:
    """An encoder of one token per character, ids from 4 on."""

    facts = {"vocab_size": VOCABULARY, "unk": 0, "bos": 1, "eos": 2, "pad": 3}

    def encode(self, values: list[str]) -> list[np.ndarray]:
        return [np.array([4 + ord(each) % 46 for each in value], dtype=np.int32) for value in values]

    encode_texts = encode


@pytest.fixture(params=["gpt2", "gpt_neox"])
def model(request) -> SimpleNamespace:
    torch.manual_seed(0)
    section = (GPT2 if request.param == "gpt2" else GPTNeoX)(architecture=request.param, **SHAPE)
    built = network.build(section, Characters.facts).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return SimpleNamespace(network=built, encoder=Characters())


def task(**keys) -> HeldOutBits:
    return HeldOutBits(kind="held-out-bits", corpus="town", **keys)


def rows_of(model, texts: dict[str, str], **keys) -> dict[tuple[str | None, str], float]:
    records = [{"id": name, "text": text} for name, text in texts.items()]
    told: list[tuple[int, int]] = []

    def read(corpus: str, columns: list[str], splits: set[str]) -> list[dict[str, str]]:
        assert (corpus, columns, splits) == ("town", ["text"], {"test"})
        return records

    rows = list(scoring.score(task(**keys), model, read, lambda *done: told.append(done)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    return {(row["item"], row["metric"]): row["value"] for row in rows}


def sequence_of(text: str) -> torch.Tensor:
    return torch.tensor([2, *Characters().encode([text])[0].tolist(), 2])


def bits_one_by_one(model, text: str, window_tokens: int) -> float:
    """Each token from the window_tokens before it, by a forward pass of its own."""
    sequence = sequence_of(text)
    total = 0.0
    for target in range(1, len(sequence)):
        given = sequence[max(0, target - window_tokens) : target][None]
        with torch.no_grad():
            logits = model.network(input_ids=given).logits[0, -1]
        total -= torch.log_softmax(logits.double(), -1)[sequence[target]].item() / math.log(2)
    return total


def test_bits_of_a_short_document_are_the_loss_of_transformers(model) -> None:
    text = "太郎は駅で本を読む。"
    sequence = sequence_of(text)[None]
    with torch.no_grad():
        loss = model.network(input_ids=sequence, labels=sequence).loss.item()
    found = rows_of(model, {"a": text})
    assert found["a", "num_tokens"] == len(text) + 1
    assert found["a", "bits"] == pytest.approx(loss * (len(text) + 1) / math.log(2), rel=1e-5)


def test_a_network_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(model) -> None:
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    found = rows_of(model, {"a": "太郎は駅で", "b": "é" * 40})
    assert found["a", "bits"] == pytest.approx(6 * math.log2(VOCABULARY), rel=1e-6)
    assert found["b", "num_bytes"] == 80
    assert found[None, "perplexity"] == pytest.approx(VOCABULARY, rel=1e-6)
    assert found[None, "bits_per_character"] == pytest.approx(47 * math.log2(VOCABULARY) / 45, rel=1e-6)
    assert found[None, "bits_per_byte"] == pytest.approx(47 * math.log2(VOCABULARY) / (15 + 80), rel=1e-6)


def test_totals_are_sums_over_sums_and_not_means_of_means(model) -> None:
    found = rows_of(model, {"a": "駅", "b": "太郎は公園で本を読む。" * 9})
    bits = found["a", "bits"] + found["b", "bits"]
    assert found[None, "bits_per_character"] == pytest.approx(bits / (1 + 99))
    assert found[None, "perplexity"] == pytest.approx(2 ** (bits / (2 + 100)))
    assert found["a", "bits_per_character"] == found["a", "bits"]
    mean_of_means = (found["a", "bits_per_character"] + found["b", "bits_per_character"]) / 2
    assert found[None, "bits_per_character"] != pytest.approx(mean_of_means, rel=0.01)


def test_the_stride_changes_nothing_for_documents_within_a_window(model) -> None:
    texts = {"a": "太郎は駅で", "b": "花" * (CONTEXT - 1)}
    assert rows_of(model, texts, stride_share=1.0) == rows_of(model, texts, stride_share=0.25)


@pytest.mark.parametrize("length", [CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 5])
def test_a_stride_of_one_token_equals_scoring_token_by_token(model, length: int) -> None:
    text = "".join(chr(0x3042 + 7 * i % 80) for i in range(length))
    found = rows_of(model, {"a": text}, stride_share=0.01)
    assert found["a", "bits"] == pytest.approx(bits_one_by_one(model, text, CONTEXT), rel=1e-5)


def test_a_shorter_window_than_the_context_is_kept_to(model) -> None:
    text = "太郎は公園で本を読む。" * 4
    found = rows_of(model, {"a": text}, stride_share=0.01, window_tokens=5)
    assert found["a", "bits"] == pytest.approx(bits_one_by_one(model, text, 5), rel=1e-5)


@pytest.mark.parametrize("num_predictions", [1, 7, 8, 9, 64, 65, 1000])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_every_prediction_counts_once_and_sees_enough_before_it(num_predictions: int, stride: int) -> None:
    counted = []
    for window in scoring.windows_of(0, num_predictions, 8, stride):
        assert 0 <= window.start < window.end <= num_predictions
        assert window.end - window.start <= 8
        for place in range(window.end - window.num_scored, window.end):
            counted.append(place)
            assert place - window.start >= min(place, 8 - stride)
    assert counted == list(range(num_predictions))


def test_how_windows_are_batched_changes_nothing_but_rounding(model, monkeypatch) -> None:
    texts = {str(number): "太郎は駅で本を読む。" * (1 + number % 5) for number in range(20)}
    together = rows_of(model, texts)
    monkeypatch.setattr(scoring, "MAX_BATCH_LOGITS", 1)
    monkeypatch.setattr(scoring, "DOCUMENTS_AT_ONCE", 3)
    alone = rows_of(model, texts)
    assert list(together) == list(alone)
    assert list(together.values()) == pytest.approx(list(alone.values()), rel=1e-5)


def test_max_documents_takes_a_sample_of_every_source_whatever_the_order(model) -> None:
    texts = {f"{source}:{number}": "駅" for source in ("a.txt", "b.txt") for number in range(50)}
    found = rows_of(model, texts, max_documents=20)
    sample = [item for item, metric in found if metric == "bits"]
    assert found[None, "num_documents"] == len(sample) == 20
    assert 5 <= sum(item.startswith("a.txt") for item in sample) <= 15
    turned = rows_of(model, dict(reversed(texts.items())), max_documents=20)
    assert [item for item, metric in turned if metric == "bits"] == sample
    digests = {item: hashlib.blake2b(item.encode(), digest_size=16).hexdigest() for item in texts}
    assert sample == sorted(texts, key=digests.__getitem__)[:20]


def test_a_sample_of_more_than_there_are_is_all_of_them() -> None:
    rows = [{"id": "b"}, {"id": "a"}]
    assert sorted(row["id"] for row in scoring.first_by_hash(rows, 9)) == ["a", "b"]
    assert scoring.first_by_hash(iter(rows), None) == rows


def test_no_document_is_refused_with_the_key_to_change(model) -> None:
    with pytest.raises(Refused, match=r"splits\.test"):
        rows_of(model, {})


def test_damaged_weights_are_refused(model) -> None:
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(Refused, match="document a a likelihood of nan"):
        rows_of(model, {"a": "駅"})


def test_a_window_longer_than_the_context_is_refused(model) -> None:
    with pytest.raises(Refused, match=f"context of {CONTEXT} tokens"):
        rows_of(model, {"a": "駅"}, window_tokens=CONTEXT + 1)
