"""What a recipe of the hubert family may say, and what in it contradicts itself."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from components.training_schema import LearningRate, Optimizer, Training
from models.frames import num_frames
from models.hubert.schema import (
    Network,
    PretrainObjective,
    PretrainSamples,
    check,
)

KMEANS = SimpleNamespace(kind="kmeans", num_clusters=100)
CSJ = SimpleNamespace(kind="phonemes", inventory="csj-40")


def recipe(key: str = "pretrain", kind: str = "masked-units", **changes: Any) -> Any:
    is_ctc = kind == "ctc"
    samples = {
        "form": "utterances" if is_ctc else "crops",
        "waveforms": ["talk+wave"],
        "batch_seconds": 87.5,
        "batches_per_step": 32,
    }
    own = {"kind": kind} | ({"freeze_front_end": False} if key == "pretrain" and is_ctc else {})
    training = Training(
        shards=[{"shards": changes.pop("shards", "talk+units")}],
        num_steps=100,
        optimizer=Optimizer(learning_rate=5e-4),
        learning_rate=LearningRate(**changes.pop("learning_rate", {"kind": "linear"})),
        strategy=changes.pop("strategy", "ddp"),
        guard=changes.pop("guard", {"spike_ratio": None} if is_ctc else {}),
        objective=TypeAdapter(PretrainObjective).validate_python(own | changes.pop("objective", {})),
        samples=TypeAdapter(PretrainSamples).validate_python(samples | changes.pop("samples", {})),
        preview=None,
    )
    layouts = changes.pop("layouts", ["ctc" if is_ctc else "transformers"])
    package = SimpleNamespace(layouts=layouts, generation={}, example_prompt=changes.pop("example_prompt", ""))
    network = Network(**changes)
    both = {"pretrain": None, "align": None} | {key: training}
    return SimpleNamespace(network=network, encoder="units", package=package, **both)


def test_recipes_that_fit_have_no_problem() -> None:
    assert check(recipe(expected_num_parameters=94_371_712), KMEANS, {}) == []
    assert check(recipe("align", "ctc"), CSJ, {}) == []
    assert check(recipe("pretrain", "ctc"), CSJ, {}) == []


@pytest.mark.parametrize(
    ("given", "encoder", "problem"),
    [
        ({"expected_num_parameters": 5}, KMEANS, "the network has 94,371,712 parameters, expected 5"),
        ({"shards": "talk+others"}, KMEANS, "'encoder' is units, but the shards talk+others are made with another"),
        ({"shards": "chat+units"}, KMEANS, "pretrain.samples.waveforms are of talk, but pretrain.shards of chat"),
        ({}, CSJ, "predicts what an encoder of kind 'kmeans' makes, but the encoder 'units' is of kind 'phonemes'"),
        (
            {"samples": {"form": "utterances", "min_seconds": 2.0}},
            KMEANS,
            "reads crops, but pretrain.samples.form is 'utterances'",
        ),
        ({"strategy": "fsdp2"}, KMEANS, "pretrain.strategy is 'fsdp2'"),
        ({"layouts": ["ctc"]}, KMEANS, "package.layouts has 'ctc', but the objective is 'masked-units'"),
        ({"example_prompt": "あ"}, KMEANS, "package.example_prompt is set"),
        ({"samples": {"min_seconds": 0.1}}, KMEANS, "has no room for a span of 10 frames"),
        ({"learning_rate": {"warmup_steps": 101}}, KMEANS, "so the peak is never reached"),
        (
            {"learning_rate": {"kind": "tri-stage", "warmup_steps": 50, "hold_steps": 50}},
            KMEANS,
            "holds its peak until step 100",
        ),
        ({"learning_rate": {"kind": "tri-stage", "warmup_steps": 100}}, KMEANS, "so it never falls"),
        ({"key": "align", "kind": "ctc", "objective": {"freeze_steps": 100}}, CSJ, "so the head alone is ever trained"),
        (
            {"key": "align", "kind": "ctc", "guard": {}},
            CSJ,
            "align.guard.spike_ratio is 2.0, but a loss of CTC is added up over frames",
        ),
        ({"kind": "ctc", "objective": {"freeze_front_end": True}}, CSJ, "freezes weights that are random"),
        ({"key": "align", "kind": "ctc", "hidden_size": 48, "num_heads": 4}, CSJ, "so a span would hide nearly all"),
    ],
)
def test_a_contradiction_is_told_with_the_keys_to_change(given: dict[str, Any], encoder: Any, problem: str) -> None:
    problems = check(recipe(**given), encoder, {})
    assert len(problems) == 1
    assert problem in problems[0]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"num_heads": 7}, "hidden_size 768 is not a multiple of num_heads 7"),
        ({"position_groups": 5}, "hidden_size 768 is not a multiple of position_groups 5"),
        ({"conv_dims": [512] * 6}, "must have one number for each layer"),
        ({"conv_strides": [4, 2, 2, 2, 2, 2, 2]}, "make frames of 322 samples every 256"),
    ],
)
def test_sizes_that_cannot_be_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Network(**given)


def test_a_group_must_have_room_for_its_longest_recording() -> None:
    with pytest.raises(ValueError, match=r"min_seconds <= max_seconds <= batch_seconds, found 2, 15.625, 10"):
        recipe(samples={"batch_seconds": 10})


def test_frames_are_counted_as_the_convolutions_give_them() -> None:
    assert [num_frames(count) for count in (0, 399, 400, 719, 720, 16_000, 250_000)] == [0, 0, 1, 1, 2, 49, 781]
