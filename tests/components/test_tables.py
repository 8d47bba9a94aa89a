"""CSV, TSV and Kaldi lists, and the files that their rows bring along: what becomes a record, what a reject."""

import csv
import errno
import gzip
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from components import paths, raw_files, sources, tables
from components.graph import stages
from components.ingest import ingest
from components.manifest import read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records
from components.validate import validate


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    return tmp_path


def write(name, content):
    path = paths.DATA / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def corpus(name="small", columns=None, source=None, **more):
    raw = {
        "description": "For a test.",
        "language": "und",
        "licence": "CC0-1.0",
        "source": {"kind": "files", "paths": [name], **(source or {})},
        "columns": columns or {"text": {"modality": "text"}},
        "max_reject_share": 1.0,
        **more,
    }
    Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def fields(path):
    return [row.fields for row in sources.read(path)]


def told_rejects(name="small"):
    rows = pq.read_table(paths.state("ingest", name) / "rejects.parquet").to_pylist()
    return [(row["where"], row["reason"]) for row in rows]


def sound(hz):
    """A tone of half a second, as the bytes of a WAV file."""
    stream = io.BytesIO()
    soundfile.write(stream, 0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000), 16000, format="WAV")
    return stream.getvalue()


LOW, HIGH = sound(203), sound(301)


def is_same(flac, wav):
    """Whether two files hold the same samples."""
    return np.array_equal(*(soundfile.read(io.BytesIO(each), dtype="int16")[0] for each in (flac, wav)))


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_a_csv_file_has_keys_in_its_first_line_and_cells_in_quotes():
    path = write("a.csv", '\ufeffid,text\r\n1,"a, ""b""\nand c"\r\n\r\n2,plain\r\n')
    rows = list(sources.read(path))
    assert [row.fields for row in rows] == [{"id": "1", "text": 'a, "b"\nand c'}, {"id": "2", "text": "plain"}]
    assert [row.where for row in rows] == ["data/a.csv:2", "data/a.csv:5"]


def test_a_tsv_file_takes_quotation_marks_as_they_are():
    assert fields(write("a.tsv", 'id\ttext\n1\tsaid "no\n2\t\n')) == [
        {"id": "1", "text": 'said "no'},
        {"id": "2", "text": ""},
    ]


def test_compressed_tables_are_read_alike():
    assert fields(write("a.csv.gz", gzip.compress(b"text\none\n"))) == [{"text": "one"}]


def test_rows_of_a_csv_file_that_cannot_be_read_are_told_and_the_rest_goes_on():
    path = write("a.csv", b'id,text\n1\n2,b,c\n3,\xff\n4,d\n5,"open\n')
    assert [(row.where.rpartition(":")[2], row.problem) for row in sources.read(path) if row.problem] == [
        ("2", "another number of cells than the first line of the table has"),
        ("3", "another number of cells than the first line of the table has"),
        ("4", "bytes that are not UTF-8"),
        ("6", "a quotation mark that is never closed"),
    ]
    assert [row.fields for row in sources.read(path) if row.fields] == [{"id": "4", "text": "d"}]


def test_a_stray_quotation_mark_costs_its_own_row_alone(monkeypatch):
    monkeypatch.setattr(tables, "MAX_QUOTED_CHARS", 2000)
    path = write("a.csv", 'id,text\n0,5" wide\n' + "".join(f"{number},plain words\n" for number in range(1, 2000)))
    rows = list(sources.read(path))
    assert [row.where.rpartition(":")[2] for row in rows if row.problem] == ["2"]
    assert rows[0].problem == "a quotation mark that is never closed"
    assert [row.fields["id"] for row in rows if row.fields] == [str(number) for number in range(1, 2000)]
    assert [row.where for row in rows] == [f"data/a.csv:{number}" for number in range(2, 2002)]


def test_two_stray_quotation_marks_do_not_swallow_what_stands_between():
    rows = list(sources.read(write("a.csv", 'text\n5" wide\nplain\n6" high\n"a\nb"\nend\n')))
    assert [row.where for row in rows if row.problem] == ["data/a.csv:2", "data/a.csv:4"]
    assert [row.fields["text"] for row in rows if row.fields] == ["plain", "a\nb", "end"]


