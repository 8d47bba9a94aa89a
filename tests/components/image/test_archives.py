"""WebDataset tars as rows, beside what the library itself reads, and every way in which one can be wrong."""

import json

import pytest
import webdataset

from components import archives
from components.outcomes import Refused
from components.sources import read
from tests.components.image.small_pictures import file_of, noise, tar_of

PICTURE = file_of(noise(), "JPEG")
MEMBERS = [
    (f"{number:03d}.{ending}", data)
    for number in range(4)
    for ending, data in (
        ("jpg", PICTURE),
        ("txt", f"説明{number}".encode()),
        ("json", json.dumps({"url": f"http://a/{number}", "width": 60}).encode()),
    )
]


def rows(path, content):
    path.write_bytes(content)
    return list(read(path))


def test_rows_are_those_of_the_library_in_its_order(tmp_path):
    path = tmp_path / "a.tar"
    found = rows(path, tar_of(MEMBERS))
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [row.fields["key"] for row in found] == [each["__key__"] for each in theirs]
    for row, each in zip(found, theirs, strict=True):
        assert row.fields["image"] == each["jpg"]
        assert row.fields["txt"] == each["txt"].decode()
        assert row.fields["url"] == json.loads(each["json"])["url"]
        assert row.where == f"{path.as_posix()}:{each['__key__']}"
    packed = rows(tmp_path / "b.tar.gz", tar_of(MEMBERS, "w:gz"))
    assert [row.fields for row in packed] == [row.fields for row in found]


def test_members_that_cannot_be_read_make_their_row_a_reject_and_the_rest_goes_on(tmp_path, monkeypatch):
    members = [
        ("a.jpg", PICTURE),
        ("a.txt", "é".encode("latin-1")),
        ("b.jpg", PICTURE),
        ("b.png", PICTURE),
        ("c.json", b"[1]"),
        ("d.json", b"{"),
        ("e.jpg", PICTURE * 2),
        ("f.jpg", PICTURE),
    ]
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", len(PICTURE) + 1)
    found = rows(tmp_path / "a.tar", tar_of(members))
    assert [row.problem for row in found] == [
        "its .txt is not UTF-8",
        "two pictures in one row",
        "its .json is no object with keys",
        "its .json is not JSON",
        "its .jpg is larger than 0 MiB",
        "",
    ]


def test_a_tar_that_ends_early_is_refused_with_the_member_at_which_it_does(tmp_path):
    content = tar_of(MEMBERS)
    with pytest.raises(Refused, match=r"a\.tar is not a whole tar: .*member '001\.jpg'\. Bring the file again"):
        rows(tmp_path / "a.tar", content[: content.index(b"001.jpg") + 700])
    with pytest.raises(Refused, match=r"is not a whole tar: .*its beginning"):
        rows(tmp_path / "a.tar", b"no tar at all" * 100)


def test_a_member_twice_in_one_row_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"a member twice: a\.txt"):
        rows(tmp_path / "a.tar", tar_of([("a.txt", b"x"), ("a.txt", b"y")]))
