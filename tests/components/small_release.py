"""A project of a few dozen documents and random weights, with every state that a release needs, made in a second."""

import json
from pathlib import Path

import yaml

from components import paths
from components.manifest import Manifest, tree_hash, writing
from components.modalities import modality
from components.recipes import Library
from components.records import ACCEPTED_NAME, RecordWriter, TableWriter, text_schema
from models.gpt import convert, network

RECIPE = {
    "family": "gpt",
    "description": "A network that learnt nothing.",
    "language": "ja",
    "licence": "CC-BY-SA-4.0",
    "encoder": "town-spm",
    "pretrain": {
        "shards": [{"shards": "town+town-spm"}],
        "objective": {"kind": "next-token"},
        "samples": {"window_tokens": 16, "batch_tokens": 64, "micro_batch_tokens": 32},
        "num_steps": 7,
        "optimizer": {"learning_rate": 0.01},
    },
    "evaluate": {"tasks": ["town-held-out"]},
    "package": {
        "title": "Tiny",
        "summary": "A network for a test.",
        "limits": "It is good for nothing.",
        "example_prompt": "太郎は",
    },
}
SHAPE = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": 24}
NETWORKS = {"tiny": {"architecture": "gpt2", **SHAPE}, "tiny-neox": {"architecture": "gpt_neox", **SHAPE}}
SPLITS = ["train"] * 30 + ["valid"] * 5 + ["test"] * 6
REJECTED_ID = "doc-40"
"""A record of the test split that validation did not accept."""


def text_of(number: int) -> str:
    """The text of a document; some are longer than the context of the networks."""
    places = ["駅", "公園", "海", "図書館", "商店街"]
    return "".join(
        f"太郎は{places[(number + i) % 5]}で{number * 7 % 90 + i}回本を読んだ。" for i in range(1 + number % 7)
    )


def write_recipes(root: Path) -> None:
    """The YAML files, and raw data for the corpus to have come from."""
    files = {
        "corpora/town": {
            "description": "Sentences of a town.",
            "language": "ja",
            "licence": "CC0-1.0",
            "source": {"kind": "files", "paths": ["town.txt"]},
            "columns": {"text": {"modality": "text"}},
        },
        "encoders/town-spm": {"kind": "sentencepiece", "corpora": [{"corpus": "town"}], "vocab_size": 320},
        "tasks/town-held-out": {"kind": "held-out-bits", "corpus": "town"},
        **{name: RECIPE | {"network": shape} for name, shape in NETWORKS.items()},
    }
    for name, content in files.items():
        path = root / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    (root / "data").mkdir()
    (root / "data" / "town.txt").write_text("\n".join(map(text_of, range(len(SPLITS)))), encoding="utf-8")


def _hash_of(verb: str, name: str) -> dict[str, str]:
    manifest = json.loads((paths.state(verb, name) / "manifest.json").read_text())
    return {paths.payload(verb, name).as_posix(): manifest["payload_hash"]}


def make_states() -> None:
    """Every state from the records to the weights, in the current folder."""
    ids = [f"doc-{number:02d}" for number in range(len(SPLITS))]
    raw = {"data/town.txt": tree_hash(Path("data/town.txt"))}
    details = {"licences": {"CC0-1.0": 21, "CC-BY-4.0": 20}, "rejects": {"too short | odd": 3}}
    counts = {"num_rows": 44, "num_records": 41, "num_rejects": 3}
    with (
        writing(Manifest("ingest", "town", {}, raw, dict(counts), "CC0-1.0", details)) as folder,
        RecordWriter(folder / "records") as records,
    ):
        for number, (record_id, split) in enumerate(zip(ids, SPLITS, strict=True)):
            records.add(
                {"id": record_id, "split": split, "licence": "CC0-1.0", "source": "town.txt", "text": text_of(number)}
            )
    accepted = {"num_accepted": 40, "num_train": 30, "num_valid": 5, "num_test": 5}
    parents = _hash_of("ingest", "town")
    with writing(Manifest("validate", "town", {}, parents, dict(accepted), "CC0-1.0")) as folder:
        (folder / "accepted").mkdir()
        with TableWriter(folder / "accepted" / ACCEPTED_NAME, text_schema("id")) as table:
            for record_id in ids:
                if record_id != REJECTED_ID:
                    table.add({"id": record_id})
    corpus = parents | _hash_of("validate", "town")
    section = Library().read("encoder", "town-spm")
    text = modality("text")
    encoder = Manifest("fit", "town-spm", {}, corpus, {}, "CC0-1.0", {"encoder": section.model_dump(mode="json")})
    with writing(encoder) as folder:
        text.fit(section, map(text_of, range(30)), map(text_of, range(30, 35)), {}, folder / "encoder")
    opened = text.open_encoder(paths.payload("fit", "town-spm"))
    parents = corpus | _hash_of("fit", "town-spm")
    shards = Manifest("shard", "town+town-spm", {}, parents, {"train/tokens": 777}, "CC0-1.0")
    with writing(shards) as folder:
        encoded = ((split, opened.encode([text_of(number)])[0]) for number, split in enumerate(SPLITS))
        text.write_shards(encoded, opened, folder / "shards")
    for name in NETWORKS:
        make_weights(name, opened.facts, seed=0)


def make_weights(name: str, facts: dict[str, int], seed: int) -> None:
    """Random weights of a recipe as if they had been trained, with a curve."""
    import torch

    torch.manual_seed(seed)
    recipe = Library().read("recipe", name)
    parents = _hash_of("fit", "town-spm") | _hash_of("shard", "town+town-spm")
    points = [{"step": step, "metrics": {"pretrain/loss": 6.0 - step / 4}} for step in range(1, 8)]
    points.append({"step": 7, "metrics": {"pretrain/valid_loss": 4.5}})
    with writing(Manifest("pretrain", name, {}, parents, {}, recipe.licence)) as folder:
        built = network.build(recipe.network, facts)
        # Larger than an untrained network's, so that its answers differ from token to token.
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        convert.save(built, folder / "weights")
        (folder / "curve.json").write_text(json.dumps(points))


def make_project(root: Path) -> None:
    """All of it; the current folder must be `root`."""
    write_recipes(root)
    make_states()
