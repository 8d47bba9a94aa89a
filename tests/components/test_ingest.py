"""`ingest`: what becomes a record, what a reject and why, and what refuses a corpus."""

import errno
import gzip
import hashlib
import json
import shutil
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from components import ingest as verb
from components import paths, records
from components.ingest import ingest
from components.manifest import read_manifest, tree_hash
from components.outcomes import Refused

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "text_ja"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    return tmp_path


def corpus(name="small", column=None, source=None, **more):
    """Write a corpus YAML."""
    raw = {
        "description": "For a test.",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": {"kind": "files", "paths": [name], **(source or {})},
        "columns": {"text": {"modality": "text", **(column or {})}},
        **more,
    }
    Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")


def raw(rows, name="small/a.jsonl"):
    """Write raw rows: mappings as JSON lines, strings as they are."""
    path = paths.DATA / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentences(count, start=0):
    return [{"text": f"第{number}話。昔々あるところに猫がいました。"} for number in range(start, start + count)]


def all_records(name="small", columns=("text", "licence", "source")):
    return list(records.iterate_records(name, list(columns), accepted_only=False))


def rejects(name="small", folder=None):
    return pq.read_table((folder or paths.state("ingest", name)) / "rejects.parquet").to_pylist()


def test_rows_become_records_in_order_with_licence_source_and_id():
    corpus(source={"licence_field": "license", "source_field": "from", "id_field": "id"})
    raw(
        [
            {"text": "一つ目の文書です。", "license": "MIT", "from": "wiki", "id": "a"},
            {"text": "二つ目の文書です。", "id": 7},
            {"text": "三つ目の文書です。", "license": None, "id": "a"},
        ]
    )
    ingest("small")
    found = all_records()
    assert [each["text"] for each in found] == ["一つ目の文書です。", "二つ目の文書です。", "三つ目の文書です。"]
    assert [each["id"] for each in found] == ["a", "7", "small/a.jsonl:3"]
    assert [each["licence"] for each in found] == ["MIT", "CC0-1.0", "CC0-1.0"]
    assert [each["source"] for each in found] == ["wiki", "small/a.jsonl", "small/a.jsonl"]


def test_the_first_of_equal_documents_stays_even_across_files():
    corpus(max_reject_share=1.0)
    raw([*sentences(3), *sentences(2)], "small/a.jsonl")
    raw([*sentences(3), {"text": "第0話。昔々あるところに猫がいました。\r\n"}], "small/b.jsonl")
    ingest("small")
    assert len(all_records()) == 3
    found = rejects()
    assert {each["reason"] for each in found} == {"duplicate of an earlier document"}
    assert [each["where"] for each in found] == [
        "data/small/a.jsonl:4",
        "data/small/a.jsonl:5",
        *(f"data/small/b.jsonl:{number}" for number in range(1, 5)),
    ]
    assert read_manifest("ingest", "small").counts["num_duplicates"] == 6


def test_bad_rows_are_rejects_with_reason_place_and_excerpt():
    corpus(column={"filters": {"min_chars": 5, "max_chars": 40}}, max_reject_share=1.0)
    raw(
        [
            *sentences(2),
            "{broken",
            {"body": "本文は別の鍵にある。"},
            {"text": 5},
            {"text": " \n"},
            {"text": None},
            {"text": "短い"},
            {"text": "長" * 41},
            '{"text": "\\ud83d broken pair, long enough"}',
        ]
    )
    ingest("small")
    assert [(each["where"].rsplit(":", 1)[1], each["reason"]) for each in rejects()] == [
        ("3", "not JSON"),
        ("4", "no field 'text' (columns.text.field)"),
        ("5", "text: not text but int"),
        ("6", "text: empty"),
        ("7", "text: empty"),
        ("8", "text: shorter than 5 characters (filters.min_chars)"),
        ("9", "text: longer than 40 characters (filters.max_chars)"),
        ("10", "text: half of a surrogate pair (broken characters)"),
    ]
    assert rejects()[1]["excerpt"] == "keys: body"
    assert rejects()[5]["excerpt"] == "短い"
    report = json.loads((paths.state("ingest", "small") / "report.json").read_text(encoding="utf-8"))
    assert report["rows"] == 10
    assert sum(report["records"].values()) == 2
    assert report["rejects"]["text: empty"] == 2
    assert report["reject_examples"]["text: empty"] == ["data/small/a.jsonl:6", "data/small/a.jsonl:7"]


def test_the_split_is_decided_by_content_alone():
    corpus(splits={"valid": 0.2, "test": 0.1})
    raw(sentences(2000))
    ingest("small")
    before = {each["text"]: each["split"] for each in all_records()}
    shares = {split: list(before.values()).count(split) / 2000 for split in ("train", "valid", "test")}
    assert shares == pytest.approx({"train": 0.7, "valid": 0.2, "test": 0.1}, abs=0.03)
    raw([{**each, "id": "other"} for each in reversed(sentences(3000))], "small/a.jsonl")
    ingest("small")
    after = {each["text"]: each["split"] for each in all_records()}
    assert {text: after[text] for text in before} == before


