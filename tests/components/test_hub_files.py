"""A corpus of a data set on a Hub: streamed from a stand-in on loopback, or read from a mirror, to the same records."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml

from components import paths, records
from components.hub import Unfinished
from components.ingest import ingest
from components.manifest import read_manifest
from components.outcomes import Refused
from components.settings import settings
from tests.flows.hub_server import TOKEN, serving

REPOSITORY = "neighbour/pages"
FILES = {
    f"multilingual/c4-ja.{number}.json.gz": gzip.compress(
        "".join(
            json.dumps({"text": f"第{number}巻の第{row}頁です。", "url": f"https://example.jp/{row}"}) + "\n"
            for row in range(5)
        ).encode(),
        mtime=0,
    )
    for number in range(3)
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def there(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        running.add(REPOSITORY, "pages", {**FILES, "README.md": b"Pages.", "multilingual/c4-en.0.json.gz": b"other"})
        yield running


def corpus(commit, **source):
    raw = {
        "description": "For a test.",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": {
            "kind": "hub",
            "repository": REPOSITORY,
            "commit": commit,
            "files": ["multilingual/c4-ja.*.json.gz"],
            "num_files": 3,
            "format": "jsonl",
            **source,
        },
        "columns": {"text": {"modality": "text"}},
    }
    Path("recipes/corpora/pages.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def mirror(folder, files=FILES):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_files_of_a_pinned_commit_become_records_and_do_not_stay_on_the_disk(there):
    commit = there.sha(REPOSITORY)
    there.add(REPOSITORY, "later", {})
    corpus(commit)
    ingest("pages")
    found = list(records.iterate_records("pages", ["text", "source"], accepted_only=False))
    assert [each["text"] for each in found] == [
        f"第{number}巻の第{row}頁です。" for number in range(3) for row in range(5)
    ]
    assert found[5]["id"] == f"hub:{REPOSITORY}@{commit}/multilingual/c4-ja.1.json.gz:1"
    assert found[5]["source"] == f"hub:{REPOSITORY}@{commit}/multilingual/c4-ja.1.json.gz"
    assert read_manifest("ingest", "pages").parents == {f"hub:{REPOSITORY}@{commit}": commit}
    assert not list(settings().checkpoint_root.rglob("*.json.gz"))


@pytest.mark.parametrize("layout", ["neighbour/pages/{}", "datasets--neighbour--pages/snapshots/{}"])
def test_a_mirror_gives_the_same_bytes_by_the_same_yaml_without_a_hub(there, tmp_path, monkeypatch, layout):
    commit = there.sha(REPOSITORY)
    corpus(commit)
    ingest("pages")
    streamed = read_manifest("ingest", "pages").payload_hash
    mirror(tmp_path / "mirror" / layout.format(commit))
    monkeypatch.setenv("HIRAKU_HUB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    ingest("pages")
    assert read_manifest("ingest", "pages").payload_hash == streamed


def test_a_commit_that_is_gone_is_refused_with_both_ways_out(there):
    corpus("0" * 40)
    with pytest.raises(Refused) as refused:
        ingest("pages")
    said = str(refused.value)
    assert f"corpus 'pages' reads {REPOSITORY} at {'0' * 40}" in said
    assert "HIRAKU_HUB_MIRROR" in said
    assert "source.commit" in said
    assert not paths.state("ingest", "pages").exists()


def test_a_mirror_that_lacks_a_file_is_refused(tmp_path, monkeypatch):
    corpus("1" * 40)
    mirror(tmp_path / "mirror" / REPOSITORY / ("1" * 40), dict(list(FILES.items())[:2]))
    monkeypatch.setenv("HIRAKU_HUB_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(Refused, match=r"holds 2 files like multilingual/c4-ja\.\*\.json\.gz, expected 3"):
        ingest("pages")


def test_a_file_whose_bytes_are_not_those_of_the_hub_is_thrown_away_and_tried_again(there):
    corpus(there.sha(REPOSITORY))
    there.serves_damaged = "multilingual/c4-ja.1.json.gz"
    with pytest.raises(Unfinished, match="is not what it says of it"):
        ingest("pages")
    assert not paths.state("ingest", "pages").exists()
    there.serves_damaged = ""
    ingest("pages")
    assert read_manifest("ingest", "pages").counts["num_records"] == 15


def test_after_a_kill_finished_files_are_not_asked_for_again(there, monkeypatch):
    monkeypatch.setattr(records, "PART_ROWS", 4)
    corpus(there.sha(REPOSITORY))
    there.serves_damaged = "multilingual/c4-ja.2.json.gz"
    with pytest.raises(Unfinished):
        ingest("pages")
    there.serves_damaged = ""
    there.calls.clear()
    ingest("pages")
    asked = [call for call in there.calls if "/resolve/" in call]
    assert asked
    assert not any("c4-ja.0" in call for call in asked)
    interrupted = read_manifest("ingest", "pages").payload_hash
    shutil.rmtree(settings().checkpoint_root)
    ingest("pages")
    assert read_manifest("ingest", "pages").payload_hash == interrupted
