import json

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import mutual_info_score, pairwise_distances_argmin
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas
from transformers import GPT2Config, GPT2LMHeadModel

from components.modalities import modality
from components.modalities.speech import clustering, recordings, units
from components.modalities.speech.features import MFCC_SIZE, mfcc, num_frames, open_features
from components.modalities.speech.schema import KMeans, LayerFeatures, Mfcc
from components.outcomes import Refused
from tests.components.speech.small_speech import KMEANS, tones

SOUNDS = [recordings.encoded(tones(0.5 + 0.1 * number, number)) for number in range(12)]


def section(**keys) -> KMeans:
    return KMeans.model_validate(KMEANS | keys)


def fitted(folder, values=SOUNDS, held_out=(), **keys):
    report = modality("speech").fit(section(**keys), values, held_out, {}, folder)
    return modality("speech").open_encoder(folder), report


# ---- features --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [400, 559, 560, 16_000, 123_457])
def test_mfcc_and_differences_are_torchaudios_to_the_bit(num_samples):
    wave = torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples)) * 0.1
    cepstra = kaldi.mfcc(wave[None], sample_frequency=16_000.0, use_energy=False, dither=0.0).T
    deltas = compute_deltas(cepstra)
    expected = torch.cat([cepstra, deltas, compute_deltas(deltas)]).T
    assert torch.equal(mfcc(wave), expected)


def test_digital_silence_has_finite_features():
    assert torch.isfinite(mfcc(torch.zeros(4_000))).all()


@pytest.mark.parametrize("num_samples", [*range(400, 1_400, 37), 16_000, 250_000])
def test_there_are_as_many_features_as_frames_of_hubert(num_samples):
    samples = np.random.default_rng(0).integers(-99, 99, num_samples).astype(np.int16)
    expected = num_samples
    for kernel, stride in zip([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], strict=True):
        expected = (expected - kernel) // stride + 1
    found = open_features(Mfcc(kind="mfcc"), None)(samples)
    assert found.shape == (expected, MFCC_SIZE)
    assert num_frames(num_samples) == expected


def test_a_layer_of_weights_of_another_family_is_refused_with_the_keys(tmp_path):
    shape = {"vocab_size": 8, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(tmp_path)
    section = LayerFeatures(kind="layer", model="gpt-demo", layer=2)
    with pytest.raises(Refused, match=r"Layer 2 of 'gpt-demo'.*'gpt2', expected hubert.*'features\.model'"):
        open_features(section, tmp_path)


# ---- k-means ---------------------------------------------------------------------------------------------------------


def test_inertia_is_no_worse_than_scikit_learns():
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 4, (60, 16))
    frames = (centres[generator.integers(0, 60, 12_000)] + generator.normal(0, 3, (12_000, 16))).astype(np.float32)
    theirs = MiniBatchKMeans(40, batch_size=10_000, n_init=5, random_state=0, reassignment_ratio=0.0, tol=0.0)
    theirs.fit(frames)
    ours = clustering.centroids_of(frames, 40, 30, seed=0)
    labels, distances = clustering.nearest(frames, clustering.index_of(ours))
    assert distances.mean() <= 1.005 * theirs.inertia_ / len(frames)
    assert ours.dtype == np.float32
    assert (labels == pairwise_distances_argmin(frames.astype(float), ours.astype(float))).mean() > 0.9999