def test_a_cell_that_is_longer_than_pythons_own_limit_is_read():
    text = "a" * (csv.field_size_limit() + 1)
    assert fields(write("a.csv", f'text\n"{text}"\n')) == [{"text": text}]


def test_a_table_that_names_a_key_twice_is_refused():
    with pytest.raises(Refused, match="first line names 'text' 2 times"):
        list(sources.read(write("a.csv", "text,text\n1,2\n")))


def kaldi(folder="small", **lists):
    for name, text in lists.items():
        write(f"{folder}/{'wav.scp' if name == 'wav' else name}", text)


def test_a_kaldi_folder_gives_one_row_for_each_recording_with_its_transcript_and_speaker():
    kaldi(wav="u1 a/1.wav\nu2 a b.wav\n", text="u1 are wa\nu2  kore da\n", utt2spk="u1 s1\nu2 s2\n")
    assert fields(paths.DATA / "small" / "wav.scp") == [
        {"id": "u1", "audio": "a/1.wav", "text": "are wa", "speaker": "s1"},
        {"id": "u2", "audio": "a b.wav", "text": "kore da", "speaker": "s2"},
    ]


def test_segments_of_a_kaldi_folder_are_rows_and_wrong_ones_are_told():
    kaldi(wav="r1 1.wav\n", segments="u1 r1 0.5 2.25\nu2 r9 0 1\nu3 r1 2 1\nu4 r1 x 1\nu5 r1\n", text="u1 a\n")
    rows = list(sources.read(paths.DATA / "small" / "wav.scp"))
    assert rows[0].fields == {"id": "u1", "audio": "1.wav", "begin": 0.5, "end": 2.25, "text": "a"}
    assert [row.problem for row in rows[1:]] == [
        "a segment of a recording that wav.scp does not name",
        "a segment that does not end after its begin",
        "a segment whose begin or end is no number",
        "a line of segments without recording, begin and end",
    ]


def test_lists_of_a_kaldi_folder_may_be_parted_by_tabs():
    kaldi(wav="r1\ta b.wav\n", segments="u1\tr1\t0 1\n", text="u1\tare wa\n", utt2spk="u1 \t s1\n")
    (row,) = fields(paths.DATA / "small" / "wav.scp")
    assert row == {"id": "u1", "audio": "a b.wav", "begin": 0.0, "end": 1.0, "text": "are wa", "speaker": "s1"}


@pytest.mark.parametrize("name", ["wav", "text", "utt2spk", "segments"])
def test_a_kaldi_list_that_names_one_twice_is_refused_with_both_places(name):
    kaldi(**{"wav": "u1 1.wav\n", name: "u1 u1 0 1\nu2 u1 1 2\nu1 u1 2 3\n"})
    with pytest.raises(Refused, match=r"small/\S+:3 names 'u1' a second time, after \S+:1"):
        list(sources.read(paths.DATA / "small" / "wav.scp"))


@pytest.mark.parametrize("place", ["sph2pipe -f wav a.sph |", "| touch owned"])
def test_a_command_in_a_kaldi_list_is_refused_and_not_run(place):
    kaldi(wav=f"u1 1.wav\nu2 {place}\n")
    with pytest.raises(Refused, match=r"wav\.scp:2 has a command in place of a path"):
        list(sources.read(paths.DATA / "small" / "wav.scp"))


# ---- files that rows bring along -------------------------------------------------------------------------------------

AUDIO = {"audio": {"modality": "speech", "form": "recording"}}
BRINGS = {"files_field": "audio", "id_field": "id"}