def test_the_split_and_the_duplicate_test_use_the_documented_digest():
    raw_digest = hashlib.blake2b(b"text\x006\x00" + "猫だ".encode(), digest_size=16).digest()
    assert records.content_digest({"text": "猫だ"}) == raw_digest
    assert records.split_of(b"\0" * 16, 0.1, 0.1) == "test"
    assert records.split_of(b"\x20" + b"\0" * 15, 0.1, 0.1) == "valid"
    assert records.split_of(b"\xff" * 16, 0.1, 0.1) == "train"
    assert records.split_of(b"\0" * 16, 0.0, 0.0) == "train"


def test_a_prompt_is_in_one_split_however_often_and_in_whatever_corpus_it_is_answered():
    asked = [f"質問{number}です。" for number in range(200)]
    forms = {"talks": ("conversation", "conversation"), "pairs": ("preference", "better")}
    for name, (form, key) in forms.items():
        corpus(name, splits={"valid": 0.2, "test": 0.3}, columns={key: {"modality": "text", "form": form}})
    raw(
        [{"prompt": ask, "response": f"答え{number}。"} for ask in asked for number in range(3)],
        "talks/a.jsonl",
    )
    raw(
        [
            {"prompt": ask, "chosen": f"答え{number}。", "rejected": f"いや{number}。"}
            for ask in asked
            for number in range(2)
        ],
        "pairs/a.jsonl",
    )
    splits = {ask: set() for ask in asked}
    for name, (_, key) in forms.items():
        ingest(name)
        for each in all_records(name, (key,)):
            splits[json.loads(each[key])["messages"][0]["content"]].add(each["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "valid", "test"}
    [first] = splits[asked[0]]
    assert first == records.split_of(records.content_digest({"prompt": asked[0]}), 0.2, 0.3)


def test_the_same_raw_data_give_the_same_bytes():
    corpus()
    raw([*sentences(500), "{broken"])
    ingest("small")
    first = tree_hash(paths.state("ingest", "small"))
    ingest("small")
    assert tree_hash(paths.state("ingest", "small")) == first


def test_the_manifest_names_raw_data_and_code():
    corpus()
    raw(sentences(5))
    ingest("small")
    manifest = read_manifest("ingest", "small")
    assert manifest.parents == {"data/small": tree_hash(Path("data/small"))}
    assert manifest.revisions == {"components.ingest": 2, "components.modalities.text": 2}
    assert manifest.payload_hash == tree_hash(paths.payload("ingest", "small"))
    assert manifest.counts["num_records"] == manifest.counts["num_rows"] == 5


def test_many_records_are_written_as_parts_and_groups_and_read_in_order(monkeypatch):
    monkeypatch.setattr(records, "PART_ROWS", 40)
    monkeypatch.setattr(records, "GROUP_ROWS", 15)
    corpus()
    raw(sentences(100))
    ingest("small")
    parts = sorted(paths.payload("ingest", "small").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [40, 40, 20]
    assert pq.read_metadata(parts[0]).num_row_groups == 3
    assert [each["text"] for each in all_records()] == [each["text"] for each in sentences(100)]


def test_a_part_ends_after_so_many_bytes(monkeypatch):
    monkeypatch.setattr(records, "PART_BYTES", 1000)
    corpus()
    raw(sentences(100))
    ingest("small")
    assert len(list(paths.payload("ingest", "small").iterdir())) > 5
    assert len(all_records()) == 100


def test_missing_raw_data_are_refused_before_anything_is_written():
    corpus()
    with pytest.raises(Refused, match="hiraku collect small --from FOLDER"):
        ingest("small")
    assert not paths.ARTIFACTS.exists()


def test_a_corpus_without_rows_is_refused():
    corpus()
    raw([""])
    with pytest.raises(Refused, match=r"no rows.*data/small.*hiraku collect small"):
        ingest("small")
    assert not paths.state("ingest", "small").exists()


def test_too_few_records_are_refused_with_the_key():
    corpus(min_records=10)
    raw(sentences(9))
    with pytest.raises(Refused, match=r"9 records are left of 9 rows, at least 10 must be \(min_records\)"):
        ingest("small")


def test_too_many_rejects_are_refused_with_reasons_places_and_keys():
    corpus(column={"filters": {"min_japanese_share": 0.5}}, max_reject_share=0.3)
    english = [{"text": f"Call me Ishmael, number {number}. Some years ago."} for number in range(30)]
    raw([*sentences(50), *english, "{broken"])
    with pytest.raises(Refused) as refusal:
        ingest("small")
    said = str(refusal.value)
    assert "31 of 81 rows (38.3%) were rejected, at most 30.0% may be (max_reject_share)" in said
    assert "30 × text: Japanese share under 0.5 (filters.min_japanese_share); first at data/small/a.jsonl:51" in said
    assert "recipes/corpora/small.yaml" in said
    assert not paths.state("ingest", "small").exists()
    assert not list(paths.state("ingest", "small").parent.iterdir())
    kept = rejects(folder=paths.outcome_folder("ingest", "small"))
    assert len(kept) == 31


def test_a_file_in_which_every_row_is_bad_is_refused():
    corpus()
    raw(["<html>", "<body>"])
    with pytest.raises(Refused, match=r"none can be read: not JSON \(at data/small/a\.jsonl:1: <html>\)"):
        ingest("small")


def test_a_wrong_field_name_shows_the_keys_that_are_there():
    corpus()
    raw([{"body": "本文", "id": "n1"}] * 3)
    with pytest.raises(Refused, match=r"none has the field 'text'; keys there: body, id\. Change columns\.\*\.field"):
        ingest("small")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"body": "x"}\n', "b.jsonl none has the field 'text'"),
        (b"[1]\n", "b.jsonl none can be read: JSON, but not an object"),
        ('{"text": "日本語の文書です"}\n'.encode("cp932"), "b.jsonl is Shift-JIS"),
        (b"\x1f\x8b\x08", "b.jsonl is compressed"),
    ],
)
def test_a_wrong_second_file_is_refused_before_the_first_is_read(monkeypatch, content, said):
    corpus()
    raw(sentences(3))
    (paths.DATA / "small" / "b.jsonl").write_bytes(content)
    monkeypatch.setattr("components.ingest._read_all", lambda *_: pytest.fail("the pass over all rows began"))
    with pytest.raises(Refused, match=said):
        ingest("small")


