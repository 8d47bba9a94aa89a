"""A corpus translated from another one: every form, both sides kept, resumed after trouble, told in the reports."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import paths
from components.graph import stages
from components.ingest import ingest
from components.manifest import read_manifest, tree_hash
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records
from components.validate import validate
from tests.components.small_endpoint import Server, serving
from tests.components.small_translator import write_translator

TALKS = [
    {
        "id": f"talk-{number}",
        "license": "MIT" if number % 2 else "CC-BY-4.0",
        "text": f"Sentence {number} is here. It has a friend!\n\nLast line of {number}.",
        "messages": [
            {"role": "user", "content": f"Question number {number}?"},
            {"role": "assistant", "content": f"Answer number {number}."},
        ],
        "prompt": f"Prompt number {number}?",
        "chosen": f"The better answer {number}.",
        "rejected": f"The worse answer {number}.",
    }
    for number in range(12)
]
FORMS = {
    "document": {"modality": "text", "form": "document"},
    "conversation": {"modality": "text", "form": "conversation", "fields": {"messages": "messages"}},
    "preference": {"modality": "text", "form": "preference"},
}


def write_corpora(form: str, engine: dict[str, Any], **source: Any) -> None:
    common = {"description": "Talks.", "licence": "CC0-1.0", "splits": {"valid": 0.3, "test": 0.3}}
    common["allowed_licences"] = ["MIT", "CC-BY-4.0"]
    files = {"kind": "files", "paths": ["talks"], "licence_field": "license", "id_field": "id"}
    made = {"kind": "translated", "corpus": "talks", "engine": engine, **source}
    column = {"modality": "text", "form": form}
    Path("recipes/corpora").mkdir(parents=True, exist_ok=True)
    for name, section in {
        "talks": {**common, "language": "en", "source": files, "columns": {"said": FORMS[form]}},
        "talks-ja": {**common, "language": "und", "source": made, "columns": {"said": column}},
    }.items():
        Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(section))
    Path("data/talks").mkdir(parents=True, exist_ok=True)
    Path("data/talks/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TALKS))
    ingest("talks")
    validate("talks")


def rows(corpus: str, *columns: str) -> list[dict[str, Any]]:
    return list(iterate_records(corpus, ["said", "licence", "source", *columns], accepted_only=False))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path / "checkpoints"))


@pytest.fixture
def server():
    with serving() as running:
        yield running


def endpoint(server: Server, **keys: Any) -> dict[str, Any]:
    own = {"kind": "openai", "url": server.url, "model": "m", "licence": "MIT", "key_variable": None}
    return own | {"num_parallel": 1, "batch_texts": 4, "max_tries": 1} | keys


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_translated_text_by_text_and_keeps_both_sides_split_id_and_licence(
    server: Server, form: str
) -> None:
    write_corpora(form, endpoint(server))
    ingest("talks-ja")
    ours, theirs = rows("talks-ja", "said_original"), rows("talks")
    assert len(ours) == len(TALKS)
    for made, source in zip(ours, theirs, strict=True):
        assert made["said_original"] == source["said"]
        assert {key: made[key] for key in ("id", "split", "licence", "source")} == {
            key: source[key] for key in ("id", "split", "licence", "source")
        }
        expected = source["said"].upper()
        for word in ("messages", "role", "content", "user", "assistant", "chosen", "rejected"):
            expected = expected.replace(f'"{word.upper()}"', f'"{word}"')
        assert made["said"] == expected
    manifest = read_manifest("ingest", "talks-ja")
    assert manifest.details["translation"]["engine"]["model"] == "m"
    assert manifest.details["engines"] == {"m": "MIT"}
    assert manifest.parents == {
        paths.payload(verb, "talks").as_posix(): read_manifest(verb, "talks").payload_hash
        for verb in ("ingest", "validate")
    }
    validate("talks-ja")
    page = (paths.state("validate", "talks-ja") / "report.html").read_text(encoding="utf-8")
    assert "texts of talks, translated by kind openai" in page


def test_an_endpoint_that_gives_up_half_way_costs_nothing_that_was_translated(server: Server) -> None:
    write_corpora("conversation", endpoint(server))
    server.answers = [None, None, *[lambda _body: (500, {}, b"down")] * 99]
    with pytest.raises(Refused, match=r"left 16 of 24 texts untranslated: HTTP 500: down"):
        ingest("talks-ja")
    assert not paths.state("ingest", "talks-ja").exists()
    server.answers, before = [], len(server.requests)
    ingest("talks-ja")
    assert len(server.requests) - before == 4
    assert len(rows("talks-ja")) == len(TALKS)
    before = len(server.requests)
    ingest("talks-ja")
    assert len(server.requests) == before, "all of it is known"


def test_suspicious_pairs_are_reported_with_examples_and_dropped_if_the_corpus_says_so(server: Server) -> None:
    bounds = {"min_length_ratio": 0.1, "max_length_ratio": 0.5}
    write_corpora("document", endpoint(server), suspicion=bounds, drop_suspicious=False)
    ingest("talks-ja")
    report = json.loads((paths.state("ingest", "talks-ja") / "report.json").read_text())
    (reason,) = report["translation"]["suspicious"]
    assert report["translation"]["suspicious"] == {"the translation is too long for its source": 12}
    first = report["translation"]["examples"][reason][0]
    assert (first["id"], first["translation"]) == ("talk-0", first["source"].upper())
    validate("talks-ja")
    page = (paths.state("validate", "talks-ja") / "report.html").read_text(encoding="utf-8")
    assert "the translation is too long for its source" in page
    write_corpora("document", endpoint(server), suspicion=bounds, drop_suspicious=True)
    with pytest.raises(Refused, match=r"12 of 12 rows .*rejected(?s:.*)too long for its source \(source\.drop_susp"):
        ingest("talks-ja")


def test_an_encoder_decoder_translates_in_ingest_and_is_a_dependency_of_the_stage() -> None:
    write_translator(Path("translator"))
    engine = {"kind": "transformers", "model": "path:translator", "licence": "CC-BY-NC-4.0", "max_new_tokens": 12}
    write_corpora("document", engine, max_records=5)
    ingest("talks-ja")
    assert len(rows("talks-ja")) == 5
    manifest = read_manifest("ingest", "talks-ja")
    assert manifest.parents["translator"] == tree_hash(Path("translator"))
    first = manifest.payload_hash
    stage = next(row for row in stages(Library()) if row.key == "ingest-talks-ja")
    assert "translator" in stage.deps
    assert "artifacts/ingested/talks/records" in stage.deps
    for file in Path("checkpoints/translations").iterdir():
        file.unlink()
    ingest("talks-ja")
    assert read_manifest("ingest", "talks-ja").payload_hash == first


def test_a_column_that_the_other_corpus_has_in_another_form_is_refused(server: Server) -> None:
    write_corpora("document", endpoint(server))
    path = Path("recipes/corpora/talks-ja.yaml")
    path.write_text(path.read_text().replace("form: document", "form: conversation"))
    with pytest.raises(Refused, match="translates the column 'said', expected one of the same name, modality and form"):
        ingest("talks-ja")


def test_a_translated_corpus_follows_no_folder(server: Server) -> None:
    write_corpora("document", endpoint(server))
    path = Path("recipes/corpora/talks-ja.yaml")
    path.write_text(path.read_text() + "follow: {folder: somewhere}\n")
    with pytest.raises(Refused, match="'follow' brings files, but the source is 'translated'"):
        Library().read("corpus", "talks-ja")