def test_a_row_has_the_bytes_of_its_file_and_a_missing_one_is_a_reject_that_names_it():
    corpus(columns=AUDIO, source={**BRINGS, "format": "tsv"})
    names = ["a/1.wav", "a/gone.wav", "", "a", "2.wav"]
    write("small/t.tsv", "id\taudio\n" + "".join(f"u{number}\t{name}\n" for number, name in enumerate(names)))
    write("small/a/1.wav", LOW)
    write("small/2.wav", HIGH)
    write("small/README.txt", "not a table of this corpus")
    ingest("small")
    rows = list(iterate_records("small", ["audio", "source", "file"], accepted_only=False))
    assert [row["id"] for row in rows] == ["u0", "u4"]
    assert is_same(rows[0]["audio"], LOW)
    assert is_same(rows[1]["audio"], HIGH)
    assert {row["source"] for row in rows} == {"small/t.tsv"}
    assert [row["file"] for row in rows] == ["a/1.wav", "2.wav"]
    assert read_manifest("ingest", "small").revisions["components.attached"] == 1
    assert told_rejects() == [
        ("data/small/t.tsv:3 (a/gone.wav)", "its file is not there (source.files_field)"),
        ("data/small/t.tsv:4", "an empty or broken path (source.files_field)"),
        ("data/small/t.tsv:5 (a)", "its file is not there (source.files_field)"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_a_reject_that_names_it():
    corpus(columns=AUDIO, source=BRINGS)
    write("small/t.csv", "id,audio\nu0,1.wav\nu1,2.wav\n")
    write("small/1.wav", LOW).chmod(0)
    write("small/2.wav", LOW)
    ingest("small")
    assert told_rejects() == [("data/small/t.csv:2 (1.wav)", "its file cannot be read: Permission denied")]


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/hostname", "a/../../secret.wav"])
def test_a_path_that_leads_out_of_its_folder_is_refused(name):
    corpus(columns=AUDIO, source=BRINGS)
    write("secret.wav", LOW)
    write("small/t.jsonl", json.dumps({"id": "u", "audio": name}))
    with pytest.raises(Refused, match=r"small/t\.jsonl:1 names '.*', which leads out of data/small"):
        ingest("small")


def test_paths_may_start_in_another_folder_which_then_is_raw_data_too():
    corpus(columns=AUDIO, source={**BRINGS, "paths": ["lists/core"], "files_folder": "sounds"})
    kaldi("lists/core", wav="u1 x/1.wav\n")
    write("sounds/x/1.wav", LOW)
    ingest("small")
    (row,) = iterate_records("small", ["audio"], accepted_only=False)
    assert is_same(row["audio"], LOW)
    assert set(read_manifest("ingest", "small").parents) == {"data/lists/core", "data/sounds"}
    (stage,) = [each for each in stages(Library()) if each.verb == "ingest"]
    assert stage.deps == ("data/lists/core", "data/sounds")
    assert ("components/attached.py", ("REVISION",)) in stage.params


def test_of_a_shared_folder_only_the_files_that_a_table_names_need_room(monkeypatch):
    corpus(columns=AUDIO, source={**BRINGS, "paths": ["lists/core"], "files_folder": "sounds"})
    kaldi("lists/core", wav="u1 x/1.wav\n")
    write("sounds/x/1.wav", LOW)
    write("sounds/x/2.wav", bytes(10_000_000))
    monkeypatch.setattr(raw_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    ingest("small")
    monkeypatch.setattr(raw_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=len(LOW)))
    with pytest.raises(Refused, match=r"needs about 19,\d+ bytes, and 16,044 are free"):
        ingest("small")


def test_a_single_table_that_brings_files_is_refused_since_they_would_not_count_as_raw_data():
    corpus(columns=AUDIO, source={**BRINGS, "paths": ["small/t.csv"]})
    write("small/t.csv", "id,audio\nu0,1.wav\n")
    with pytest.raises(Refused, match=r"Name its folder in source\.paths"):
        ingest("small")


def test_two_files_with_one_id_are_both_kept_and_told():
    corpus(columns=AUDIO, source=BRINGS)
    write("small/t.csv", "id,audio\nu,1.wav\nu,2.wav\n")
    write("small/1.wav", LOW)
    write("small/2.wav", HIGH)
    ingest("small")
    assert [row["id"] for row in iterate_records("small", [], accepted_only=False)] == ["u", "small/t.csv:3"]
    report = json.loads((paths.state("ingest", "small") / "report.json").read_text())
    assert report["repeated_ids"] == ["'u' again at data/small/t.csv:3 (2.wav), named 'small/t.csv:3'"]


def test_a_disk_that_fills_up_leaves_nothing_and_says_so(monkeypatch):
    corpus(columns=AUDIO, source=BRINGS)
    write("small/t.csv", "id,audio\nu,1.wav\n")
    write("small/1.wav", LOW)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("components.records.RecordWriter.add", full)
    with pytest.raises(Refused, match="The disk is full: artifacts/ingested/small"):
        ingest("small")
    assert not list(Path("artifacts/ingested").iterdir())


def test_parquet_of_the_hub_hands_on_bytes_with_their_path():
    corpus(columns=AUDIO)
    rows = [{"audio": {"bytes": LOW, "path": "1.flac"}, "text": "a"}, {"audio": {"bytes": HIGH, "path": None}}]
    (paths.DATA / "small").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), paths.DATA / "small" / "a.parquet")
    ingest("small")
    found = [row["audio"] for row in iterate_records("small", ["audio"], accepted_only=False)]
    assert is_same(found[0], LOW)
    assert is_same(found[1], HIGH)


