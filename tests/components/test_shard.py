import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import yaml

from components import paths, shard
from components.growing import PLACE_NAME
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.modalities.text import shards, tokenizers
from components.modalities.text.schema import SentencePiece
from components.outcomes import Refused
from components.recipes import Library
from components.records import ACCEPTED_NAME, RecordWriter, TableWriter, column_of, text_schema

CORPUS = {
    "description": "A town.",
    "language": "ja",
    "licence": "CC0-1.0",
    "source": {"kind": "files", "paths": ["town"]},
    "columns": {"text": {"modality": "text"}},
    "splits": {"valid": 0.1, "test": 0.0},
}
ENCODER = {"kind": "sentencepiece", "corpora": [{"corpus": "town"}], "vocab_size": 320}
NAME = "town+town-spm"


def write_yaml(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def write_records(records: list[dict], rejected: tuple[str, ...] = ()) -> None:
    manifest = Manifest("ingest", "town", {}, licence="CC0-1.0")
    with writing(manifest) as folder, RecordWriter(folder / "records") as writer:
        for record in records:
            writer.add(record)
    records_path = paths.payload("ingest", "town").as_posix()
    manifest = Manifest("validate", "town", {}, {records_path: read_manifest("ingest", "town").payload_hash})
    with writing(manifest) as folder:
        (folder / "accepted").mkdir()
        with TableWriter(folder / "accepted" / ACCEPTED_NAME, text_schema("id")) as table:
            for record in records:
                if record["id"] not in rejected:
                    table.add({"id": record["id"]})


@pytest.fixture
def records(tmp_path, monkeypatch) -> list[dict]:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    made = []
    for number in range(120):
        text = "".join(rng.choice(["太郎", "花子", "先生", "は", "が", "笑う。", "眠る。\n"]) for _ in range(30))
        split = "valid" if number % 10 == 0 else "train"
        made.append({"id": f"{number}", "split": split, "licence": "CC0-1.0", "source": "t", "text": f"{number}{text}"})
    write_yaml(paths.RECIPES / "corpora" / "town.yaml", CORPUS)
    write_yaml(paths.RECIPES / "encoders" / "town-spm.yaml", ENCODER)
    write_records(made)
    texts = [record["text"] for record in made]
    with writing(Manifest("fit", "town-spm", {})) as folder:
        tokenizers.fit(SentencePiece.model_validate(ENCODER), texts, texts[:5], folder / "encoder")
    return made


def expected_tokens(records: list[dict], split: str) -> list[int]:
    """The stream of a split by SentencePiece itself."""
    model = paths.payload("fit", "town-spm") / "spiece.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = [[*processor.encode(each["text"]), processor.eos_id()] for each in records if each["split"] == split]
    return [token for document in ids for token in document]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_shards_are_what_sentencepiece_encodes_in_the_order_of_records(records, split):
    shard.shard(NAME)
    data = np.fromfile(paths.payload("shard", NAME) / f"{split}-00000.bin", dtype="<u2")
    assert data.tolist() == expected_tokens(records, split)


def test_only_accepted_records_become_tokens(records):
    write_records(records, rejected=("1", "50"))
    shard.shard(NAME)
    kept = [record for record in records if record["id"] not in ("1", "50")]
    data = np.fromfile(paths.payload("shard", NAME) / "train-00000.bin", dtype="<u2")
    assert data.tolist() == expected_tokens(kept, "train")


def test_how_many_records_are_encoded_at_once_has_no_influence(records, monkeypatch):
    shard.shard(NAME)
    whole = tree_hash(paths.state("shard", NAME))
    monkeypatch.setattr(shard, "BATCH_RECORDS", 7)
    monkeypatch.setattr(shard, "BATCH_SIZE", 200)
    shard.shard(NAME)
    assert tree_hash(paths.state("shard", NAME)) == whole


def test_the_manifest_counts_documents_tokens_and_characters(records):
    shard.shard(NAME)
    manifest = read_manifest("shard", NAME)
    assert manifest.counts["train/documents"] == 108
    assert manifest.counts["valid/documents"] == 12
    assert manifest.counts["train/tokens"] == len(expected_tokens(records, "train"))
    assert manifest.counts["characters"] == sum(len(record["text"]) for record in records)
    num_tokens = sum(len(expected_tokens(records, split)) for split in ("train", "valid")) - len(records)
    assert manifest.counts["characters_per_token"] == pytest.approx(
        manifest.counts["characters"] / num_tokens, abs=1e-4
    )
    assert set(manifest.parents) == {
        "artifacts/ingested/town/records",
        "artifacts/validated/town/accepted",
        "artifacts/fitted/town-spm/encoder",
    }
    assert manifest.details["facts"]["vocab_size"] == 320


def test_a_literal_end_of_text_in_a_document_is_no_end(records):
    write_records([*records, records[1] | {"id": "mark", "text": "本文</s>本文"}])
    shard.shard(NAME)
    data = np.fromfile(paths.payload("shard", NAME) / "train-00000.bin", dtype="<u2")
    assert int((data == 2).sum()) == 109


def test_the_samples_of_a_sharded_corpus_can_be_opened(records):
    from components.modalities import modality
    from models.gpt.schema import Samples

    shard.shard(NAME)
    spec = Samples(window_tokens=16, batch_tokens=64, micro_batch_tokens=32)
    samples = modality("text").open_samples([(paths.payload("shard", NAME), 1.0)], "train", spec)
    row = samples.batch(np.array([0]), 0)["input_ids"][0]
    assert row.tolist() == expected_tokens(records, "train")[:17]


@pytest.mark.parametrize(("split", "kept"), [("valid", "train"), ("train", "valid")])
def test_an_empty_split_is_refused_and_leaves_nothing(records, split, kept):
    write_records([record for record in records if record["split"] == kept])
    with pytest.raises(Refused, match=f"so {split} would be empty"):
        shard.shard(NAME)
    assert not Path("artifacts/sharded").exists()


def test_a_corpus_that_is_only_scored_on_has_shards_of_its_one_split(records):
    write_yaml(paths.RECIPES / "corpora" / "town.yaml", CORPUS | {"splits": {"only": "test"}})
    write_records([record | {"split": "test"} for record in records])
    shard.shard(NAME)
    index = json.loads((paths.payload("shard", NAME) / "index.json").read_text())
    assert list(index["splits"]) == ["test"]


def test_a_split_that_the_corpus_does_not_declare_may_be_empty(records):
    shard.shard(NAME)
    index = json.loads((paths.payload("shard", NAME) / "index.json").read_text())
    assert sorted(index["splits"]) == ["train", "valid"]


@pytest.mark.parametrize("name", ["town", "town+", "+town-spm", "town+town-spm+more"])
def test_a_name_that_is_no_pair_is_refused(records, name):
    with pytest.raises(Refused, match=r"CORPUS\+ENCODER"):
        shard.shard(name)


def test_a_missing_encoder_is_answered_with_the_command(records):
    write_yaml(paths.RECIPES / "encoders" / "other-spm.yaml", ENCODER)
    with pytest.raises(Refused, match="hiraku fit other-spm"):
        shard.shard("town+other-spm")


def test_an_encoder_of_another_column_is_refused(records):
    write_yaml(paths.RECIPES / "encoders" / "town-spm.yaml", ENCODER | {"column": "caption"})
    with pytest.raises(Refused, match=r"column 'caption', but corpus 'town' has \['text'\]"):
        shard.shard(NAME)


def write_forms(**forms: str) -> None:
    """A corpus of columns of these forms, and a prompt format."""
    columns = {name: {"modality": "text", "form": form} for name, form in forms.items()}
    write_yaml(paths.RECIPES / "corpora" / "town.yaml", CORPUS | {"columns": columns})
    write_yaml(paths.RECIPES / "encoders" / "town-chat.yaml", {"kind": "chat", "tokenizer": "town-spm"})


@pytest.mark.parametrize("form", ["conversation", "preference"])
def test_a_prompt_format_encodes_conversations_and_preferences_alike(records, form):
    write_forms(text="document", said=form)
    assert column_of(Library(), "town", "town-chat") == "said"


@pytest.mark.parametrize(
    ("forms", "found"),
    [
        ({"text": "document"}, r"none among \['text'\]"),
        ({"pairs": "preference", "said": "conversation"}, "pairs, said among"),
    ],
)
def test_a_prompt_format_needs_one_column_of_its_forms(records, forms, found):
    write_forms(**forms)
    with pytest.raises(Refused, match=rf"column of form conversation or preference, but corpus 'town' has {found}"):
        shard.shard("town+town-chat")


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("num_records", [33, 47, 90])
def test_a_killed_run_leaves_no_shards_that_count_and_the_next_one_goes_on(records, monkeypatch, num_records):
    monkeypatch.setattr(shards, "FILE_TOKENS", 400)
    monkeypatch.setattr(shard, "BATCH_RECORDS", 7)
    shard.shard(NAME)
    whole = read_manifest("shard", NAME)
    shutil.rmtree(paths.state("shard", NAME))

    encoded: list[str] = []

    def encode(self, values, own=tokenizers.TextEncoder.encode):
        encoded.extend(values)
        if len(encoded) > num_records:
            raise Killed
        return own(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(tokenizers.TextEncoder, "encode", encode)
        with pytest.raises(Killed):
            shard.shard(NAME)
    assert not paths.state("shard", NAME).exists()
    encoded.clear()
    num_records = 1_000
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers.TextEncoder, "encode", encode)
        shard.shard(NAME)
    assert len(encoded) < len(records)
    found = read_manifest("shard", NAME)
    assert (found.payload_hash, found.counts) == (whole.payload_hash, whole.counts)
    assert not (paths.payload("shard", NAME) / PLACE_NAME).exists()


def test_a_second_run_does_not_touch_the_shards_of_the_first(records):
    shard.shard(NAME)
    first = (paths.payload("shard", NAME) / "train-00000.bin").open("rb")
    with first:
        shard.shard(NAME)
        assert first.read() == (paths.payload("shard", NAME) / "train-00000.bin").read_bytes()
