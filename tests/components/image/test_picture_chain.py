"""A tower, the features of it, and pairs of towers with and without them, by the verbs, on coloured squares."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components import paths
from components.agreement import require_agreement
from components.batch_view import batch_texts
from components.evaluate import evaluate
from components.fit import fit
from components.manifest import read_manifest
from components.outcomes import Refused
from components.package import package
from components.pretrain import pretrain
from components.recipes import Library
from components.shard import shard
from models.clip.convert import load
from tests.components.image.small_squares import ENCODERS, small_records, write_project, write_tower
from tests.components.sharded import run_chain, stages_in
from tests.components.speech.small_speech import write_yaml

pytestmark = pytest.mark.slow

TEXT = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 80}
TASKS: dict[str, dict[str, Any]] = {
    "labels": {"kind": "labelling"},
    "found": {"kind": "retrieval"},
    "named": {"kind": "zero-shot-classification", "templates": "ja-37"},
    "asked": {"kind": "caption-probe", "foil_kind": "colour"},
}
TRAINED = ("cached", "seen", "cloob", "read")


def recipe(
    objective: dict[str, Any], samples: dict[str, Any], features: list[str] | None = None, **keys: Any
) -> dict[str, Any]:
    return {
        "family": "clip", "description": "A pair.", "language": "ja", "licence": "CC0-1.0",
        "network": {"kind": "dual", "tower": "small-vit", "tower_width": 16, "text": TEXT, "projection_size": 8},
        "encoder": "captions",
        "pretrain": {
            "objective": objective, "shards": [{"shards": "squares+captions"}], "num_steps": 20, "valid_samples": 4,
            "samples": {"form": "pairs", "batch_samples": 8, "caption_shares": {"web": 1, "generated": 2}} | samples,
            "optimizer": {"learning_rate": 0.001}, "validate_every_steps": 3, "log_every_steps": 1,
        } | keys,
        "evaluate": {"tasks": ["found", "named", "asked"], "features": features or []},
        "package": {"layouts": ["transformers"], "title": "A", "summary": "A.", "limits": "None."},
    }  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("chain")
    with stages_in(root):
        write_project(small_records())
        for name, keys in TASKS.items():
            write_yaml(paths.RECIPES / "tasks" / f"{name}.yaml", {"corpus": "squares"} | keys)
        cached, seen = {"features": ["squares+tower"]}, {"pictures": ["squares+pixels"]}
        write_yaml(paths.RECIPES / "cached.yaml", recipe({"kind": "clip"}, cached))
        write_yaml(paths.RECIPES / "seen.yaml", recipe({"kind": "clip", "chunk_samples": 3}, seen))
        cloob = recipe({"kind": "cloob"}, cached, guard={"spike_ratio": None})
        write_yaml(paths.RECIPES / "cloob.yaml", cloob)
        write_yaml(paths.RECIPES / "read.yaml", recipe({"kind": "clip"}, cached, features=["squares+half"]))
        stages = {"fit": fit, "shard": shard, "pretrain": pretrain, "evaluate": evaluate}
        done = run_chain(TRAINED, stages)
    return SimpleNamespace(root=root, done=done)


@pytest.fixture(autouse=True)
def _inside(chain, monkeypatch):
    monkeypatch.chdir(chain.root)


def losses(name):
    rows = json.loads((paths.state("pretrain", name) / "curve.json").read_text())
    return [row["metrics"]["pretrain/loss"] for row in rows if "pretrain/loss" in row["metrics"]]


def test_the_graph_goes_from_labels_to_a_tower_to_features_to_a_pair(chain):
    wanted = ["pretrain-small-vit", "fit-tower", "shard-squares+tower", "pretrain-cached", "evaluate-cached"]
    assert [key for key in chain.done if key in wanted] == wanted


def test_features_give_the_losses_that_the_tower_gives_in_every_step(chain):
    assert np.allclose(losses("cached"), losses("seen"), rtol=1e-5)
    assert len(losses("cached")) == 20


def test_features_of_half_precision_are_scored_as_their_pictures_are(chain):
    """`read` was trained as `cached` was, and only its tower's features are read from shards, in fp16."""
    assert {"fit-half", "shard-squares+half"} <= set(chain.done)
    assert paths.payload("shard", "squares+half").as_posix() in read_manifest("evaluate", "read").parents
    pictures, features = (
        pq.read_table(paths.payload("evaluate", name) / "items.parquet").to_pylist() for name in ("cached", "read")
    )
    gaps = [
        (mine["value"], other["value"])
        for mine, other in zip(features, pictures, strict=True)
        if mine["metric"] == "gap" and mine["item"] == other["item"]
    ]
    assert len(gaps) == 6
    assert np.allclose(*zip(*gaps, strict=True), rtol=0, atol=1e-5)
    assert not np.array_equal(*zip(*gaps, strict=True))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ("words+tower", "no task is on corpus 'words', only on squares. Take it out"),
        ("squares+pixels", r"features of no model, expected 'small-vit' \(network.tower\). Change the key"),
    ],
)
def test_features_that_no_score_could_be_made_of_are_refused(chain, features, words):
    content = recipe({"kind": "clip"}, {"features": ["squares+tower"]}, features=[features])
    write_yaml(paths.RECIPES / "odd.yaml", content)
    with pytest.raises(Refused, match=words):
        require_agreement(Library(), "odd")
    (paths.RECIPES / "odd.yaml").unlink()


