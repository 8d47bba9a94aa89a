"""Pictures of a list of addresses, from a server on this machine that is as bad as real ones are."""

import json
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest
import yaml

from components import addresses, paths
from components.downloads import coverage_of, download
from components.ingest import ingest
from components.manifest import read_manifest
from components.outcomes import Refused
from components.source_schema import Files
from components.sources import read
from components.validate import validate
from tests.components.image.small_server import LARGE, PICTURE, serving


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()


def source(server, whats, **more):
    """A list of such addresses, and the source that names it."""
    rows = [
        {
            "url": f"http://127.0.0.1:{server.server_port}/{what}" if "://" not in what else what,
            "caption": f"{what}の絵",
        }
        for what in whats
    ]
    (paths.DATA / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {"lists": ["list.jsonl"], "timeout_seconds": 1.0, "num_parallel": 8, "own_hosts": ["127.0.0.1"]}
    return Files(kind="files", paths=["tars"], format="webdataset", download=section | more)


def statuses():
    rows = [row for path in sorted((paths.DATA / "tars").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["url"].rpartition("/")[2]: row for row in rows}


def rows():
    return [row for path in sorted((paths.DATA / "tars").glob("*.tar")) for row in read(path)]


def test_every_address_has_its_status_and_pictures_stand_beside_their_captions(server):
    whats = ["fine", "gone", "slow", "drip", "text", "cut", "bomb", "near", "away", "file", "loop", "none", "robots"]
    whats += ["short", "busy", "ftp://a/b.jpg", "http://no.such.host.invalid/a.jpg", "http://169.254.169.254/x", "no"]
    found = source(server, [*whats[:-1], "http://[::1]:1/y"], max_file_bytes=200_000)
    said = []
    download("c", found, said.append)
    expected = {
        "fine": "ok",
        "near": "ok",
        "gone": "HTTP 404",
        "busy": "HTTP 503",
        "slow": "no answer in time",
        "drip": "no answer in time",
        "text": "no picture: not readable as a picture",
        "cut": "no picture: the picture ends early: the file is truncated or damaged",
        "bomb": "no picture: more than 80,000,000 pixels (filters.max_pixels)",
        "away": "it leads into this machine's own network (source.download.own_hosts)",
        "file": "redirected too often, or nowhere",
        "loop": "redirected too often, or nowhere",
        "none": "an empty answer",
        "robots": "its server forbids it (X-Robots-Tag)",
        "short": "the connection broke off",
        "b.jpg": "no address of http or https",
        "a.jpg": "no such host",
        "x": "it leads into this machine's own network (source.download.own_hosts)",
        "y": "it leads into this machine's own network (source.download.own_hosts)",
    }
    assert {what: row["status"] for what, row in statuses().items()} == expected
    assert [(row.fields["caption"], row.fields["image"]) for row in rows()] == [
        ("fineの絵", PICTURE),
        ("nearの絵", PICTURE),
    ]
    coverage = coverage_of(found)
    assert (coverage["addresses"], coverage["ok"]) == (19, 2)
    assert coverage["failed_share"] == pytest.approx(17 / 19, abs=1e-6)
    assert said[0] == "2 of 19 addresses of c gave a picture."
    assert server.asked["/loop"] <= addresses.MAX_REDIRECTIONS + 1


def test_another_run_tries_only_what_failed_in_a_way_that_may_pass(server):
    found = source(server, ["fine", "late", "gone", "large?1", "busy"], items_per_tar=2, max_side_px=100, max_tries=2)
    download("c", found, str)
    assert [statuses()[what]["status"] for what in ("late", "large?1")] == ["no answer in time", "ok"]
    kept = {path.name: path.read_bytes() for path in (paths.DATA / "tars").glob("*.tar")}
    assert sorted(kept) == ["00000.tar", "00001.tar"]
    before = server.asked.copy()
    download("c", found, str)
    assert server.asked - before == Counter({"/late": 1, "/busy": 1})
    assert statuses()["late"] | {"num_bytes": 0} == {
        "key": "000000001",
        "url": f"http://127.0.0.1:{server.server_port}/late",
        "status": "ok",
        "may_pass": True,
        "tries": 2,
        "num_bytes": 0,
        "tar": "00000.again-1.tar",
    }
    assert sorted(row.fields["caption"] for row in rows()) == sorted(["fineの絵", "lateの絵", "large?1の絵"])
    assert all((paths.DATA / "tars" / name).read_bytes() == content for name, content in kept.items())
    before = server.asked.copy()
    download("c", found, str)
    assert server.asked == before, "busy has had its two tries"


def test_a_picture_is_made_smaller_where_the_corpus_says_so(server):
    download("c", source(server, ["large", "fine"], max_side_px=100), str)
    large, fine = rows()
    assert len(large.fields["image"]) < len(LARGE)
    assert fine.fields["image"] == PICTURE


def test_what_is_larger_than_wanted_is_not_read_to_its_end(server):
    limits = addresses.Limits(2.0, 1000, ("127.0.0.1",))
    with pytest.raises(addresses.Failed, match="larger than 1,000 bytes"):
        addresses.file_at(f"http://127.0.0.1:{server.server_port}/large", limits)


def test_a_slow_trickle_ends_when_its_time_is_over(server):
    started = time.monotonic()
    with pytest.raises(addresses.Failed, match="no answer in time"):
        addresses.file_at(f"http://127.0.0.1:{server.server_port}/drip", addresses.Limits(0.3, 10**6, ("127.0.0.1",)))
    assert time.monotonic() - started < 4


def test_other_lists_than_before_are_refused_and_longer_ones_go_on(server):
    download("c", source(server, ["fine?1", "fine?2"], items_per_tar=2), str)
    download("c", source(server, ["fine?1", "fine?2", "fine?3"], items_per_tar=2), str)
    assert len(rows()) == 3
    for whats in (["fine?2", "fine?1", "fine?3"], ["fine?1"]):
        with pytest.raises(Refused, match=r"tars was filled from other lists than source\.download\.lists names now"):
            download("c", source(server, whats, items_per_tar=2), str)


def test_a_list_that_is_missing_or_has_no_address_is_refused(server):
    found = source(server, ["fine"])
    (paths.DATA / "list.jsonl").write_text('{"link": "http://a"}\n')
    with pytest.raises(Refused, match=r"no field 'url'; keys there: link\. Change source\.download\.url_field"):
        download("c", found, str)
    (paths.DATA / "list.jsonl").unlink()
    with pytest.raises(Refused, match=r"list\.jsonl is not there\. Run: hiraku collect c --from FOLDER"):
        download("c", found, str)
    with pytest.raises(ValueError, match="'download' fills one folder with tars"):
        Files(kind="files", paths=["a", "b"], format="webdataset", download={"lists": ["x"]})


def test_the_share_without_a_picture_is_judged_by_validate_and_shown_on_its_page(server):
    found = source(server, ["fine", "gone?1", "gone?2", "text"], max_failed_share=0.5)
    download("c", found, str)
    corpus = {
        "description": "c",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": found.model_dump(mode="json"),
        "columns": {
            "picture": {"modality": "image", "form": "picture"},
            "captions": {"modality": "image", "form": "captions"},
        },
        "splits": {"only": "train"},
    }
    (paths.RECIPES / "corpora").mkdir(parents=True)
    (paths.RECIPES / "corpora" / "c.yaml").write_text(yaml.safe_dump(corpus))
    ingest("c")
    coverage = {"addresses": 4, "ok": 1, "failed_share": 0.75}
    assert coverage.items() <= read_manifest("ingest", "c").details["downloads"].items()
    with pytest.raises(Refused, match=r"found 0\.75, expected: at most 50% of 4 addresses without a picture"):
        validate("c")
    page = (paths.outcome_folder("validate", "c") / "report.html").read_text(encoding="utf-8")
    assert "1 of 4 addresses gave a picture." in page
    assert "<td>HTTP 404</td><td class=number>2</td>" in page
    assert "downloads_failed_share" not in (paths.outcome_folder("validate", "c") / "profile.json").read_text()