def test_a_success_forgets_the_rejects_that_a_refusal_kept():
    corpus(max_reject_share=0.4)
    raw(["{broken", *sentences(1)])
    with pytest.raises(Refused):
        ingest("small")
    assert paths.outcome_folder("ingest", "small").exists()
    raw(sentences(3))
    ingest("small")
    assert not paths.outcome_folder("ingest", "small").exists()


def test_a_broken_file_leaves_the_earlier_state_as_it_was():
    corpus()
    raw(sentences(5))
    ingest("small")
    before = tree_hash(paths.state("ingest", "small"))
    packed = gzip.compress("\n".join(json.dumps(each) for each in sentences(500)).encode())
    (paths.DATA / "small" / "b.jsonl.gz").write_bytes(packed[:-50])
    with pytest.raises(Refused, match=r"b\.jsonl\.gz is not a whole gzip file"):
        ingest("small")
    assert tree_hash(paths.state("ingest", "small")) == before
    assert [each.name for each in paths.state("ingest", "small").parent.iterdir()] == ["small"]


def test_shift_jis_is_refused_by_its_name():
    corpus()
    (paths.DATA / "small").mkdir(parents=True)
    (paths.DATA / "small" / "a.txt").write_bytes("これはシフトJISの文書です。".encode("cp932"))
    with pytest.raises(Refused, match=r"Shift-JIS.*iconv -f CP932 -t UTF-8"):
        ingest("small")


def test_a_disk_without_room_is_refused_before_work(monkeypatch):
    corpus()
    raw(sentences(100))
    usage = verb.shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(verb.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Refused, match=r"artifacts/ingested/small needs about [\d,]+ bytes, and 10 are free"):
        ingest("small")


def test_a_disk_that_fills_up_is_refused_and_nothing_half_made_remains(monkeypatch):
    corpus()
    raw(sentences(100))

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.TableWriter, "_write_group", full)
    with pytest.raises(Refused, match=r"The disk is full: artifacts/ingested/small needs more than"):
        ingest("small")
    assert not list(paths.state("ingest", "small").parent.iterdir())


def test_records_need_their_command():
    corpus()
    with pytest.raises(Refused, match="hiraku ingest small"):
        list(records.iterate_records("small", ["text"], accepted_only=False))


@pytest.mark.skipif(not SHARED.is_dir(), reason="real text is not beside the checkout (../shared/data/text_ja)")
def test_real_text_becomes_records_without_losing_a_character():
    corpus(source={"licence_field": "license", "source_field": "source", "id_field": "id"})
    path = paths.DATA / "small" / "wikinews.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes((SHARED / "wikinews_ja.jsonl.gz").read_bytes())
    ingest("small")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        expected = [json.loads(line) for line in stream]
    found = all_records()
    assert [each["text"] for each in found] == [each["text"] for each in expected]
    assert [each["id"] for each in found] == [each["id"] for each in expected]
    assert {each["licence"] for each in found} == {"CC BY 2.5"}


