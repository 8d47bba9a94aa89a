import json
import random
from pathlib import Path

import pytest
import yaml
from sentencepiece import SentencePieceProcessor

from components import fit as verb
from components import paths
from components.fit import _is_in_share, fit
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.modalities.text import tokenizers
from components.outcomes import Refused
from components.records import ACCEPTED_NAME, RecordWriter, TableWriter, text_schema

CORPUS = {
    "description": "A town.",
    "language": "ja",
    "licence": "CC0-1.0",
    "source": {"kind": "files", "paths": ["town"]},
    "columns": {"text": {"modality": "text"}},
}
ENCODER = {"kind": "sentencepiece", "corpora": [{"corpus": "town"}], "vocab_size": 360}


def text(rng: random.Random) -> str:
    who = ["太郎", "花子", "先生", "古い橋", "小さな犬"]
    what = ["を見た。", "が笑った。", "は眠る。", "へ歩いて行く。"]
    return "\n".join(rng.choice(who) + rng.choice(what) for _ in range(5))


def write_corpus(name: str, records: list[dict], rejected: tuple[str, ...] = (), **keys) -> None:
    """What `ingest` and `validate` leave, and the YAML file."""
    path = paths.RECIPES / "corpora" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(CORPUS | keys, allow_unicode=True), encoding="utf-8")
    with writing(Manifest("ingest", name, {}, licence="CC0-1.0")) as folder, RecordWriter(folder / "records") as writer:
        for record in records:
            writer.add(record)
    records_path = paths.payload("ingest", name)
    manifest = Manifest("validate", name, {}, {records_path.as_posix(): read_manifest("ingest", name).payload_hash})
    with writing(manifest) as folder:
        (folder / "accepted").mkdir()
        with TableWriter(folder / "accepted" / ACCEPTED_NAME, text_schema("id")) as table:
            for record in records:
                if record["id"] not in rejected:
                    table.add({"id": record["id"]})


def write_encoder(name: str, **keys) -> None:
    path = paths.RECIPES / "encoders" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(ENCODER | keys, allow_unicode=True), encoding="utf-8")


def record(number: int, split: str, value: str) -> dict:
    return {"id": f"town-{number}", "split": split, "licence": "CC0-1.0", "source": "town.txt", "text": value}


@pytest.fixture
def town(tmp_path, monkeypatch) -> list[dict]:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    splits = ["valid" if number % 10 == 0 else "train" for number in range(200)]
    records = [record(number, split, text(rng)) for number, split in enumerate(splits)]
    write_corpus("town", records)
    write_encoder("town-spm")
    return records


def report_of(name: str) -> dict:
    return json.loads((paths.state("fit", name) / "report.json").read_text(encoding="utf-8"))


def test_an_encoder_is_fitted_on_train_and_proven_on_valid(town):
    fit("town-spm")
    report = report_of("town-spm")
    assert report["train"]["documents"] == 180
    assert report["held_out"]["documents"] == 20
    assert report["held_out"]["differing"] == 0
    names = {path.name for path in paths.payload("fit", "town-spm").iterdir()}
    assert names == {"spiece.model", "tokenizer.json", "tokenizer_config.json"}


def test_the_manifest_names_parents_and_revisions(town):
    fit("town-spm")
    manifest = read_manifest("fit", "town-spm")
    assert manifest.payload_hash == tree_hash(paths.payload("fit", "town-spm"))
    assert manifest.parents == {
        "artifacts/ingested/town/records": read_manifest("ingest", "town").payload_hash,
        "artifacts/validated/town/accepted": read_manifest("validate", "town").payload_hash,
    }
    assert set(manifest.revisions) == {"components.fit", "components.modalities.text"}
    assert manifest.counts["held_out/documents"] == 20


def test_a_second_run_leaves_the_same_bytes(town):
    fit("town-spm")
    first = tree_hash(paths.state("fit", "town-spm"))
    fit("town-spm")
    assert tree_hash(paths.state("fit", "town-spm")) == first


def test_only_accepted_records_are_read(town):
    write_corpus("town", town, rejected=("town-1", "town-10"))
    fit("town-spm")
    assert report_of("town-spm")["train"]["documents"] == 179
    assert report_of("town-spm")["held_out"]["documents"] == 19


def test_a_share_of_a_corpus_is_chosen_by_id_and_leaves_the_proof_whole(town):
    write_encoder("town-spm", corpora=[{"corpus": "town", "share": 0.5}], vocab_size=320)
    fit("town-spm")
    expected = sum(_is_in_share(each["id"], 0.5) for each in town if each["split"] == "train")
    assert report_of("town-spm")["train"]["documents"] == expected
    assert 50 < expected < 130
    assert report_of("town-spm")["held_out"]["documents"] == 20


def test_a_larger_share_holds_the_smaller_one():
    ids = [f"doc-{number}" for number in range(20_000)]
    chosen = {share: {each for each in ids if _is_in_share(each, share)} for share in (0.1, 0.3, 1.0)}
    assert chosen[0.1] < chosen[0.3] < chosen[1.0] == set(ids)
    assert len(chosen[0.3]) == pytest.approx(6000, rel=0.05)