def test_features_have_the_weights_of_their_tower_as_a_parent():
    weights = paths.payload("pretrain", "small-vit").as_posix()
    for stage in (("fit", "tower"), ("shard", "squares+tower"), ("pretrain", "cached")):
        assert weights in read_manifest(*stage).parents, stage


def test_the_weights_of_a_pair_need_nothing_beside_them():
    folder = paths.payload("pretrain", "cached")
    network, tower = load(folder), load(paths.payload("pretrain", "small-vit"))
    ours, theirs = network.tower.state_dict(), tower.vit.state_dict()
    assert all((ours[key] == value).all() for key, value in theirs.items())


@pytest.mark.parametrize("name", TRAINED)
def test_a_pair_is_scored_and_drawn(name):
    scores = json.loads((paths.payload("evaluate", name) / "scores.json").read_text())["tasks"]
    assert set(scores) == {"found", "named", "asked"}
    assert scores["found"]["num_pictures"] == scores["asked"]["num_pictures"] == scores["named"]["num_pictures"] == 6
    drawn = {"found-retrieval.svg", "found-similarities.svg", "named-confusion.svg"}
    assert drawn <= {path.name for path in paths.state("evaluate", name).iterdir()}
    assert drawn <= {path.name for path in paths.journal("evaluate", name).iterdir()}
    assert {path.name for path in paths.payload("evaluate", name).iterdir()} == {"scores.json", "items.parquet"}


def test_a_batch_is_shown_by_its_captions():
    lines = batch_texts("cached", 3)
    assert len(set(lines)) == len(lines) == 8
    assert all("tokens: " in line for line in lines)


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (24, "hold 24 numbers a picture, but network.tower_width is 16: they are another tower's"),
        (16, "computed with weights [0-9a-f]{12}, which are not those of small-vit as they are now"),
    ],
)
def test_features_of_another_tower_are_refused_before_training(chain, width, words):
    name = f"other-{width}"
    write_tower(name, width=width, seed=1)
    write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", ENCODERS["tower"] | {"model": name})
    fit(name)
    shard(f"squares+{name}")
    write_yaml(paths.RECIPES / f"{name}-pair.yaml", recipe({"kind": "clip"}, {"features": [f"squares+{name}"]}))
    with pytest.raises(Refused, match=words):
        pretrain(f"{name}-pair")


def test_a_pair_is_packaged():
    package("cloob")
    assert (paths.layout("cloob", "transformers") / "README.md").is_file()