class Killed(Exception):
    """Stands for a kill: nothing is tidied up after it."""


def killed_after(monkeypatch, num_rows):
    """Let ingest die at a row, as if the process were killed."""
    kept, seen = verb._excerpt, []

    def cleaned(self, row, file, own=verb._Cleaner.record):
        seen.append(row.where)
        if len(seen) > num_rows:
            raise Killed
        return own(self, row, file)

    monkeypatch.setattr(verb._Cleaner, "record", cleaned)
    assert kept
    return seen


@pytest.mark.parametrize("num_rows", [3, 25, 61, 95])
def test_a_killed_ingest_goes_on_after_its_last_part_and_ends_with_the_same_bytes(monkeypatch, num_rows):
    monkeypatch.setattr(records, "PART_ROWS", 10)
    corpus(max_reject_share=1.0, source={"id_field": "id"})
    twice = [{**each, "id": "n"} for each in sentences(10, start=5)]
    raw([*sentences(40), *twice, "{broken"], "small/a.jsonl")
    raw([*twice, *sentences(50, start=45)], "small/b.jsonl")
    ingest("small")
    whole = read_manifest("ingest", "small")
    whole_rejects, whole_report = rejects(), (paths.state("ingest", "small") / "report.json").read_text()
    shutil.rmtree(".hiraku")
    with monkeypatch.context() as patch:
        killed_after(patch, num_rows)
        with pytest.raises(Killed):
            ingest("small")
    with monkeypatch.context() as patch:
        again = killed_after(patch, 1_000)
        ingest("small")
    assert len(again) < 111 - num_rows + 15 + 20  # a part, and the rejects among its rows
    found = read_manifest("ingest", "small")
    assert (found.payload_hash, found.counts, found.details) == (whole.payload_hash, whole.counts, whole.details)
    assert rejects() == whole_rejects
    assert (paths.state("ingest", "small") / "report.json").read_text() == whole_report


def test_a_changed_filter_goes_on_from_nothing(monkeypatch):
    monkeypatch.setattr(records, "PART_ROWS", 10)
    corpus()
    raw(sentences(40))
    with monkeypatch.context() as patch:
        killed_after(patch, 25)
        with pytest.raises(Killed):
            ingest("small")
    corpus(column={"filters": {"min_chars": 5}})
    with monkeypatch.context() as patch:
        seen = killed_after(patch, 1_000)
        ingest("small")
    assert len(seen) == 40


def test_a_disk_that_fills_loses_no_finished_part(monkeypatch):
    monkeypatch.setattr(records, "PART_ROWS", 10)
    corpus()
    raw(sentences(40))

    def full(self, own=records.TableWriter.close):
        if "00002" in str(self.file.where):
            raise OSError(errno.ENOSPC, "No space left on device")
        own(self)

    with monkeypatch.context() as patch:
        patch.setattr(records.TableWriter, "close", full)
        with pytest.raises(Refused, match="The disk is full"):
            ingest("small")
    with monkeypatch.context() as patch:
        seen = killed_after(patch, 1_000)
        ingest("small")
    assert len(seen) == 20
    assert len(all_records()) == 40


@pytest.mark.parametrize(
    ("form", "expected"),
    [("NFC", "がギプロ①"), ("NFKC", "がギプロ1")],
)
def test_text_in_nfd_and_half_width_kana_are_one_text_each(form, expected):
    decomposed = unicodedata.normalize("NFD", "がギ") + ("プロ①" if form == "NFC" else "ﾌﾟﾛ①")
    corpus(column={"filters": {"unicode_form": form}}, max_reject_share=1.0)
    raw([{"text": decomposed}, {"text": expected.replace("1", "①") if form == "NFC" else "がギプロ①"}])
    ingest("small")
    assert [each["text"] for each in all_records()] == [expected]
    assert read_manifest("ingest", "small").counts["num_duplicates"] == 1


def test_a_corpus_of_duplicates_is_refused_with_the_reason_and_its_share():
    corpus(max_reject_share=0.5)
    raw(sentences(5) * 100)
    with pytest.raises(Refused, match=r"495 of 500 rows \(99\.0%\) were rejected.*\n  495 × duplicate of an earlier"):
        ingest("small")


def test_one_line_of_fifty_megabytes_is_one_record():
    corpus(column={"filters": {"mask_personal_information": True, "min_japanese_share": 0.3}})
    raw([*sentences(3), {"text": "昔々あるところに猫がいました。" * 1_200_000}, *sentences(3, start=3)])
    ingest("small")
    found = all_records()
    assert [len(each["text"]) for each in found[2:5]] == [19, 18_000_000, 19]
