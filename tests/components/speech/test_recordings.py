import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from components.modalities import Rejected, modality
from components.modalities.speech import checking, recordings
from components.modalities.speech.schema import Column
from tests.components.speech.small_speech import sound_file, tones

RECORDING = {"modality": "speech", "form": "recording"}
FLAC = sound_file(tones(1.0), kind="FLAC")


def column(**keys) -> Column:
    return Column.model_validate(RECORDING | keys)


def read(raw, parts=None, **keys) -> bytes:
    return modality("speech").reader(column(**keys))({"audio": raw} | (parts or {}))


# ---- what becomes a recording ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT")])
def test_lossless_sound_at_16_khz_keeps_every_sample(kind, subtype):
    samples = tones(1.0)
    raw = samples if subtype == "PCM_16" else samples.astype(np.float32) / 32_768
    assert recordings.decoded(read(sound_file(raw, kind=kind, subtype=subtype))).tolist() == samples.tolist()


def test_a_clean_recording_read_again_has_the_same_bytes():
    clean = read(FLAC)
    assert read(clean) == clean
    assert read({"bytes": FLAC, "path": "somewhere.flac"}) == clean


def test_8_khz_is_resampled_as_torchaudio_does_and_remembered():
    samples = tones(1.0, rate=8_000)
    clean = read(sound_file(samples, 8_000))
    expected = resample(torch.from_numpy(samples.astype(np.float32) / 32_768), 8_000, 16_000).numpy()
    found = recordings.decoded(clean)
    assert len(found) == 16_000
    assert np.abs(found / 32_768 - expected).max() <= 0.5 / 32_768 + 1e-7
    assert checking.check(clean, column())["sample_rate_hz"] == 8_000
    assert checking.check(read(FLAC), column())["sample_rate_hz"] == 16_000


def test_channels_are_averaged():
    left, right = tones(0.5, 1), tones(0.5, 2)
    found = recordings.decoded(read(sound_file(np.stack([left, right], axis=1))))
    assert np.abs(found - (left.astype(float) + right) / 2).max() <= 0.5


def test_what_is_louder_than_full_scale_is_limited_and_not_turned_over():
    loud = np.concatenate([np.full(8_000, 1.5), np.full(8_000, -1.5)]).astype(np.float32)
    found = recordings.decoded(read(sound_file(loud, subtype="FLOAT")))
    assert found.min() == -32_768
    assert found.max() == 32_767
    assert (found[:8_000] > 0).all()


def test_bounds_cut_an_utterance_out_of_a_long_recording():
    keys = {"begin": "from", "end": "to"}
    assert column(**keys).raw_keys == {"audio": "audio", "begin": "from", "end": "to"}
    samples = tones(2.0)
    clean = read(sound_file(samples), {"begin": "0.5", "end": 1.25}, **keys)
    assert recordings.decoded(clean).tolist() == samples[8_000:20_000].tolist()


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (FLAC[: len(FLAC) // 2], "ends early"),
        (FLAC[:60], "ends early"),
        (sound_file(tones(1.0))[:-1000], "ends early"),
        (b"This is a text, whatever its name says.\n" * 50, "not readable as sound"),
        (b"", "not readable as sound"),
        (sound_file(tones(0.1)), r"shorter than 0.2 s \(filters.min_seconds\)"),
        (sound_file(np.tile(tones(1.0), 61)), r"longer than 60 s \(filters.max_seconds\)"),
        (sound_file(np.zeros(16_000, np.int16)), r"silent: its level is below -60 dB \(filters.min_level_db\)"),
        (sound_file(np.zeros(0, np.int16)), "no sound in it"),
        (sound_file(np.full(16_000, np.nan, np.float32), subtype="FLOAT"), "no numbers"),
        (sound_file(tones(1.0), rate=1_000), "sample rate is not within"),
        ("audio/1.wav", "no bytes of a sound file"),
    ],
)
def test_broken_sound_is_rejected_with_its_reason(raw, reason):
    with pytest.raises(Rejected, match=reason):
        read(raw)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"begin": "x", "end": 1}, "no number of seconds"),
        ({"begin": 1, "end": 1}, "end is not after its begin"),
        ({"begin": 5, "end": 6}, "begins after the end of its file"),
    ],
)
def test_bounds_that_make_no_sense_are_rejected(parts, reason):
    with pytest.raises(Rejected, match=reason):
        read(FLAC, parts, begin="b", end="e")


