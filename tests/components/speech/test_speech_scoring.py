import json
from types import SimpleNamespace

import jiwer
import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import HubertConfig, HubertForCTC

from components.comparison import compare
from components.modalities import modality
from components.modalities.speech import recordings
from components.modalities.speech.aligning import phones_of
from components.modalities.speech.decoding import Errors, errors_of, greedy, interval, open_decoder, stripped
from components.modalities.speech.phonemes import PhonemeEncoder
from components.modalities.speech.schema import MaskedUnitAccuracy, PhonemeErrorRate
from components.modalities.speech.scoring import log_probs_of
from components.outcomes import Refused
from tests.components.speech.small_speech import small_records

SYMBOLS = ["<pad>", "|", "a", "i", "u"]
ENCODER = PhonemeEncoder("given", SYMBOLS)
DECODERS = ("greedy", "beam-max", "beam-sum")


def emissions(rows: list[dict[int, float]]) -> torch.Tensor:
    """Log-probabilities of frames; what a frame does not name shares the rest."""
    found = torch.empty(len(rows), len(SYMBOLS))
    for frame, named in enumerate(rows):
        rest = (1 - sum(named.values())) / (len(SYMBOLS) - len(named))
        found[frame] = torch.tensor([named.get(symbol, rest) for symbol in range(len(SYMBOLS))])
    return found.log()


# ---- decoders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([2, 2, 0, 2, 3, 3], [2, 2, 3]),
        ([0, 0, 0], []),
        ([1, 2, 1, 1, 3, 1], [2, 1, 3]),
        ([2, 0, 1, 0, 4, 0], [2, 1, 4]),
    ],
)
def test_a_sure_recogniser_is_read_alike_by_every_decoder(name, path, expected):
    found = open_decoder(name, SYMBOLS, beam_size=20)(emissions([{symbol: 0.99} for symbol in path]))
    assert found == expected


def test_only_the_sum_of_paths_finds_a_text_whose_paths_are_many():
    # One path says nothing (0.6 x 0.6 = 0.36); three say `a`: 0.4 x 0.4 + 2 x 0.4 x 0.6 = 0.64 in all.
    unsure = torch.full((2, len(SYMBOLS)), 1e-9)
    unsure[:, 0], unsure[:, 2] = 0.6, 0.4
    found = {name: open_decoder(name, SYMBOLS, beam_size=20)(unsure.log()) for name in DECODERS}
    assert found == {"greedy": [], "beam-max": [], "beam-sum": [2]}


def test_no_word_boundary_is_left_at_the_ends():
    assert stripped([1, 1, 2, 1, 3, 1]) == [2, 1, 3]
    assert stripped([1, 1]) == []
    assert greedy(torch.zeros(0, 5)) == []


def test_a_transcript_is_aligned_to_the_frames_where_its_phonemes_are_heard():
    path = [0, 2, 2, 0, 0, 1, 0, 3, 0, 2, 0]
    log_probs = emissions([{symbol: 0.95} for symbol in path])
    found = json.loads(phones_of(log_probs, np.array([2, 1, 3, 2]), SYMBOLS))
    # Frames 1-2, 7 and 9, and from the middle of one gap to that of the next.
    expected = [("a", 1.0, 4.0), ("i", 6.5, 8.5), ("a", 8.5, 10.0)]
    assert [phone for phone, _, _ in found] == [phone for phone, _, _ in expected]
    for (_, *times), (_, *frames) in zip(found, expected, strict=True):
        assert times == pytest.approx([each * 0.02 for each in frames])
    assert phones_of(log_probs[:2], np.array([2, 2]), SYMBOLS) == "[]"
    assert phones_of(log_probs, np.array([], np.uint8), SYMBOLS) == "[]"


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "heard", "kinds", "with_boundary"),
    [
        ("a i | u", "a i | u", (0, 0, 0), 0),
        ("a i | u", "a u | u", (1, 0, 0), 1),
        ("a i | u", "i | u", (0, 1, 0), 1),
        ("a i | u", "a i u", (0, 0, 0), 1),
        ("a i | u", "a i | u u", (0, 0, 1), 1),
        ("a i | u", "", (0, 3, 0), 4),
        ("", "a | i", (0, 0, 2), 3),
    ],
)
def test_errors_are_those_that_a_person_counts(said, heard, kinds, with_boundary):
    errors = errors_of(said.split(), heard.split())
    assert (errors.substitutions, errors.deletions, errors.insertions) == kinds
    assert errors.errors_with_boundary == with_boundary
    assert errors.num_phonemes == len(said.replace("|", "").split())


def test_sums_of_errors_are_those_of_jiwer_over_all_recordings():
    generator = np.random.default_rng(0)
    pairs = [[generator.choice(SYMBOLS[1:], size).tolist() for size in (9, 11)] for _ in range(30)]
    whole = sum((errors_of(said, heard) for said, heard in pairs), Errors())
    assert whole.rates()["error_rate_with_boundary"] == pytest.approx(
        jiwer.wer([" ".join(said) for said, _ in pairs], [" ".join(heard) for _, heard in pairs])
    )


def test_word_boundaries_have_precision_and_recall():
    rates = (errors_of(["a", "|", "i", "|", "u"], ["a", "|", "i", "u"]) + errors_of(["a"], ["a", "|", "a"])).rates()
    assert rates["boundary_precision"] == 1 / 2
    assert rates["boundary_recall"] == 1 / 2