def test_segments_are_cut_out_of_their_recording():
    corpus(
        columns={"audio": {"modality": "speech", "form": "recording", "begin": "begin", "end": "end"}},
        source={**BRINGS, "format": "kaldi"},
    )
    kaldi(wav="r1 1.wav\n", segments="u1 r1 0.0 0.25\nu2 r1 0.25 0.5\n")
    write("small/1.wav", LOW)
    ingest("small")
    found = [row["audio"] for row in iterate_records("small", ["audio"], accepted_only=False)]
    samples = soundfile.read(io.BytesIO(LOW), dtype="int16")[0]
    parts = [soundfile.read(io.BytesIO(each), dtype="int16")[0] for each in found]
    assert np.array_equal(np.concatenate(parts), samples)
    assert [len(part) for part in parts] == [4000, 4000]


def test_the_excerpt_of_a_reject_counts_bytes_and_shows_none():
    corpus(columns={**AUDIO, "text": {"modality": "text"}}, source=BRINGS)
    write("small/t.csv", "id,audio,text\nu,1.wav,words\n")
    write("small/1.wav", "a text file named .wav")
    with pytest.raises(Refused, match=r"audio: not readable as sound; first at data/small/t.csv:2 \(1\.wav\)"):
        ingest("small")
    (row,) = pq.read_table(paths.outcome_folder("ingest", "small") / "rejects.parquet").to_pylist()
    assert row["excerpt"] == "<22 bytes> | words"


def test_one_sound_under_two_transcripts_and_in_two_splits_fails_validation():
    transcript = {"modality": "speech", "form": "transcript", "front_end": "given", "inventory": ["a", "i"]}
    corpus(columns={**AUDIO, "transcript": transcript}, source={**BRINGS, "split_field": "part"})
    write("small/t.csv", "id,audio,transcript,part\nu,1.wav,a,train\nv,2.wav,i,test\nw,3.wav,a i,valid\n")
    for name, raw in (("1", LOW), ("2", LOW), ("3", HIGH)):
        write(f"small/{name}.wav", raw)
    ingest("small")
    with pytest.raises(Refused, match=r"no sound twice.*unique_mostly"):
        validate("small")


# ---- splits ----------------------------------------------------------------------------------------------------------


def rows_of_splits(*splits):
    write("small/t.csv", "text,part\n" + "".join(f"the words of {n},{split}\n" for n, split in enumerate(splits)))


def splits():
    return [row["split"] for row in iterate_records("small", [], accepted_only=False)]


