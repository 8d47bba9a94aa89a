"""A corpus without near duplicates and items of tasks: what goes, what stays, and what a person is told."""

import json

import numpy as np
import pytest

from components import paths, records
from components.cleaning_schema import Cleaned, NearDuplicates
from components.heaps import heaps
from components.ingest import ingest
from components.manifest import read_manifest
from components.modalities.text import overlap
from components.near_duplicates import Signatures, minima
from components.outcomes import Refused
from components.records import iterate_records
from components.reports import _change_table, _cleaning_table
from tests.components.speech.small_speech import write_records, write_yaml

COLUMNS = {"text": {"modality": "text"}}
CORPUS = {
    "description": "Texts.", "language": "ja", "licence": "CC0-1.0", "source": {"kind": "files", "paths": ["none"]},
    "columns": COLUMNS,
}  # fmt: skip
LENGTH = 400


def some_text(seed: int, length: int = LENGTH) -> str:
    return "".join(map(chr, np.random.default_rng(seed).integers(0x4E00, 0x4F00, length)))


def changed(text: str, share: float, seed: int = 0) -> str:
    """The same text with a share of its characters replaced here and there."""
    generator = np.random.default_rng(seed)
    points = np.array(list(map(ord, text)))
    places = generator.choice(len(points), round(share * len(points)), replace=False)
    points[places] = generator.integers(0x5000, 0x5100, len(places))
    return "".join(map(chr, points))


def record(name: str, text: str, split: str = "train") -> dict:
    return {"id": name, "split": split, "licence": "CC0-1.0", "source": "s", "text": text}


RAW = [
    record("a", some_text(1)),
    record("a-again", changed(some_text(1), 0.02)),
    record("b", some_text(2)),
    record("c-train", changed(some_text(3), 0.02)),
    record("c-test", some_text(3), "test"),
    record("d", changed(some_text(4), 0.02)),
    record("e", some_text(6) + some_text(5, 60) + some_text(7)),
    record("f", "短い"),
    record("g", "短 い。"),
    record("h", "。。。"),
    record("i", "!!!"),
]
OTHER = [record("x", some_text(4)), record("y", changed(some_text(4), 0.01, seed=3))]
ITEMS = [record("item", some_text(5, 60), "test"), record("train", some_text(8))]


def write_cleaned(**source) -> None:
    kept = {"kind": "cleaned", "corpus": "raw", **source}
    write_yaml(paths.RECIPES / "corpora" / "clean.yaml", CORPUS | {"source": kept, "max_reject_share": 0.9})


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, rows in {"raw": RAW, "other": OTHER, "items": ITEMS}.items():
        write_yaml(paths.RECIPES / "corpora" / f"{name}.yaml", CORPUS)
        write_records(rows, name)
    write_yaml(paths.RECIPES / "tasks" / "held-out.yaml", {"kind": "held-out-bits", "corpus": "items"})
    return tmp_path


def left() -> list[str]:
    return [each["id"] for each in iterate_records("clean", [], accepted_only=False)]


def report() -> dict:
    return json.loads((paths.state("ingest", "clean") / "report.json").read_text())


def test_near_duplicates_and_items_go_and_the_report_shows_why(project):
    write_cleaned(near_duplicates={"against": ["other"]}, decontaminate={"tasks": ["held-out"]})
    ingest("clean")
    assert left() == ["a", "b", "c-test", "f", "h", "i"]
    steps = report()["cleaning"]["steps"]
    assert [(step["name"], step["records"], step["removed"]) for step in steps] == [
        ("near duplicates within", 11, 3),
        ("near duplicates of other", 8, 1),
        ("items of held-out", 7, 1),
    ]
    [sample] = steps[1]["sample"]
    assert sample["record"] == "d"
    assert "like a record of other" in sample["cause"]
    assert sample["other"].startswith(some_text(4)[:50])
    assert steps[2]["sample"][0]["cause"] == "100% of item item"
    page = _cleaning_table(report()["cleaning"])
    assert "3 of 11 records (27.27%) went" in page
    parents = read_manifest("ingest", "clean").parents
    assert {"other", "items", "raw"} <= {path.split("/")[2] for path in parents}


def test_the_same_goes_whatever_the_parts(project, monkeypatch):
    monkeypatch.setattr(records, "PART_ROWS", 3)
    write_records(RAW, "raw")
    write_cleaned()
    ingest("clean")
    assert left() == ["a", "b", "c-test", "d", "e", "f", "h", "i"]


