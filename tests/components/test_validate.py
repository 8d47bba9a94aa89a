"""`validate`: what is accepted, what stops the flow and how it says so, and the page a person reads."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from components import facts, findings, paths, profiles, records
from components.ingest import ingest
from components.manifest import read_manifest, tree_hash
from components.modalities.text import surveying
from components.outcomes import Refused
from components.validate import validate

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "text_ja"
EXPECTED = {"min_chars": 5, "max_chars": 100, "min_japanese_share": 0.5}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    return tmp_path


def made(rows, expectations=None, **more):
    """Ingest rows as the corpus `small`."""
    corpus = {
        "description": "For a test.",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": {"kind": "files", "paths": ["small"], "licence_field": "license", "id_field": "id"},
        "columns": {"text": {"modality": "text", "expectations": {**EXPECTED, **(expectations or {})}}},
        "splits": {"valid": 0.1, "test": 0.1},
        **more,
    }
    Path("recipes/corpora/small.yaml").write_text(yaml.safe_dump(corpus, allow_unicode=True), encoding="utf-8")
    (paths.DATA / "small").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (paths.DATA / "small" / "a.jsonl").write_text(text, encoding="utf-8")
    ingest("small")


def stories(count):
    return [{"text": f"第{number}話。昔々あるところに猫がいました。", "id": f"n{number}"} for number in range(count)]


def refusal():
    with pytest.raises(Refused) as refused:
        validate("small")
    assert not paths.state("validate", "small").exists()
    return str(refused.value)


def test_a_good_corpus_is_accepted_whole_and_in_order():
    made(stories(200))
    validate("small")
    ids = pq.read_table(paths.payload("validate", "small") / "ids.parquet").to_pydict()["id"]
    assert ids == [f"n{number}" for number in range(200)]
    manifest = read_manifest("validate", "small")
    assert manifest.counts["num_accepted"] == manifest.counts["num_records"] == 200
    assert manifest.parents == {"artifacts/ingested/small/records": read_manifest("ingest", "small").payload_hash}
    assert not paths.outcome_folder("validate", "small").exists()


def test_records_that_break_a_tolerated_expectation_are_left_out():
    rows = stories(200)
    rows[7]["text"] = "短い"
    rows[50]["text"] = "This is English, and it is tolerated."
    made(rows, {"length_mostly": 0.99, "japanese_mostly": 0.99})
    validate("small")
    kept = [record["id"] for record in records.iterate_records("small", ["text"])]
    assert kept == [f"n{number}" for number in range(200) if number not in (7, 50)]
    assert records.count_records("small") == 198
    assert records.count_records("small", accepted_only=False) == 200


def test_splits_are_read_apart_and_make_up_the_whole():
    made(stories(200))
    validate("small")
    counts = {split: records.count_records("small", {split}) for split in records.SPLITS}
    assert sum(counts.values()) == 200
    assert counts == {split: read_manifest("validate", "small").counts[f"num_{split}"] for split in counts}
    assert {record["split"] for record in records.iterate_records("small", [], {"valid", "test"})} == {"valid", "test"}


def test_an_english_corpus_under_a_japanese_recipe_is_refused_even_without_a_share():
    english = [{"text": f"Call me Ishmael, said number {number}."} for number in range(200)]
    made(english, {"min_japanese_share": 0.0})
    said = refusal()
    assert "text_language: found en, expected: most records are in the corpus's language (ja) (language)" in said
    made(english)
    assert "text_japanese_share: found 200 of 200 records (100.00 %) that break it" in refusal()
    assert "columns.text.expectations.min_japanese_share" in refusal()


def test_every_failed_expectation_has_a_line_with_found_expected_key_and_records():
    rows = stories(200)
    rows[3]["text"] = "短い"
    rows[4]["text"] = "文字化け�した文書です。"
    rows[5]["license"] = "All rights reserved"
    made(rows, min_records=150)
    said = refusal()
    assert said.startswith("corpus 'small' breaks 3 of 16 expectations:")
    assert "text_num_chars: found 1 of 200 records (0.50 %) that break it, expected: at least 5 and at most 100" in said
    assert "first are n3 (2)" in said
    assert "text_damaged: found 1 of 200" in said
    assert "first are n4" in said
    assert "licence: found 1 of 200" in said
    assert "(allowed_licences, source.licence_field); first are n5 (All rights reserved)" in said
    assert "recipes/corpora/small.yaml" in said


def test_a_refusal_keeps_the_report_and_the_next_success_removes_it():
    made([*stories(100), {"text": "短い", "id": "bad"}])
    said = refusal()
    kept = paths.outcome_folder("validate", "small")
    assert str(kept / "report.html") in said
    page = (kept / "report.html").read_text(encoding="utf-8")
    assert "Refused" in page
    assert "bad (2)" in page
    assert (kept / "data_docs" / "index.html").is_file()
    made(stories(100))
    validate("small")
    assert not kept.exists()


def test_a_split_without_documents_is_refused():
    made(stories(4), splits={"valid": 0.001, "test": 0.0})
    assert "split: found no record with valid, expected: none of train, valid is empty (splits)" in refusal()


def test_too_few_records_after_the_fact_are_refused():
    made(stories(100))
    path = Path("recipes/corpora/small.yaml")
    corpus = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**corpus, "min_records": 101}, allow_unicode=True), encoding="utf-8")
    assert "records: found 100, expected: at least 101 records (min_records)" in refusal()


def test_too_few_accepted_records_are_refused():
    rows = stories(100)
    rows[0]["text"] = "短い"
    made(rows, {"length_mostly": 0.9}, min_records=100)
    assert "records accepted: found 99, expected at least 100 (min_records)" in refusal()


def test_equal_content_and_equal_ids_are_found(monkeypatch):
    # `ingest` lets none through, so they are put there.
    made(stories(100))
    part = paths.payload("ingest", "small") / "part-00000.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    twin = {**rows[0], "id": rows[1]["id"], "split": "test" if rows[0]["split"] == "train" else "train"}
    pq.write_table(table.from_pylist([*rows, twin], table.schema), part)
    said = refusal()
    assert "id: found 2 of 101 records (1.98 %) that break it, expected: no id twice" in said
    assert "digest: found 2 of 101" in said
    assert "num_splits: found 2 of 101 records (1.98 %) that break it, expected: no content in two splits" in said


def test_accepted_ids_of_earlier_records_are_not_trusted():
    made(stories(100))
    validate("small")
    made(stories(120))
    with pytest.raises(Refused, match=r"ingested again after it was validated\. Run: hiraku validate small"):
        list(records.iterate_records("small", ["text"]))


def test_a_corpus_that_is_not_ingested_names_the_command():
    made(stories(10))
    Path("recipes/corpora/other.yaml").write_bytes(Path("recipes/corpora/small.yaml").read_bytes())
    with pytest.raises(Refused, match="hiraku ingest other"):
        validate("other")


def test_the_same_records_give_the_same_payload_profile_and_page():
    made(stories(100))

    def parts():
        state = paths.state("validate", "small")
        named = [state / "accepted", state / "profile.json", state / "report.html", state / "manifest.json"]
        return [tree_hash(part) for part in named]

    validate("small")
    first = parts()
    validate("small")
    assert parts() == first


def test_the_profile_has_the_numbers_of_the_corpus():
    made(stories(200))
    validate("small")
    profile = json.loads((paths.state("validate", "small") / "profile.json").read_text(encoding="utf-8"))
    lengths = [len(each["text"]) for each in stories(200)]
    fact = profile["facts"]["text_num_chars"]
    assert fact["sum"] == sum(lengths)
    assert fact["quantiles"]["0.5"] == float(np.median(lengths))
    assert sum(fact["histogram"]) == profile["num_records"] == sum(profile["splits"].values()) == 200
    assert profile["licences"] == {"CC0-1.0": 200}
    assert profile["categories"]["text_language"] == {"ja": 200}


def test_histogram_edges_do_not_depend_on_the_data():
    assert profiles.count_edges(20) == [0, 1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert profiles.count_edges(1000)[:10] == profiles.count_edges(20)


class Tags(HTMLParser):
    """Collects what a page refers to and whether its tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_needs_nothing_from_the_net_and_escapes_what_it_shows():
    rows = [{**each, "license": "<script>alert(1)</script>"} for each in stories(100)]
    made(rows, allowed_licences=["<script>alert(1)</script>"])
    validate("small")
    page = (paths.state("validate", "small") / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert not re.search(r"https?:|url\(|@import|<script", page)
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 2
    assert "第5話" not in page


def test_a_page_shows_at_most_twenty_ids_of_one_expectation():
    made([*stories(100), *({"text": f"x{number}", "id": f"bad{number:02d}"} for number in range(50))])
    refusal()
    page = (paths.outcome_folder("validate", "small") / "report.html").read_text(encoding="utf-8")
    (row,) = re.findall(r"<tr><td><code>text_num_chars</code></td><td><code>(.*?)</code>", page)
    assert len(row.split(", ")) == 20


def test_an_expectation_that_cannot_be_computed_is_a_fault_and_no_refusal():
    broken = {
        "success": False,
        "result": {},
        "exception_info": {"raised_exception": True},
        "expectation_config": {"type": "expect_x", "kwargs": {"column": "c"}, "meta": {}},
    }
    with pytest.raises(RuntimeError, match="expect_x on c could not be computed"):
        findings.findings_of({"results": [broken]})


@pytest.mark.skipif(not SHARED.is_dir(), reason="real text is not beside the checkout (../shared/data/text_ja)")
def test_real_text_is_accepted_with_its_many_licences_named():
    made(stories(1))
    corpus = yaml.safe_load(Path("recipes/corpora/small.yaml").read_text(encoding="utf-8"))
    corpus["columns"]["text"]["expectations"] = {"min_chars": 20, "min_japanese_share": 0.3}
    corpus["allowed_licences"] = ["CC BY-SA 3.0", "CC BY-SA 4.0"]
    Path("recipes/corpora/small.yaml").write_text(yaml.safe_dump(corpus, allow_unicode=True), encoding="utf-8")
    (paths.DATA / "small" / "a.jsonl").unlink()
    for name in ("wikipedia_jaquad", "wikipedia_wac"):
        file = f"{name}.jsonl.gz"
        (paths.DATA / "small" / file).write_bytes((SHARED / file).read_bytes())
    ingest("small")
    validate("small")
    assert read_manifest("validate", "small").counts["num_accepted"] == 620 + 2918


def test_the_profile_has_the_vocabulary_and_the_duplicates_of_the_corpus():
    rows = stories(200)
    made([*rows, *({**each, "id": f"again-{number}"} for number, each in enumerate(rows[:50]))], max_reject_share=1.0)
    validate("small")
    state = paths.state("validate", "small")
    profile = json.loads((state / "profile.json").read_text(encoding="utf-8"))
    assert profile["duplicates"] == {"num_rows": 250, "num_left_out": 50}
    letters = Counter("".join(each["text"] for each in rows))
    survey = profile["surveys"]["text"]
    assert survey["num_characters"] == letters.total()
    assert survey["num_distinct_characters"] == len(letters)
    assert survey["characters"] == dict(letters)
    assert survey["num_seen_once"] == sum(count == 1 for count in letters.values())
    words = (state / "report.md").read_text(encoding="utf-8")
    assert "# small: accepted" in words
    assert "| of these, equal to an earlier one | 20.00% |" in words


def test_lines_that_come_again_are_counted_also_where_only_a_share_of_them_is_kept(monkeypatch):
    monkeypatch.setattr(surveying, "MOST_LINES", 500)
    survey = surveying.Survey()
    for number in range(10_000):  # each line of the second half is one of the first
        survey.add(f"この行は第{number % 5_000}行であります。")
    assert survey.report()["num_lines"] == 10_000
    assert survey.report()["repeated_line_share"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", [int, float])
def test_a_distribution_read_sorted_is_that_of_numpy(tmp_path, kind):
    chance = np.random.default_rng(0)
    values = chance.integers(0, 3_000, 997) if kind is int else chance.beta(2, 5, 997).round(4)
    table = facts.FactTable(tmp_path / "facts.sqlite")
    for number, value in enumerate(values.tolist()):
        fixed = {"id": str(number), "split": "train", "licence": "MIT", "source": "s", "digest": str(number)}
        table.add(fixed | {"value": value})
    found = profiles.profile_of(table)["facts"]["value"]
    table.close()
    counts, _ = np.histogram(values, bins=found["edges"])
    assert found["histogram"] == counts.tolist()
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
    for share, value in found["quantiles"].items():
        assert value == pytest.approx(np.quantile(values, float(share)), abs=1e-4)
