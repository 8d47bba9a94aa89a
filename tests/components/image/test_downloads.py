"""Pictures of a list of addresses, from a server on this machine that is as bad as real ones are."""

import contextlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest

from components import addresses, paths
from components.downloads import coverage_of, download
from components.outcomes import Refused
from components.source_schema import Files
from components.sources import read
from tests.components.image.small_pictures import bomb, file_of, noise

PICTURE = file_of(noise(), "JPEG")
BOMB = bomb()
LARGE = file_of(noise(400, 300), "JPEG")


class Handler(BaseHTTPRequestHandler):
    """Answers by the words of the path."""

    def do_GET(self):
        self.server.asked[self.path] += 1
        what = self.path.strip("/").partition("?")[0]
        if what == "late" and self.server.asked[self.path] > 1:
            what = "fine"
        if what in ("late", "slow"):
            self.server.stopped.wait(5)
            return
        if what == "drip":
            self._head(200, {"Content-Length": "100000"})
            for _ in range(80):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
                if self.server.stopped.wait(0.1):
                    return
            return
        places = {
            "near": "/fine",
            "away": f"http://localhost:{self.server.server_port}/fine",
            "file": "file:///etc/passwd",
        }
        if what in places or what == "loop":
            self._head(302, {"Location": places.get(what, "/loop")})
            return
        bodies = {
            "fine": PICTURE,
            "large": LARGE,
            "bomb": BOMB,
            "text": b"<html>",
            "cut": PICTURE[:-300],
            "none": b"",
        }
        if what not in bodies and what not in ("robots", "short"):
            self._head(503 if what == "busy" else 404, {})
            return
        body = bodies.get(what, PICTURE)
        more = {"X-Robots-Tag": "all, noai"} if what == "robots" else {}
        self._head(200, {"Content-Length": str(len(body) + 10 * (what == "short")), **more})
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.stopped = Counter(), threading.Event()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.stopped.set()
    found.shutdown()
    found.server_close()


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
