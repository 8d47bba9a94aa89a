"""Raw rows: every format, and every way in which a file can be wrong."""

import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from components import lines, sources
from components.outcomes import Refused
from components.source_schema import Files

JAPANESE = "吾輩は猫である。名前はまだ無い。"
DOCUMENTS = [{"text": f"{JAPANESE}その{number}。", "id": f"n{number}"} for number in range(20)]
JSON_LINES = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in DOCUMENTS).encode()


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def write(name, content):
    path = sources.paths.DATA / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def files(*names, **more):
    return Files(kind="files", paths=list(names), **more)


def test_json_lines_give_the_same_rows_plain_and_compressed():
    plain = list(sources.read(write("a.jsonl", JSON_LINES)))
    assert [row.fields for row in plain] == DOCUMENTS
    assert [row.where for row in plain[:2]] == ["data/a.jsonl:1", "data/a.jsonl:2"]
    for name, packed in (("b.jsonl.gz", gzip.compress(JSON_LINES)), ("c.jsonl.zst", zstandard.compress(JSON_LINES))):
        assert [row.fields for row in sources.read(write(name, packed))] == DOCUMENTS


def test_compressed_files_of_several_members_are_read_to_their_end():
    halves = JSON_LINES[:700], JSON_LINES[700:]
    gz = write("a.jsonl.gz", b"".join(map(gzip.compress, halves)))
    zst = write("b.jsonl.zst", b"".join(map(zstandard.compress, halves)))
    assert len(list(sources.read(gz))) == len(list(sources.read(zst))) == len(DOCUMENTS)


def test_parquet_rows_are_read_with_their_numbers():
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), sources.paths.DATA / "a.parquet", row_group_size=7)
    rows = list(sources.read(sources.paths.DATA / "a.parquet"))
    assert [row.fields for row in rows] == DOCUMENTS
    assert rows[-1].where == "data/a.parquet:20"


def test_documents_of_a_txt_file_are_separated_by_blank_lines():
    path = write("a.txt", "\ufeff一行目\n二行目\r\n\n　\n\n次の文書\n\n　字下げの文書".encode())
    rows = list(sources.read(path))
    assert [row.fields["text"] for row in rows] == ["一行目\n二行目", "次の文書", "　字下げの文書"]
    assert [row.where for row in rows] == ["data/a.txt:1", "data/a.txt:6", "data/a.txt:8"]


def test_a_line_longer_than_a_chunk_is_whole(monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 16)
    assert [row.fields for row in sources.read(write("a.jsonl", JSON_LINES))] == DOCUMENTS


def test_a_line_longer_than_the_limit_is_a_reject_and_the_next_one_is_read(monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 16)
    path = write("a.jsonl", b'{"text": "' + b"x" * 200 + b'"}\n{"text": "short"}\n' + b"y" * 200)
    first, second, third = sources.read(path)
    assert first.fields is None
    assert first.problem == third.problem == "longer than 64 MiB"
    assert second.fields == {"text": "short"}


def test_lines_that_are_not_json_are_rejects_with_their_place():
    path = write("a.jsonl", b'{"text": "a"}\n{broken\n\n[1, 2]\n"text"\n' + b"[" * 100_000 + b'\n{"text": "b"}\n')
    rows = list(sources.read(path))
    assert [row.problem for row in rows] == [
        "",
        "not JSON",
        "JSON, but not an object with keys",
        "JSON, but not an object with keys",
        "not JSON",
        "",
    ]
    assert rows[1].where == "data/a.jsonl:2"
    assert rows[1].excerpt == "{broken"
    assert rows[-1].where == "data/a.jsonl:7"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.jsonl.gz", gzip.compress(JSON_LINES)[:-20], "gzip"),
        ("b.jsonl.gz", b"not gzip at all", "gzip"),
        ("c.jsonl.gz", b"", "gzip"),
        ("d.jsonl.gz", gzip.compress(JSON_LINES)[:60] + b"\0" * 40 + gzip.compress(JSON_LINES)[100:], "gzip"),
        ("e.jsonl.zst", zstandard.compress(JSON_LINES)[:-20], "zstd"),
        ("f.jsonl.zst", b"not zstd at all", "zstd"),
        ("g.jsonl.zst", b"", "zstd"),
        ("h.jsonl.xz", lzma.compress(JSON_LINES)[:-20], "xz"),
        ("i.jsonl.xz", b"not xz at all", "xz"),
        ("j.jsonl.xz", b"", "xz"),
    ],
)
def test_a_broken_compressed_file_is_refused_with_a_way_to_check_it(name, content, kind):
    path = write(name, content)
    with pytest.raises(Refused, match=rf"{name} is not a whole {kind} file: .*Bring the file again") as refusal:
        list(sources.read(path))
    assert f"-t {path}" in str(refusal.value)
    assert "bytes of text" not in str(refusal.value)