def test_what_sentencepiece_says_goes_to_the_journal(town, capfd):
    fit("town-spm")
    assert capfd.readouterr() == ("", "")
    assert "Loaded all" in (paths.journal("fit", "town-spm") / "fit.log").read_text(encoding="utf-8")


def test_a_refused_fit_leaves_nothing_and_keeps_what_was_there(town):
    fit("town-spm")
    before = tree_hash(paths.state("fit", "town-spm"))
    write_encoder("town-spm", vocab_size=100_000)
    with pytest.raises(Refused, match=r"'vocab_size' to [0-9]+ or less"):
        fit("town-spm")
    assert tree_hash(paths.state("fit", "town-spm")) == before
    assert [path.name for path in Path("artifacts/fitted").iterdir()] == ["town-spm"]


def test_a_column_that_the_corpus_lacks_is_refused_before_reading(town):
    write_encoder("town-spm", column="caption")
    with pytest.raises(Refused, match=r"column 'caption', but corpus 'town' has .*\['text'\]"):
        fit("town-spm")


def test_a_corpus_that_was_not_ingested_is_answered_with_the_command(town):
    write_encoder("sea-spm", corpora=[{"corpus": "sea"}])
    (paths.RECIPES / "corpora" / "sea.yaml").write_text(yaml.safe_dump(CORPUS), encoding="utf-8")
    with pytest.raises(Refused, match="hiraku ingest sea"):
        fit("sea-spm")


def test_a_sample_of_bounded_size_is_fitted_on_with_the_weights_of_its_corpora(town):
    write_corpus(
        "city",
        [record(number, "train", each["text"] + "市") | {"id": f"c{number}"} for number, each in enumerate(town)]
        + [record(900 + number, "valid", "市の犬。") for number in range(3)],
    )
    corpora = [{"corpus": "town", "weight": 0.75}, {"corpus": "city", "weight": 0.25}]
    write_encoder("town-spm", corpora=corpora, sample_chars=2_000, vocab_size=310)
    fit("town-spm")
    report = report_of("town-spm")
    assert report["sample"]["town"]["characters"] == pytest.approx(1_500, abs=60)
    assert report["sample"]["city"]["characters"] == pytest.approx(500, abs=60)
    assert report["train"]["chars"] == sum(each["characters"] for each in report["sample"].values())
    assert set(report["by_source"]) == {"town", "city"}


def test_weights_of_a_sample_that_do_not_add_up_are_refused(town):
    write_encoder("town-spm", corpora=[{"corpus": "town", "weight": 0.8}], sample_chars=2_000)
    with pytest.raises(Refused, match=r"the values of 'weight' add up to 0\.8, expected 1"):
        fit("town-spm")
    write_encoder("town-spm", corpora=[{"corpus": "town", "weight": 1.0}])
    with pytest.raises(Refused, match="'weight' belongs to 'sample_chars'"):
        fit("town-spm")


def test_a_killed_fit_does_not_read_its_sample_again(town, monkeypatch):
    write_encoder("town-spm", sample_chars=2_000, vocab_size=310)
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit("town-spm")
    with monkeypatch.context() as patch:
        patch.setattr(verb, "_is_in_share", lambda *_: 1 / 0)  # is asked of every training record that is read
        fit("town-spm")
    assert report_of("town-spm")["sample"]["town"]["characters"] <= 2_000


def test_the_report_has_tokens_by_source_kanji_and_the_released_settings(town):
    write_encoder("town-spm", released_as="japanese-gpt-neox-3.6b")
    fit("town-spm")
    report = report_of("town-spm")
    processor = SentencePieceProcessor(model_file=str(paths.payload("fit", "town-spm") / "spiece.model"))
    held_out = [each["text"] for each in town if each["split"] == "valid"]
    counts = report["by_source"]["town"]
    assert counts["documents"] == len(held_out)
    assert counts["tokens"] == sum(len(processor.encode(each)) for each in held_out)
    assert counts["characters_per_token"] == pytest.approx(sum(map(len, held_out)) / counts["tokens"], abs=1e-4)
    # JIS X 0208 has 2,965 kanji of level 1 and 3,390 of level 2; JIS X 0213:2004 adds 1,259 and 2,436.
    assert [each["kanji"] for each in report["kanji"].values()][:2] == [2_965, 3_390]
    assert abs(report["kanji"]["JIS X 0213 levels 3 and 4"]["kanji"] - 3_695) < 100
    pieces = {processor.id_to_piece(number) for number in range(processor.get_piece_size())}
    assert report["kanji"]["JIS X 0208 level 1"]["with_a_piece"] == sum(
        len(each) == 1 and "\u4e00" <= each <= "\u9fff" for each in pieces
    )
    words = (paths.state("fit", "town-spm") / "report.md").read_text(encoding="utf-8")
    assert "| vocab_size | 32,000 | 360 |" in words
    assert "| line feed | the symbol <NL> | a piece |" in words
