"""Two iterations of a HuBERT of a few thousand parameters and its recogniser, by the verbs, on generated tones."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import unit_agreement
from components import evidence, paths
from components.align import align
from components.evaluate import evaluate
from components.fit import fit
from components.manifest import read_manifest
from components.modalities import modality
from components.modalities.speech import recordings
from components.outcomes import Refused
from components.pretrain import pretrain
from components.recipes import Library
from components.registry import Version
from components.scoring import Scores, tasks_of, tasks_today
from components.shard import shard
from flows import pairing
from models.hubert.convert import load
from tests.components.sharded import run_chain, stages_in
from tests.components.speech.small_speech import KMEANS, small_records, write_project, write_yaml

pytestmark = pytest.mark.slow

SHAPE = {
    "num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "conv_dims": [8] * 7,
    "position_kernel": 16, "position_groups": 4, "head_size": 8,
}  # fmt: skip
SIZES = {"waveforms": ["tones+wave"], "batch_seconds": 4, "batches_per_step": 2, "min_seconds": 0.3, "max_seconds": 2}
LAYER = {"kind": "layer", "model": "one", "layer": 2}


def recipe(encoder: str, task: str, **sections: Any) -> dict[str, Any]:
    return {
        "family": "hubert",
        "description": "a link of a chain",
        "language": "ja",
        "licence": "CC0-1.0",
        "network": SHAPE,
        "encoder": encoder,
        "evaluate": {"tasks": [task]},
        "package": {"layouts": ["transformers"], "title": "t", "summary": "s", "limits": "l"},
    } | sections


CTC = {"kind": "ctc", "channel_mask_channels": 4, "freeze_steps": 1}
# Epsilon is so large that Adam's steps follow the size of gradients, and a multiplier of them is seen in the losses.
OPTIMIZER = {"learning_rate": 0.01, "epsilon": 1e-3, "clip_norm": 10}
SCHEDULES = {
    "masked-units": {"kind": "linear", "warmup_steps": 2, "final_share": 0},
    "ctc": {"kind": "tri-stage", "warmup_steps": 2},
}


def training(encoder: str, kind: str) -> dict[str, Any]:
    return {
        "shards": [{"shards": f"tones+{encoder}"}],
        "num_steps": 3,
        "log_every_steps": 1,
        "optimizer": OPTIMIZER,
        "learning_rate": SCHEDULES[kind],
        "objective": CTC if kind == "ctc" else {"kind": kind},
        "samples": SIZES | {"form": "utterances" if kind == "ctc" else "crops"},
        "guard": {"spike_ratio": None} if kind == "ctc" else {},
    }


def write_recipes() -> None:
    masked, errors = {"kind": "masked-unit-accuracy"}, {"kind": "phoneme-error-rate", "speaker": "speaker"}
    write_yaml(paths.RECIPES / "tasks" / "masked.yaml", masked | {"corpus": "tones"})
    write_yaml(paths.RECIPES / "tasks" / "errors.yaml", errors | {"corpus": "tones"})
    write_yaml(paths.RECIPES / "encoders" / "deeper.yaml", KMEANS | {"features": LAYER, "gates": {"max_share": 0.9}})
    recogniser = recipe("phones", "errors", align=training("phones", "ctc"), starts_from="two")
    recogniser["package"] |= {"layouts": ["ctc"]}
    write_yaml(paths.RECIPES / "one.yaml", recipe("units", "masked", pretrain=training("units", "masked-units")))
    write_yaml(paths.RECIPES / "two.yaml", recipe("deeper", "masked", pretrain=training("deeper", "masked-units")))
    write_yaml(paths.RECIPES / "three.yaml", recogniser)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("chain")
    with stages_in(root):
        records = small_records()
        write_project(records)
        write_recipes()
        stages = {"fit": fit, "shard": shard, "pretrain": pretrain, "align": align, "evaluate": evaluate}
        done = run_chain(["three"], stages)
        for name in ("one", "two"):
            evaluate(name)
    return SimpleNamespace(root=root, records=records, done=done)


@pytest.fixture(autouse=True)
def _inside(chain, monkeypatch):
    monkeypatch.chdir(chain.root)


# As in tests/test_revisions.py: raise the number when what comes out changes on purpose, and record both.
SPEECH, HUBERT = {"components.modalities.speech": 2}, {"models.hubert": 1}
HASHES = {
    ("shard", "tones+wave"): (
        SPEECH | {"components.shard": 1},
        "3ea77435b8dad22bd83d4ae03413efb5b318f2d5de6cf9b34dc7552e9ceb772c",
    ),
    ("shard", "tones+phones"): (
        SPEECH | {"components.shard": 1},
        "8e28ddaf39f8313242fdbc2539efa7eed8e33adbbb79c7cd6f51ca07cbffe6c5",
    ),
}
# Before any update, after one, after two: optimizer, schedule, the gradient's multiplier, and what is frozen at first.
LOSSES = {
    ("pretrain", "one"): {1: 3.32169, 2: 2.61767, 3: 2.19291},
    ("pretrain", "two"): {1: 2.81265, 2: 2.43444, 3: 2.31085},
    ("align", "three"): {1: 70.07027, 2: 98.88297, 3: 61.81116},
}


@pytest.mark.parametrize("node", HASHES, ids=lambda node: "-".join(node))
def test_shards_of_speech_have_the_recorded_bytes_for_their_revisions(node):
    manifest = read_manifest(*node)
    assert (manifest.revisions, manifest.payload_hash) == HASHES[node]


@pytest.mark.parametrize("node", LOSSES, ids=lambda node: "-".join(node))
def test_training_on_speech_gives_the_recorded_losses_for_its_revisions(node):
    verb, name = node
    assert read_manifest(verb, name).revisions == SPEECH | HUBERT | {f"components.{verb}": 1}
    rows = json.loads((paths.state(verb, name) / "curve.json").read_text())
    found = {row["step"]: row["metrics"][f"{verb}/loss"] for row in rows if f"{verb}/loss" in row["metrics"]}
    assert {step: found[step] for step in LOSSES[node]} == pytest.approx(LOSSES[node], rel=2e-3)


def test_a_recogniser_keeps_the_front_end_it_starts_from_and_trains_the_rest():
    before, after = (load(paths.payload(*node)).hubert for node in (("pretrain", "two"), ("align", "three")))
    pairs = zip(before.feature_extractor.parameters(), after.feature_extractor.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert not torch.equal(
        before.encoder.layers[0].attention.q_proj.weight, after.encoder.layers[0].attention.q_proj.weight
    )


def test_the_graph_orders_both_iterations_and_the_recogniser(chain):
    wanted = ["fit-units", "pretrain-one", "fit-deeper", "shard-tones+deeper", "pretrain-two", "align-three"]
    assert [key for key in chain.done if key in wanted] == wanted


def test_units_of_a_layer_are_the_nearest_centroids_of_its_hidden_states(chain):
    folder = paths.payload("fit", "deeper")
    network, centroids = load(paths.payload("pretrain", "one")).hubert, np.load(folder / "centroids.npy")
    encoder = modality("speech").open_encoder(folder)
    for record in chain.records[:4]:
        wave = torch.from_numpy(recordings.as_waveform(recordings.decoded(record["audio"])))[None]
        with torch.inference_mode():
            hidden = network(wave, output_hidden_states=True).hidden_states[LAYER["layer"]][0].double().numpy()
        distances = ((hidden[:, None] - centroids[None].astype(float)) ** 2).sum(axis=2)
        found = encoder.encode([record["audio"]])[0]
        chosen = np.take_along_axis(distances, found[:, None].astype(int), axis=1)[:, 0]
        assert np.allclose(chosen, distances.min(axis=1), rtol=1e-3, atol=1e-4)


def test_whoever_encodes_with_a_network_has_its_weights_as_a_parent():
    weights = paths.payload("pretrain", "one").as_posix()
    expected = read_manifest("pretrain", "one").payload_hash
    for stage in (("fit", "deeper"), ("shard", "tones+deeper"), ("evaluate", "two")):
        manifest = read_manifest(*stage)
        assert manifest.parents[weights] == expected, stage
        assert "models.hubert" in manifest.revisions, stage
    assert weights not in read_manifest("shard", "tones+units").parents
    content = json.loads((paths.payload("fit", "deeper") / "units.json").read_text())
    assert content["features"] == LAYER | {"family": "hubert", "weights": weights, "weights_hash": expected}


def test_units_of_other_weights_are_refused_with_the_way_out(chain):
    place = paths.payload("pretrain", "one") / "config.json"
    kept = place.read_text()
    place.write_text(kept + "\n")
    try:
        encoder = modality("speech").open_encoder(paths.payload("fit", "deeper"))
        with pytest.raises(Refused, match=r"layer 2 of the weights in .*, and others are there.*release one"):
            encoder.encode([chain.records[0]["audio"]])
    finally:
        place.write_text(kept)


def test_every_link_of_the_chain_is_scored():
    for name, task, total in (("two", "masked", "accuracy"), ("three", "errors", "phoneme_error_rate")):
        scores = json.loads((paths.payload("evaluate", name) / "scores.json").read_text())["tasks"][task]
        assert scores[total] >= 0
        assert scores["num_recordings"] == 4


def test_models_that_predict_other_units_are_not_compared_by_how_often_they_tell_them():
    with pytest.raises(Refused, match=r"masked: .*the encoder that makes its right answers is another one"):
        pairing.paired("one", "two")
    assert [test.gain for test in pairing.paired("two", "two").comparison.tests] == [0.0]


def test_a_promotion_leaves_out_by_name_what_another_fit_decides_and_is_refused_if_nothing_is_left():
    champion = Version("two", "3", "", "", "")
    library, today = Library(), tasks_of(read_manifest("evaluate", "two"))
    assert tasks_today(library, library.read("recipe", "two")) == today
    before = Scores(None, {}, tasks_of(read_manifest("evaluate", "one")))
    more, said = today | {"errors": tasks_of(read_manifest("evaluate", "three"))["errors"]}, []
    assert set(evidence._of_the_same_encoder("two", champion, before, more, said.append)) == {"errors"}
    assert said[0].startswith("masked is left out: its right answers are not the ones that version 3")
    with pytest.raises(Refused, match="'two' cannot be compared with the champion on masked, and on no other task"):
        evidence._of_the_same_encoder("two", champion, before, today, said.append)
    same = Scores(None, {}, today)
    assert evidence._of_the_same_encoder("two", champion, same, today, said.append) == today


def test_units_of_a_layer_are_judged_beside_those_of_mfcc_by_one_alignment():
    result = unit_agreement.measure(units="deeper", recogniser="three", corpus="tones", seeds=2)
    assert [row.figure for row in result.rows] == ["PNMI", "phone purity"]
    assert all(0 <= value <= 1 for side in result.measured.values() for run in side for value in run.values())
    alone = unit_agreement.compare(
        Library(), "deeper", unit_agreement.aligned(Library(), "three", "tones", "test", "audio"), seeds=1
    )
    assert alone["theirs"] == result.measured["theirs"][:1]