UNCOMPRESSED = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"]


@pytest.mark.parametrize(
    ("kind", "subtype"), [*((kind, "PCM_16") for kind in UNCOMPRESSED), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_a_truncated_file_of_any_format_is_rejected_and_a_whole_one_is_not(kind, subtype):
    whole = sound_file(tones(1.0), kind=kind, subtype=subtype)
    assert len(recordings.decoded(read(whole))) == 16_000
    for cut in (100, len(whole) // 3, len(whole) // 2):
        with pytest.raises(Rejected, match="ends early"):
            read(whole[:-cut])


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000])
def test_a_wav_that_was_written_to_a_pipe_is_whole(size):
    samples = tones(1.0)
    raw = bytearray(sound_file(samples))
    place = raw.index(b"data") + 4
    raw[place : place + 4] = size.to_bytes(4, "little")
    raw[4:8] = min(size + 36, 0xFFFF_FFFF).to_bytes(4, "little")
    assert recordings.decoded(read(bytes(raw))).tolist() == samples.tolist()


def test_a_flac_whose_head_states_no_length_is_rejected_and_stops_nothing():
    raw = bytearray(FLAC)
    raw[21] &= 0xF0  # the 36 bits of the number of samples (RFC 9639, 8.2)
    raw[22:26] = bytes(4)
    with pytest.raises(Rejected, match="does not say how long it is"):
        read(bytes(raw))


def test_a_segment_may_end_a_little_after_its_file_and_no_more():
    keys = {"begin": "b", "end": "e"}
    clean = read(FLAC, {"begin": 0.5, "end": 1.09}, **keys)
    assert len(recordings.decoded(clean)) == 8_000
    with pytest.raises(Rejected, match="ends after the end of its file"):
        read(FLAC, {"begin": 0.5, "end": 1.2}, **keys)


# ---- facts and expectations ------------------------------------------------------------------------------------------


def test_level_clipping_and_silence_are_what_a_person_computes():
    square = np.tile(np.array([16_384, -16_384], np.int16), 8_000)
    assert recordings.level_db(square) == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    half = np.concatenate([square[:8_000], np.zeros(8_000, np.int16)])
    assert recordings.silent_share(half) == 0.5
    clipped = square.copy()
    clipped[:160] = 32_767
    assert recordings.clipped_share(clipped) == 0.01


def test_facts_say_how_long_a_recording_is():
    assert checking.check(read(FLAC), column())["seconds"] == 1.0


@pytest.mark.parametrize("form", ["recording", "transcript"])
def test_every_expectation_names_a_fact_and_keys_that_the_schema_has(form):
    section = Column.model_validate({"modality": "speech", "form": form})
    value = read(FLAC) if form == "recording" else "こんにちは"
    facts = {f"audio_{key}" for key in checking.check(value, section)}
    found = checking.expectations("audio", section, "ja")
    assert found
    for _, arguments in found:
        assert arguments["column"] in facts
        assert arguments["meta"]["claim"]
        for key in arguments["meta"]["keys"]:
            place = section
            for part in key.removeprefix("columns.audio.").split("."):
                place = getattr(place, part)


def test_keys_that_would_do_nothing_are_refused():
    with pytest.raises(ValueError, match="no key of a column of form 'speaker'"):
        Column.model_validate({"modality": "speech", "form": "speaker", "filters": {"min_seconds": 1}})
    with pytest.raises(ValueError, match="belong together"):
        column(begin="b")


def test_all_recordings_of_a_speaker_share_a_split_unless_the_column_says_otherwise():
    speaker = {"modality": "speech", "form": "speaker"}
    speech = modality("speech")
    assert speech.prompt_of("S01", Column.model_validate(speaker)) == "S01"
    assert speech.prompt_of("S01", Column.model_validate(speaker | {"may_share_splits": True})) is None
    assert speech.prompt_of("こんにちは", Column.model_validate({"modality": "speech", "form": "transcript"})) is None