def test_a_broken_parquet_file_is_refused():
    path = sources.paths.DATA / "a.parquet"
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), path)
    write("b.parquet", path.read_bytes()[:-30])
    for broken in (write("c.parquet", b""), sources.paths.DATA / "b.parquet"):
        with pytest.raises(Refused, match="not a whole Parquet file"):
            list(sources.read(broken))


def test_a_compressed_file_without_its_ending_is_refused_with_the_right_name():
    path = write("a.jsonl", gzip.compress(JSON_LINES))
    with pytest.raises(Refused, match=r"Rename it to a\.jsonl\.gz"):
        list(sources.read(path))


@pytest.mark.parametrize(
    ("codec", "said", "iconv"),
    [("cp932", "Shift-JIS", "CP932"), ("euc_jp", "EUC-JP", "EUC-JP"), ("iso2022_jp", "ISO-2022-JP", "ISO-2022-JP")],
)
@pytest.mark.parametrize("ending", ["jsonl", "txt"])
def test_a_file_in_an_older_japanese_encoding_is_refused_with_the_command_that_converts_it(codec, said, iconv, ending):
    path = write(f"a.{ending}", JSON_LINES.decode().encode(codec))
    with pytest.raises(Refused, match=said) as refusal:
        list(sources.read(path))
    assert f"iconv -f {iconv} -t UTF-8 {path} > {path}.new && mv {path}.new {path}" in str(refusal.value)


NAMES = ["東京都千代田区", "大阪府大阪市北区", "北海道札幌市中央区", "神奈川県横浜市西区"]


def test_lines_of_kanji_alone_show_their_encoding_together():
    path = write("a.txt", "\n\n".join(NAMES).encode("cp932"))
    assert lines.guess_encoding(NAMES[0].encode("cp932")) is None
    with pytest.raises(Refused, match=r"a\.txt is Shift-JIS \(seen in line 1\)") as refusal:
        list(sources.read(path))
    assert f"iconv -f CP932 -t UTF-8 {path}" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("\n".join(["naïve café, déjà vu", "Überraschung, größer, Äpfel, öffnen"] * 20), "latin-1"),
        ("北京市海淀区中关村大街\n上海市浦东新区世纪大道\n广州市天河区体育西路", "gb2312"),
        ("\n".join(NAMES), "euc_jp"),
        ("서울특별시 강남구 테헤란로\n부산광역시 해운대구", "euc_kr"),
    ],
)
def test_bytes_that_may_be_another_language_are_rejects_and_not_called_shift_jis(text, codec):
    rows = list(sources.read(write("a.jsonl", text.encode(codec))))
    assert {row.problem for row in rows} <= {"bytes that are not UTF-8", "not JSON"}


def test_a_line_of_kanji_in_another_encoding_is_damage_in_a_utf_8_file():
    rows = list(sources.read(write("a.txt", JAPANESE.encode() + b"\n\n" + "\n".join(NAMES).encode("cp932"))))
    assert [row.problem for row in rows] == ["", "bytes that are not UTF-8"]