def test_raw_data_may_name_the_split_and_other_names_are_rejects():
    corpus(source={"split_field": "part", "split_names": {"dev": "valid", "eval": "test", "train-clean": "train"}})
    rows_of_splits("train-clean", "dev", "eval", "other", "")
    ingest("small")
    assert splits() == ["train", "valid", "test"]
    assert [reason for _, reason in told_rejects()] == [
        "'part' is 'other', none of dev, eval, train-clean (source.split_names)",
        "'part' is '', none of dev, eval, train-clean (source.split_names)",
    ]


def test_valid_may_be_held_out_of_train_where_the_raw_data_have_none():
    source = {"split_field": "part", "valid_from_train": True}
    corpus(source=source, splits={"valid": 0.25, "test": 0.25})
    rows_of_splits(*["train"] * 200, *["test"] * 20)
    ingest("small")
    assert splits()[200:] == ["test"] * 20
    assert 30 < splits()[:200].count("valid") < 70
    assert "test" not in splits()[:200]


def test_a_corpus_may_belong_to_one_split_and_then_expects_no_other():
    corpus(splits={"only": "test"})
    rows_of_splits("x", "y")
    ingest("small")
    validate("small")
    assert splits() == ["test", "test"]


def test_keys_of_splits_and_files_that_would_do_nothing_are_refused():
    for source, words in (
        ({"split_names": {"a": "train"}}, "belong to 'split_field'"),
        ({"files_folder": "x"}, "belongs to 'files_field'"),
        ({"format": "kaldi"}, "write files_field: audio"),
    ):
        corpus(source=source)
        with pytest.raises(Refused, match=words):
            Library().read("corpus", "small")
    corpus(splits={"only": "test", "valid": 0.1})
    with pytest.raises(Refused, match="'only' leaves no shares"):
        Library().read("corpus", "small")


def talks(*rows):
    text = "".join(json.dumps({"prompt": p, "response": r, "part": part}) + "\n" for p, r, part in rows)
    write("small/t.jsonl", text)
    corpus(columns={"talk": {"modality": "text", "form": "conversation"}}, source={"split_field": "part"})
    ingest("small")


def held_out():
    return [("a held out prompt", "b", "valid"), ("another held out prompt", "c", "test")]


def test_a_prompt_that_stands_in_two_splits_fails_validation():
    talks(("one prompt", "an answer", "train"), ("one prompt", "another answer", "test"), *held_out())
    with pytest.raises(Refused, match="no talk prompt in two splits"):
        validate("small")


def test_a_few_prompts_in_two_splits_are_left_out():
    many = [(f"prompt number {number}", "an answer", "train") for number in range(200)]
    talks(("one prompt", "an answer", "train"), ("one prompt", "another answer", "test"), *many, *held_out())
    validate("small")
    assert read_manifest("validate", "small").counts["num_accepted"] == 202


def test_speakers_stay_in_one_split_unless_the_column_says_that_they_may_be_in_several():
    for may, is_refused in ((False, True), (True, False)):
        speaker = {"modality": "speech", "form": "speaker", "may_share_splits": may}
        corpus(
            columns={"text": {"modality": "text"}, "speaker": {**speaker, "field": "who"}},
            source={"split_field": "part"},
        )
        write("small/t.csv", "text,who,part\nwords one,s1,train\nwords two,s1,test\nwords three,s2,valid\n")
        ingest("small")
        if is_refused:
            with pytest.raises(Refused, match="no speaker in two splits"):
                validate("small")
        else:
            validate("small")


def test_speakers_decide_the_split_where_the_raw_data_name_none():
    corpus(
        columns={"text": {"modality": "text"}, "speaker": {"modality": "speech", "form": "speaker"}},
        splits={"valid": 0.3, "test": 0.3},
    )
    rows = "".join(f"words of {number},s{number % 20}\n" for number in range(100))
    write("small/t.csv", f"text,speaker\n{rows}")
    ingest("small")
    validate("small")
    of_speaker = {}
    for row in iterate_records("small", ["speaker"]):
        of_speaker.setdefault(row["speaker"], set()).add(row["split"])
    assert all(len(each) == 1 for each in of_speaker.values())
    assert set.union(*of_speaker.values()) == {"train", "valid", "test"}
