"""A corpus read aloud: speakers that differ, the same bytes each time, nothing said twice, and what is refused."""

import hashlib
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from components import paths, speaking
from components.graph import stages
from components.ingest import ingest
from components.kept import Kept
from components.manifest import read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records
from components.validate import validate
from components.voices import openjtalk
from components.voices.openjtalk import OpenJTalk, warped
from components.voices.schema import Speaker

LINES = [("赤、青", "a", "train"), ("三、五", "a", "train"), ("赤、青", "b", "valid"), ("夜", "c", "test")]
LENGTH, DIGEST = 27280, "9ef2f2c6ec6dd840"
SPEAKERS = {"a": {}, "b": {"half_tone": -5, "speed": 1.2}, "c": {"warp": 0.62}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path / "checkpoints"))


def write(name, section):
    Path("recipes/corpora").mkdir(parents=True, exist_ok=True)
    Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(section, allow_unicode=True))


def write_corpora(lines=LINES, columns=None, **source):
    common = {"description": "Words.", "language": "und", "licence": "CC0-1.0"}
    who = {"modality": "speech", "form": "speaker"}
    files = {"kind": "files", "paths": ["words"], "split_field": "split", "id_field": "id"}
    write("words", {**common, "source": files, "columns": {"text": {"modality": "text"}, "speaker": who}})
    engine = {"kind": "openjtalk", "licence": "CC BY 3.0", "attribution": "Somebody."}
    spoken = {"kind": "spoken", "corpus": "words", "engine": engine, "speakers": SPEAKERS, **source}
    said = {
        "audio": {"modality": "speech", "form": "recording"},
        "transcript": {"modality": "speech", "form": "transcript"},
        "speaker": who,
    }
    more = {"licence": "CC BY 3.0", "allowed_licences": ["CC0-1.0"], "max_reject_share": 1.0}
    write("spoken", {**common, **more, "source": spoken, "columns": columns or said})
    rows = [
        {"id": f"n{number}", "text": text, "speaker": speaker, "split": split}
        for number, (text, speaker, split) in enumerate(lines)
    ]
    Path("data/words").mkdir(parents=True, exist_ok=True)
    Path("data/words/a.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    ingest("words")
    validate("words")


def rows():
    return list(iterate_records("spoken", ["audio", "transcript", "speaker", "licence"], accepted_only=False))


def samples(flac):
    wave, rate = soundfile.read(io.BytesIO(flac))
    assert rate == 16000
    return wave


def test_every_record_is_read_aloud_and_keeps_its_id_split_and_licence():
    write_corpora()
    ingest("spoken")
    validate("spoken")
    found = rows()
    assert [(row["id"], row["split"], row["speaker"], row["transcript"]) for row in found] == [
        (f"n{number}", split, speaker, text) for number, (text, speaker, split) in enumerate(LINES)
    ]
    assert {row["licence"] for row in found} == {"CC0-1.0"}
    lengths = [len(samples(row["audio"])) / 16000 for row in found]
    assert all(0.3 < seconds < 2.5 for seconds in lengths)
    assert lengths[2] < lengths[0]  # the same words, faster
    details = read_manifest("ingest", "spoken").details
    assert details["engines"] == {"the voice mei_normal": "CC BY 3.0"}
    assert details["speech"]["attribution"] == "Somebody."
    assert details["speech"]["seconds"] == pytest.approx(sum(lengths), abs=0.01)


def test_the_same_words_have_the_same_bytes_each_time_and_other_ones_by_another_speaker():
    write_corpora(noise={})
    ingest("spoken")
    first = [row["audio"] for row in rows()]
    before = read_manifest("ingest", "spoken").payload_hash
    for kept in (Path("checkpoints") / "speech").glob("*"):
        kept.unlink()
    ingest("spoken")
    assert [row["audio"] for row in rows()] == first
    assert read_manifest("ingest", "spoken").payload_hash == before
    assert first[0] != first[2]


def test_noise_is_as_loud_as_was_asked_and_differs_between_records():
    write_corpora(lines=[("赤、青", "a", "train"), ("赤、青", "b", "valid"), ("夜", "c", "test")])
    ingest("spoken")
    clean = [samples(row["audio"]) for row in rows()]
    write_corpora(noise={"min_snr_db": 20, "max_snr_db": 20}, lines=[*LINES[:1], *LINES[2:]])
    ingest("spoken")
    for pure, row in zip(clean, rows(), strict=True):
        noise = samples(row["audio"]) - pure
        assert 10 * np.log10((pure**2).sum() / (noise**2).sum()) == pytest.approx(20, abs=0.1)
        assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.05


def test_what_has_been_said_is_not_said_again(monkeypatch):
    write_corpora()
    ingest("spoken")
    before = read_manifest("ingest", "spoken").payload_hash
    asked = []
    monkeypatch.setattr(OpenJTalk, "say", lambda *arguments: asked.append(arguments))
    ingest("spoken")
    assert not asked
    assert read_manifest("ingest", "spoken").payload_hash == before


def test_a_run_that_is_stopped_goes_on_from_what_is_kept(monkeypatch):
    monkeypatch.setattr(speaking.Speech, "CHUNK_RECORDS", 4)
    write_corpora()
    say, said = OpenJTalk.say, []

    def stopping(self, text, speaker):
        if len(said) == 2:
            raise KeyboardInterrupt
        said.append(text)
        return say(self, text, speaker)

    monkeypatch.setattr(OpenJTalk, "say", stopping)
    with pytest.raises(KeyboardInterrupt):
        ingest("spoken")
    assert not list(Path("artifacts/ingested").glob("*spoken*"))
    monkeypatch.setattr(OpenJTalk, "say", lambda *arguments: said.append(arguments[1]) or say(*arguments))
    ingest("spoken")
    assert said == [text for text, _, _ in LINES]


def test_what_cannot_be_spoken_and_unknown_speakers_are_rejects():
    write_corpora(lines=[*LINES, ("。。。", "a", "train"), ("黒", "zoe", "train")])
    ingest("spoken")
    assert read_manifest("ingest", "spoken").details["rejects"] == {
        "no speaker 'zoe' (source.speakers)": 1,
        "nothing in it can be spoken": 1,
    }


def test_columns_that_nothing_is_said_for_are_refused():
    write_corpora(columns={"text": {"modality": "text"}})
    with pytest.raises(Refused, match="expected one recording"):
        ingest("spoken")
    write_corpora(speaker_column="who")
    with pytest.raises(
        Refused, match=r"reads the column 'who' of corpus 'words', which has speaker, text.*speaker_col"
    ):
        ingest("spoken")


def test_the_stage_depends_on_the_other_corpus():
    write_corpora()
    (stage,) = [each for each in stages(Library()) if each.verb == "ingest" and each.name == "spoken"]
    assert set(stage.deps) == {paths.payload(verb, "words").as_posix() for verb in ("ingest", "validate")}


def test_the_revision_of_the_voice_decides_the_stage_and_stands_in_its_manifest():
    write_corpora()
    (stage,) = [each for each in stages(Library()) if each.key == "ingest-spoken"]
    assert ("components/voices/openjtalk.py", ("REVISION",)) in stage.params
    ingest("spoken")
    assert read_manifest("ingest", "spoken").revisions["components.voices.openjtalk"] == openjtalk.REVISION


def test_a_warped_voice_differs_in_one_number_and_sounds_darker():
    engine = OpenJTalk("mei_normal")
    voice = engine.voice
    changed = warped(voice, 0.62)
    assert len(changed) == len(voice)
    assert b"OPTION[MCP]:ALPHA=0.62\n" in changed
    assert changed.replace(b"ALPHA=0.62", b"ALPHA=0.55") == voice

    def centroid(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2
        return (power * np.fft.rfftfreq(len(wave), 1 / 16000)).sum() / power.sum()

    plain, dark = (engine.say("あおいいえ", Speaker(warp=warp)) for warp in (0.55, 0.62))
    assert len(plain) == len(dark)
    assert centroid(dark) < 0.9 * centroid(plain)
    with pytest.raises(Refused, match="names its ALPHA 0 times"):
        warped(b"another voice", 0.5)


def test_a_higher_speaker_has_a_higher_pitch():
    engine = OpenJTalk("mei_normal")

    def pitch(wave):
        """Median over frames of 40 ms of the first high peak of the autocorrelation, between 70 and 500 Hz."""
        found = []
        for frame in np.lib.stride_tricks.sliding_window_view(wave.astype(float), 640)[::320]:
            if (frame**2).mean() > 0.2 * (wave**2).mean():
                same = np.correlate(frame, frame, "full")[639:] / (640 - np.arange(640))
                high = same[32:228] > 0.85 * same[32:228].max()
                found.append(16000 / (32 + high.argmax() + same[32 + high.argmax() :][:8].argmax()))
        return np.median(found)

    low, high = (pitch(engine.say("あおいいえ", Speaker(half_tone=tone))) for tone in (-6, 6))
    assert 1.5 < high / low < 2.5  # an octave, as far as so simple a measure tells


def test_what_is_kept_may_be_bytes_and_a_full_disk_is_told(tmp_path):
    kept = Kept("speech", {"voice": "x"})
    kept.keep({"a": b"\x00\xff"})
    assert Kept("speech", {"voice": "x"}).recall(["a", "b"]) == {"a": b"\x00\xff"}
    limit = (kept.path.stat().st_size + 8192) // 4096

    class Small(Kept):
        def _open(self):
            file = super()._open()
            file.execute(f"PRAGMA max_page_count = {limit}")  # SQLite then says what it says of a full disk
            return file

    with pytest.raises(Refused, match=r"The disk is full: .* keeps the speech made so far"):
        Small("speech", {"voice": "x"}).keep({"b": b"\x00" * 1_000_000})
    assert kept.recall(["a", "b"]) == {"a": b"\x00\xff"}


def test_what_is_kept_and_cannot_be_written_now_is_not_told_to_be_broken():
    kept = Kept("speech", {"voice": "x"})
    with closing(sqlite3.connect(kept.path)) as other:
        other.execute("BEGIN EXCLUSIVE")

        class Hasty(Kept):
            def _open(self):
                return sqlite3.connect(self.path, timeout=0.01)

        with pytest.raises(Refused, match="is not broken, but SQLite cannot use it now: database is locked"):
            Hasty("speech", {"voice": "x"})
    kept.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(Refused, match="move it away to begin again"):
        kept.recall(["a"])
    with pytest.raises(Refused, match="move it away to begin again"):
        Kept("speech", {"voice": "x"})


def test_the_demos_first_recording_is_the_recorded_one():
    """Held with `REVISION`: another voice, engine or way of adding noise changes every state made from it."""
    wave = OpenJTalk("mei_normal").say("赤、三", Speaker(half_tone=-8, speed=0.95, warp=0.62))
    rounded = np.rint(wave * 256).astype("<i2")
    assert len(wave) == LENGTH
    assert hashlib.sha256(rounded.tobytes()).hexdigest()[:16] == DIGEST