def test_the_named_command_converts_a_packed_file(project):
    path = write("a.jsonl.gz", gzip.compress(JSON_LINES.decode().encode("cp932")))
    with pytest.raises(Refused) as refusal:
        list(sources.read(path))
    import subprocess

    subprocess.run(str(refusal.value).split("Convert it: ")[1], shell=True, check=True)
    assert [row.fields for row in sources.read(path)] == DOCUMENTS


def test_utf_16_is_refused_by_its_name():
    path = write("a.txt", JAPANESE.encode("utf-16"))
    with pytest.raises(Refused, match="UTF-16"):
        list(sources.read(path))


def test_a_few_broken_bytes_in_a_utf_8_file_are_a_reject():
    damaged = JAPANESE.encode()[:-1]
    rows = list(sources.read(write("a.txt", JAPANESE.encode() + b"\n\n" + damaged + b"\n\nwhole\n")))
    assert [row.problem for row in rows] == ["", "bytes that are not UTF-8", ""]
    legacy = JAPANESE.encode("cp932")
    rows = list(sources.read(write("b.txt", JAPANESE.encode() + b"\n\n" + legacy)))
    assert [row.problem for row in rows] == ["", "bytes that are not UTF-8"]


@pytest.mark.parametrize("text", [JAPANESE, "ｶﾀｶﾅとひらがな、漢字。", "プログラムを実行する"])
def test_encodings_are_told_apart_by_kana(text):
    assert lines.guess_encoding(text.encode("cp932")) == "cp932"
    assert lines.guess_encoding(text.encode("euc_jp")) == "euc_jp"
    assert lines.guess_encoding(text.encode()[:-1]) is None


def test_a_folder_gives_its_files_of_known_formats_by_name():
    for name in ("c/b.jsonl", "c/a.txt", "c/sub/z.parquet", "c/LICENSES.md", "c/.hidden.jsonl", "c/.git/x.jsonl"):
        write(name, b"")
    found = [path.as_posix() for path in sources.locate("x", files("c", "c/a.txt"))]
    assert found == ["data/c/a.txt", "data/c/b.jsonl", "data/c/sub/z.parquet"]
    assert [path.name for path in sources.locate("x", files("c", format="jsonl"))] == ["b.jsonl"]


def test_missing_data_are_answered_with_the_command_that_brings_them():
    with pytest.raises(Refused, match=r"data/wiki is not there.*hiraku collect x --from FOLDER"):
        sources.locate("x", files("wiki"))
    with pytest.raises(Refused, match=r"data/demo is not there.*hiraku collect x$"):
        sources.locate("x", files("demo", generator="world"))


def test_a_folder_without_readable_files_is_refused():
    write("c/notes.md", b"#")
    with pytest.raises(Refused, match=r"data/c holds no file with an ending.*\.jsonl\.gz.*hiraku collect x"):
        sources.locate("x", files("c"))


def test_data_are_there_if_a_file_of_the_format_is(project):
    folder = sources.paths.DATA / "c"
    assert not sources.is_there(folder)
    folder.mkdir()
    for name in ("c/notes.md", "c/.hidden.jsonl", "c/.git/x.jsonl", "c/sub/b.md"):
        write(name, b"")
    assert not sources.is_there(folder)
    file = write("c/sub/a.txt.gz", b"")
    assert sources.is_there(folder)
    assert sources.is_there(file)
    assert not sources.is_there(folder, "jsonl")


def test_a_file_that_this_user_may_not_read_is_not_there(project, monkeypatch):
    write("c/a.txt", b"")
    monkeypatch.setattr(sources.os, "access", lambda *_: False)
    assert not sources.is_there(sources.paths.DATA / "c")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../b"])
def test_a_path_out_of_data_is_refused(name):
    with pytest.raises(Refused, match="leads out of data/"):
        sources.locate("x", files(name))


def test_an_unknown_ending_is_refused_unless_the_format_is_named():
    write("a.dat", JSON_LINES)
    with pytest.raises(Refused, match=r"unknown ending.*source\.format"):
        sources.locate("x", files("a.dat"))
    (path,) = sources.locate("x", files("a.dat", format="jsonl"))
    assert len(list(sources.read(path, "jsonl"))) == len(DOCUMENTS)