def test_an_interval_is_drawn_over_speakers():
    errors, sizes = np.array([1.0, 1.0, 9.0, 9.0]), np.full(4, 10.0)
    apart = interval(errors, sizes, ["a", "a", "b", "b"], 2_000, 0)
    assert apart == [0.1, 0.9]  # each draw has one speaker twice, or both
    alike = interval(errors, sizes, ["a", "b", "a", "b"], 2_000, 0)
    assert alike == [0.5, 0.5]
    low, high = interval(errors, sizes, [""] * 4, 2_000, 0)
    assert low < 0.5 < high


# ---- tasks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = HubertConfig(
        vocab_size=len(SYMBOLS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    found = HubertForCTC(config).eval()
    torch.nn.init.normal_(found.lm_head.weight, std=2.0)
    return found


RECORDS = small_records(8)


def read(corpus, columns, splits):
    assert corpus == "tones"
    return [{key: record[key] for key in ("id", *columns)} for record in RECORDS]


def scored(network, encoder=ENCODER, **keys):
    task = PhonemeErrorRate(kind="phoneme-error-rate", corpus="tones", speaker="speaker", **keys)
    told: list[tuple[int, int]] = []
    model = SimpleNamespace(network=network, encoder=encoder)
    rows = list(modality("speech").score(task, model, read, lambda *each: told.append(each)))
    assert told[-1] == (told[-1][1],) * 2
    items: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["item"] is not None and not row["item"].startswith("speaker:"):
            items.setdefault(row["item"], {})[row["metric"]] = row["value"]
    return items, {row["metric"]: row["value"] for row in rows if row["item"] is None}


def test_totals_are_sums_over_the_rows_of_recordings(network):
    items, totals = scored(network)
    assert set(items) == {record["id"] for record in RECORDS}
    for suffix in ("", "_beam_max", "_beam_sum"):
        errors = sum(row[f"errors{suffix}"] for row in items.values())
        said = sum(row["num_phonemes"] for row in items.values())
        assert totals[f"phoneme_error_rate{suffix}"] == pytest.approx(errors / said)
        low, high = totals[f"phoneme_error_rate_low{suffix}"], totals[f"phoneme_error_rate_high{suffix}"]
        assert low <= totals[f"phoneme_error_rate{suffix}"] <= high
    for row in items.values():
        assert row["errors"] == row["substitutions"] + row["deletions"] + row["insertions"]
    assert totals["num_speakers"] == 6
    assert totals["best_speaker_error_rate"] <= totals["phoneme_error_rate"] <= totals["worst_speaker_error_rate"]


def test_every_speaker_has_rows_of_its_own_by_which_no_model_is_compared(network):
    task = PhonemeErrorRate(kind="phoneme-error-rate", corpus="tones", speaker="speaker")
    model = SimpleNamespace(network=network, encoder=ENCODER)
    rows = [row for row in modality("speech").score(task, model, read, lambda *_: None) if row["item"]]
    found = {}
    for row in rows:
        found.setdefault(row["item"], {})[row["metric"]] = row["value"]
    for speaker in {record["speaker"] for record in RECORDS}:
        own = [found[record["id"]] for record in RECORDS if record["speaker"] == speaker]
        assert found[f"speaker:{speaker}"] == {
            "speaker_errors": sum(row["errors"] for row in own),
            "speaker_phonemes": sum(row["num_phonemes"] for row in own),
        }
    table = pa.Table.from_pylist([{"task": "t", **row} for row in rows])
    (test,) = compare(table, table, {"t": PhonemeErrorRate.MEASURES}).tests
    assert test.num_items == len(RECORDS)


def test_what_models_are_compared_by_stands_in_every_row(network):
    [measure] = PhonemeErrorRate.MEASURES
    for decoders in (["beam-sum"], ["greedy", "beam-max"]):
        items, totals = scored(network, decoders=decoders)
        assert all({measure.metric, measure.per} <= set(row) for row in items.values())
        assert measure.total in totals


def test_scores_are_those_of_recordings_alone_whatever_stands_beside_them(network):
    items, _ = scored(network)
    for record in RECORDS[:3]:
        wave = torch.from_numpy(recordings.as_waveform(recordings.decoded(record["audio"])))[None]
        heard = greedy(network(wave).logits[0].detach().log_softmax(-1))
        said = [SYMBOLS[each] for each in ENCODER.encode([record["transcript"]])[0]]
        assert items[record["id"]]["errors"] == errors_of(said, [SYMBOLS[each] for each in heard]).errors


def test_log_probabilities_are_those_of_transformers(network):
    wave = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0)) * 0.1
    expected = network(wave).logits.detach().log_softmax(-1)
    assert torch.allclose(log_probs_of(network, wave), expected, atol=1e-6)


def test_a_sample_of_recordings_goes_by_their_ids_alone(network):
    items, _ = scored(network, max_recordings=3, decoders=["greedy"])
    RECORDS.reverse()
    again, _ = scored(network, max_recordings=3, decoders=["greedy"])
    RECORDS.reverse()
    assert items == again
    assert len(items) == 3


def test_networks_that_compute_no_numbers_and_encoders_of_another_kind_are_refused(network):
    with pytest.raises(Refused, match="scores networks whose encoder makes phonemes; found one that makes units"):
        scored(network, SimpleNamespace(kind="units"))
    task = MaskedUnitAccuracy(kind="masked-unit-accuracy", corpus="tones")
    with pytest.raises(Refused, match="no head that predicts units"):
        list(
            modality("speech").score(
                task, SimpleNamespace(network=network, encoder=SimpleNamespace(kind="units")), read, lambda *_: None
            )
        )
    kept = network.lm_head.bias.detach().clone()
    with torch.no_grad():
        network.lm_head.bias.fill_(float("nan"))
    with pytest.raises(Refused, match="computes no numbers for recording 000"):
        scored(network)
    with torch.no_grad():
        network.lm_head.bias.copy_(kept)
