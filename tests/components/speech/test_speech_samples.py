import json
from types import SimpleNamespace

import numpy as np
import pytest

from components import paths
from components.fit import fit
from components.manifest import read_manifest, tree_hash
from components.modalities import modality
from components.modalities.speech import recordings
from components.modalities.speech.samples import buckets_of
from components.modalities.speech.shards import Arrays
from components.outcomes import Refused
from components.shard import shard
from tests.components.sharded import sharded
from tests.components.speech.small_speech import small_records, write_project, write_records

NAMES = ("tones+wave", "tones+units", "tones+phones")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A corpus under three encoders, made by the verbs."""
    return sharded(tmp_path_factory.mktemp("speech"), small_records(), write_project, NAMES)


@pytest.fixture(autouse=True)
def _inside(project, monkeypatch):
    monkeypatch.chdir(project.root)


def spec(form="crops", **keys) -> SimpleNamespace:
    found = {"waveforms": ["tones+wave"], "min_seconds": 0.3, "max_seconds": 1.5, "batch_seconds": 4.0}
    return SimpleNamespace(form=form, **({"batch_samples": 1} | found | keys))


def opened(form="crops", split="train", weight=1.0, **keys):
    name = "tones+units" if form == "crops" else "tones+phones"
    return modality("speech").open_samples([(paths.payload("shard", name), weight)], split, spec(form, **keys))


def of_split(project, split):
    return [record for record in project.records if record["split"] == split]


# ---- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_shards_hold_what_encoders_give_in_the_order_of_records(project, split):
    for name, column in (("tones+wave", "audio"), ("tones+units", "audio"), ("tones+phones", "transcript")):
        encoder = modality("speech").open_encoder(paths.payload("fit", name.partition("+")[2]))
        arrays = Arrays(paths.payload("shard", name), split)
        expected = encoder.encode([record[column] for record in of_split(project, split)])
        assert [arrays.part(number).tolist() for number in range(len(arrays))] == [each.tolist() for each in expected]


def test_the_manifest_counts_seconds_and_units(project):
    counts = read_manifest("shard", "tones+wave").counts
    total = sum(recordings.num_samples(record["audio"]) for record in of_split(project, "train"))
    assert counts["train/records"] == len(of_split(project, "train"))
    assert counts["train/seconds"] == pytest.approx(total / 16_000, abs=0.01)
    units = read_manifest("shard", "tones+units").counts
    assert units["num_units_used"] == 8
    assert units["largest_unit_share"] < 0.6


def test_fit_leaves_a_report_and_a_picture_beside_the_encoder():
    state = paths.state("fit", "units")
    report = json.loads((state / "report.json").read_text())
    assert report["num_clusters"] == 8
    assert "pictures" not in report
    assert (state / "units.svg").read_text().startswith("<svg")
    assert (paths.journal("fit", "units") / "units.svg").is_file()


def test_a_shard_that_was_cut_is_refused_by_name(project, tmp_path):
    place = paths.payload("shard", "tones+units") / "train" / "values.bin"
    whole = place.read_bytes()
    place.write_bytes(whole[:-1])
    with pytest.raises(Refused, match=r"was cut, or written on.*hiraku shard tones\+units"):
        opened()
    place.write_bytes(whole)


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_buckets_hold_every_recording_once_and_no_group_is_too_long():
    lengths = np.sort(np.random.default_rng(0).integers(400, 250_000, 5_000))[::-1]
    buckets = buckets_of(lengths, 1_000_000)
    assert [each.start for each in buckets] == [0, *np.cumsum([each.size for each in buckets])[:-1]]
    assert sum(each.size for each in buckets) == 5_000
    for bucket in buckets:
        longest, shortest = lengths[bucket.start], lengths[bucket.start + bucket.size - 1]
        assert shortest >= 0.85 * longest
        assert -(-bucket.size // bucket.num_groups) * longest <= 1_000_000
    assert [each.num_groups for each in buckets_of(np.array([900, 800]), 100)] == [2]


def found_in(samples, epoch) -> list[bytes]:
    """Every recording of an epoch, by the first samples of an utterance."""
    batches = [samples.batch(np.array([number]), epoch) for number in range(len(samples))]
    return [
        wave[:length].numpy().tobytes()
        for batch in batches
        for wave, length in zip(batch["waveforms"], batch["lengths"].tolist(), strict=True)
    ]


def test_an_epoch_has_every_recording_once_and_another_groups_them_anew(project):
    samples = opened("utterances", max_seconds=9.0, batch_seconds=9.0)
    expected = sorted(
        recordings.as_waveform(recordings.decoded(record["audio"])).tobytes() for record in of_split(project, "train")
    )
    one, other = found_in(samples, 0), found_in(samples, 1)
    assert sorted(one) == sorted(other) == expected
    assert one != other


def test_a_batch_is_a_pure_function_of_its_number_and_epoch():
    first, second = opened(), opened()
    for number in reversed(range(len(first))):
        one, other = (samples.batch(np.array([number]), 3) for samples in (first, second))
        assert all(np.array_equal(one[key], other[key]) for key in one)
    several = first.batch(np.array([1, 0]), 3)
    assert np.array_equal(several["waveforms"][1], second.batch(np.array([0]), 3)["waveforms"])


def test_held_out_recordings_are_cut_alike_in_every_epoch():
    samples = opened(split="valid")
    for number in range(len(samples)):
        one, other = (samples.batch(np.array([number]), epoch) for epoch in (0, 5))
        assert np.array_equal(one["waveforms"], other["waveforms"])


def test_crops_begin_where_units_begin_and_nothing_is_padded(project):
    samples = opened()
    encoder = modality("speech").open_encoder(paths.payload("fit", "units"))
    whole = {record["id"]: recordings.decoded(record["audio"]) for record in of_split(project, "train")}
    units = {key: encoder.units_of(each) for key, each in whole.items()}
    for number in range(len(samples)):
        batch = samples.batch(np.array([number]), 0)
        waves = np.rint(batch["waveforms"].numpy() * 32_768).astype(np.int16)
        frames = (waves.shape[1] - 400) // 320 + 1
        assert batch["targets"].shape == (len(waves), frames)
        assert batch["lengths"].tolist() == [waves.shape[1]] * len(waves)
        assert 0.3 * 16_000 - 320 <= waves.shape[1] <= 1.5 * 16_000
        for wave, targets in zip(waves, batch["targets"].tolist(), strict=True):
            starts = [
                (key, start)
                for key, each in whole.items()
                for start in range(0, len(each) - len(wave) + 1, 320)
                if np.array_equal(each[start : start + len(wave)], wave)
            ]
            assert len(starts) == 1
            key, start = starts[0]
            assert units[key][start // 320 : start // 320 + frames].tolist() == targets


def test_utterances_are_whole_and_padded_with_zeros(project):
    samples = opened("utterances", max_seconds=9.0, batch_seconds=9.0)
    encoder = modality("speech").open_encoder(paths.payload("fit", "phones"))
    said = {
        recordings.as_waveform(recordings.decoded(record["audio"])).tobytes(): encoder.encode([record["transcript"]])[0]
        for record in of_split(project, "train")
    }
    for number in range(len(samples)):
        batch = samples.batch(np.array([number]), 0)
        for row, (length, size) in enumerate(
            zip(batch["lengths"].tolist(), batch["target_lengths"].tolist(), strict=True)
        ):
            wave = batch["waveforms"][row].numpy()
            assert not wave[length:].any()
            assert batch["targets"][row, :size].tolist() == said[wave[:length].tobytes()].tolist()
            assert not batch["targets"][row, size:].any()


def test_groups_have_about_equal_lengths():
    samples = opened("utterances", max_seconds=9.0, batch_seconds=4.0)
    for number in range(len(samples)):
        lengths = samples.batch(np.array([number]), 0)["lengths"]
        assert lengths.min() >= 0.85 * lengths.max()
        assert len(lengths) * lengths.max() <= 4.0 * 16_000


def test_a_weight_says_how_often_an_epoch_reads():
    whole, half, twice = (opened(weight=weight) for weight in (1.0, 0.5, 2.0))
    assert len(half) == round(len(whole) / 2)
    assert len(twice) == 2 * len(whole)
    seen = {
        half.batch(np.array([number]), epoch)["targets"].numpy().tobytes()
        for epoch in range(2)
        for number in range(len(half))
    }
    assert len(seen) == 2 * len(half)
    assert len(opened(split="valid", weight=0.1)) == len(opened(split="valid"))


# ---- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"waveforms": []}, "1 shards are to be predicted and 0 are heard"),
        ({"waveforms": ["tones+units"]}, "holds units, expected waveform.*samples.waveforms"),
        ({"waveforms": ["tones+nothing"]}, r"hiraku shard tones\+nothing"),
        (
            {"min_seconds": 50.0, "max_seconds": 60.0},
            "16 of 16 recordings .* are not 50 to 60 seconds long.*samples.min_seconds",
        ),
        ({"batch_samples": 100}, r"a step takes 100 \(samples.batches_per_step\)"),
    ],
)
def test_samples_that_cannot_be_made_are_refused(keys, reason):
    with pytest.raises(Refused, match=reason):
        opened(**keys)


def test_recordings_that_are_left_out_are_told_with_their_seconds(project):
    assert opened().left_out == ""
    lengths = [recordings.num_samples(each["audio"]) / 16_000 for each in project.records if each["split"] == "train"]
    short = [each for each in lengths if each < 0.8]
    told = opened(min_seconds=0.8).left_out
    assert told.startswith(f"{len(short)} of {len(lengths)} recordings ({sum(short):.1f} s) are left out")


def test_phonemes_are_no_targets_of_crops():
    with pytest.raises(Refused, match="holds phonemes, expected units"):
        modality("speech").open_samples([(paths.payload("shard", "tones+phones"), 1.0)], "train", spec())


def test_shards_of_other_records_do_not_pair_up(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(project.records)
    for name in ("wave", "units"):
        fit(name)
    shard("tones+wave")
    write_records(project.records[:-1])
    fit("units")
    shard("tones+units")
    with pytest.raises(Refused, match="not made from the same accepted records"):
        opened()


def test_how_many_recordings_are_encoded_at_once_has_no_influence(monkeypatch):
    before = tree_hash(paths.payload("shard", "tones+units"))
    monkeypatch.setattr("components.shard.BATCH_SIZE", 30_000)
    shard("tones+units")
    assert tree_hash(paths.payload("shard", "tones+units")) == before


def test_a_batch_reads_as_seconds_and_runs_of_units():
    batch = {"targets": np.array([[3, 3, 3, 7]]), "lengths": [1360]}
    assert modality("speech").describe(batch, None) == ["0.09 s: 3x3 7"]