def test_a_text_of_which_99_of_100_are_copies_leaves_one(project):
    rows = [record(str(n), changed(some_text(1), 0.01, seed=n)) for n in range(297)]
    rows += [record(f"other {n}", some_text(100 + n)) for n in range(3)]
    write_records(rows, "raw")
    write_cleaned()
    with pytest.raises(Refused, match=r"296 of 300 rows \(98.7%\) were rejected.*\n *296 × near duplicate"):
        ingest("clean")


def test_signatures_are_taken_from_what_is_kept_and_a_change_of_the_corpus_makes_new_ones(project, monkeypatch):
    write_cleaned()
    ingest("clean")
    made = []
    whole = Signatures.run
    monkeypatch.setattr(Signatures, "run", lambda self, *rest: (made.append(1), whole(self, *rest))[1])
    write_cleaned(near_duplicates={"min_similarity": 0.9})
    ingest("clean")
    assert not made
    write_records(RAW[:-1], "raw")
    ingest("clean")
    assert made == [1]


def test_hashes_estimate_the_similarity_of_sets(tmp_path):
    own = Signatures(tmp_path, NearDuplicates(num_bands=100, band_rows=10))
    points = np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64)
    one, other = points[:3000], points[1000:]
    found = [minima(iter([each[:700], each[700:]]), own.factors, own.offsets) for each in (one, other)]
    assert (found[0] == found[1]).mean() == pytest.approx(2000 / 4000, abs=0.05)
    assert minima(iter([]), own.factors, own.offsets) is None


def test_of_a_chain_the_far_end_stays():
    near = {(0, 1), (1, 2)}  # 0 and 2 are not near

    class Rows:
        def similarity(self, one, other):
            return np.array([float((min(a, b), max(a, b)) in near) for a, b in zip(one, other, strict=True)])

    pairs = np.array(sorted(near), np.uint64)
    assert heaps(pairs, Rows(), np.argsort, 0.5).tolist() == [[1, 0]]
    assert heaps(pairs[:0], Rows(), np.argsort, 0.5).tolist() == []


def test_shares_of_items_in_one_text_are_those_of_the_whole_look(monkeypatch):
    monkeypatch.setattr(overlap, "CHUNK_CHARS", 50)
    text = some_text(1)
    items = {"a": [text[100:160]], "b": [text[300:330] + some_text(2, 30)], "c": [some_text(3, 60)], "d": ["短"]}
    index = overlap.Index(items, 12, 12)
    [seen] = overlap.look([index], [text])
    shares = index.shares(seen)
    assert index.items_in(text) == pytest.approx({item: share for item, share in shares.items() if share})
    assert index.items_in("") == {}


def test_masks_are_counted_and_shown_without_what_they_hide(project):
    (project / "data").mkdir()
    (project / "data" / "t.jsonl").write_text(
        json.dumps({"text": "電話は03-1234-5678、〒１５０－０００１です。"}, ensure_ascii=False) + "\n"
    )
    columns = {"text": {"modality": "text", "filters": {"mask_personal_information": True}}}
    corpus = CORPUS | {"source": {"kind": "files", "paths": ["t.jsonl"]}, "columns": columns}
    write_yaml(paths.RECIPES / "corpora" / "clean.yaml", corpus)
    ingest("clean")
    changes = report()["changes"]
    assert changes["text"]["telephone"] == {"texts": 1, "places": 1, "sample": ["xx-xxxx-xxxx"]}
    assert changes["text"]["postal_code"]["sample"] == ["xxx－xxxx"]
    assert "xx-xxxx-xxxx" in _change_table(changes)


def test_a_corpus_held_against_itself_is_refused():
    with pytest.raises(ValueError, match="names 'raw' itself"):
        Cleaned.model_validate({"kind": "cleaned", "corpus": "raw", "near_duplicates": {"against": ["raw"]}})


def test_a_corpus_that_is_not_validated_is_named_before_any_work(project):
    write_cleaned(near_duplicates={"against": ["gone"]})
    write_yaml(paths.RECIPES / "corpora" / "gone.yaml", CORPUS)
    with pytest.raises(Refused, match=r"hiraku .* gone"):
        ingest("clean")


def test_the_executor_is_a_key_that_no_stage_reads():
    from components.graph import READS

    assert not any("executor" in keys for keys in READS.values())