def test_the_seed_decides_the_centroids():
    frames = np.random.default_rng(0).normal(0, 1, (3_000, 8)).astype(np.float32)
    one, same, other = (clustering.centroids_of(frames, 20, 5, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_agreement_with_phones_is_scikit_learns_mutual_information():
    generator = np.random.default_rng(0)
    phones = generator.integers(0, 5, 4_000)
    found = np.where(generator.random(4_000) < 0.6, phones * 3, generator.integers(0, 15, 4_000))
    counts = np.zeros((5, 15))
    np.add.at(counts, (phones, found), 1)
    agreement = clustering.agreement_of(counts)
    assert agreement.pnmi == pytest.approx(mutual_info_score(phones, found) / entropy(counts.sum(axis=1)), rel=1e-12)
    assert agreement.phone_purity == pytest.approx(sum(max(counts[:, unit]) for unit in range(15)) / 4_000)
    assert agreement.unit_purity == pytest.approx(sum(max(row) for row in counts) / 4_000)
    assert clustering.agreement_of(np.eye(4)) == clustering.Agreement(1.0, 1.0, 1.0)
    assert clustering.agreement_of(np.ones((1, 4))).pnmi == 0.0


# ---- the sample of recordings ----------------------------------------------------------------------------------------


def test_a_sample_has_whole_recordings_in_their_order_and_just_enough_frames():
    frames = {flac: int(num_frames(recordings.num_samples(flac))) for flac in SOUNDS}
    for seed in range(20):
        drawn = units.drawn_recordings(iter(SOUNDS), 200, seed)
        assert [SOUNDS.index(each) for each in drawn] == sorted(SOUNDS.index(each) for each in drawn)
        total = sum(frames[each] for each in drawn)
        assert 200 <= total < 200 + max(frames.values())
    assert units.drawn_recordings(iter(SOUNDS), 10**9, 0) == SOUNDS


def test_every_recording_can_be_drawn_and_the_seed_says_which():
    draws = [units.drawn_recordings(iter(SOUNDS), 100, seed) for seed in range(40)]
    assert {SOUNDS.index(each) for drawn in draws for each in drawn} == set(range(len(SOUNDS)))
    assert draws[3] == units.drawn_recordings(iter(SOUNDS), 100, 3)


# ---- the encoder -----------------------------------------------------------------------------------------------------


def test_units_are_the_nearest_centroids_of_every_frame(tmp_path):
    encoder, _ = fitted(tmp_path)
    assert encoder.facts == {"num_units": 8, "frame_samples": 320}
    centroids = np.load(tmp_path / "centroids.npy")
    for flac, found in zip(SOUNDS, encoder.encode(SOUNDS), strict=True):
        wave = torch.from_numpy(recordings.as_waveform(recordings.decoded(flac)))
        expected = pairwise_distances_argmin(mfcc(wave)[::2].double().numpy(), centroids.astype(float))
        assert found.dtype == np.uint8
        assert found.tolist() == expected.tolist()


def test_more_than_256_units_take_two_bytes(tmp_path):
    keys = {"num_clusters": 257, "frame_budget": 10_000, "gates": {"max_empty": 257}}
    encoder, _ = fitted(tmp_path, **keys)
    assert encoder.encode(SOUNDS[:1])[0].dtype == np.uint16


def test_the_same_recordings_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        fitted(tmp_path / name)
    for file in ("centroids.npy", "units.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_the_report_tells_what_the_clustering_is_worth(tmp_path):
    encoder, report = fitted(tmp_path, held_out=SOUNDS[:3])
    labels = encoder.encode(SOUNDS)
    counts = np.bincount(np.concatenate(labels), minlength=8)
    assert report["num_frames"] == counts.sum()
    assert report["num_clusters_used"] == 8
    assert report["largest_share"] == pytest.approx(counts.max() / counts.sum())
    assert report["smallest_share"] == pytest.approx(counts.min() / counts.sum())
    segments = sum(1 + int((each[1:] != each[:-1]).sum()) for each in labels)
    assert report["mean_segment_seconds"] == pytest.approx(counts.sum() / segments * 0.02)
    assert report["held_out_num_frames"] == sum(map(len, labels[:3]))
    assert report["pictures"]["units.svg"].startswith("<svg")
    assert json.loads((tmp_path / "units.json").read_text())["report"]["inertia"] == report["inertia"]


def test_agreement_is_told_where_a_column_of_phones_is_named(tmp_path):
    phones = json.dumps([["a", 0.0, 0.2], ["i", 0.3, 0.5]])
    rows = [{"audio": flac, "phones": phones} for flac in SOUNDS]
    encoder, report = fitted(tmp_path, rows, rows[:4], phones="phones")
    counts = np.zeros((2, 8))
    for found in encoder.encode(SOUNDS[:4]):
        for frame, unit in enumerate(found):
            middle = frame * 0.02 + 0.0125
            if middle < 0.2 or 0.3 <= middle < 0.5:
                counts[int(middle >= 0.3), unit] += 1
    assert report["held_out_pnmi"] == pytest.approx(clustering.agreement_of(counts).pnmi)


def test_a_clustering_with_empty_clusters_is_refused(tmp_path):
    same = [recordings.encoded(np.tile(tones(0.02), 20))] * 10  # every frame alike, but at the ends
    with pytest.raises(Refused, match=r"of 64 clusters hold no frame.*Lower 'num_clusters'"):
        fitted(tmp_path, same, num_clusters=64)
    assert not (tmp_path / "units.json").exists()


def test_a_cluster_that_holds_nearly_everything_is_refused(tmp_path):
    quiet = [recordings.encoded(np.concatenate([np.zeros(64_000, np.int16), tones(0.5)]))] * 3
    with pytest.raises(Refused, match=r"One cluster holds .*% of all frames, at most 60%.*gates.max_share"):
        fitted(tmp_path, quiet)


def test_fewer_frames_than_clusters_are_refused(tmp_path):
    with pytest.raises(Refused, match=r"have 24 frames of 20 ms, expected at least as many as clusters: 30"):
        fitted(tmp_path, SOUNDS[:1], num_clusters=30)
    with pytest.raises(Refused, match="have 0 frames"):
        fitted(tmp_path, [])
