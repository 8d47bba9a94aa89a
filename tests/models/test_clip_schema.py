"""Sections of recipes: counts on the meta device, contradictions in words, and costs by arithmetic."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from components.cost import held
from components.training_schema import Training
from models.clip import cost, schema
from models.clip.network import check, num_parameters
from models.clip.schema import Dual, ImageTower, Network, Pairs, image_parameters, text_parameters
from models.objective import Mismatch
from tests.conftest import ROOT
from tests.models.clip_small import FACTS, PAIR

SPM = SimpleNamespace(kind="sentencepiece", vocab_size=32_000)
LABELS = SimpleNamespace(kind="labels")


def recipe_of(path: Path) -> Any:
    """The parts that a family's check reads."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    training = dict(raw["pretrain"])
    parsed = Training(
        **{key: value for key, value in training.items() if key not in ("objective", "samples")},
        objective=TypeAdapter(schema.PretrainObjective).validate_python(training["objective"]),
        samples=TypeAdapter(schema.PretrainSamples).validate_python(training["samples"]),
        preview=None,
    )
    package = SimpleNamespace(**{"layouts": ["transformers"]} | raw["package"])
    network = TypeAdapter(Network).validate_python(raw["network"])
    return SimpleNamespace(network=network, encoder=raw["encoder"], pretrain=parsed, align=None, package=package)


@pytest.mark.parametrize("kind", ["clip", "cloob"])
def test_the_papers_models_have_exactly_the_parameters_of_their_sources(kind: str) -> None:
    recipe = recipe_of(ROOT / f"recipes/japanese-{kind}-vit-b-16.yaml")
    assert schema.check(recipe, SPM, {}) == []
    facts = {"vocab_size": 32_000, "pad": 3, "max_tokens": 77}
    check(recipe.network, facts, recipe.pretrain.samples)
    assert num_parameters(recipe.network, facts) == 110_028_288 + 786_432
    assert text_parameters(recipe.network.text, 32_000) == 110_028_288
    tower = ImageTower(kind="image-tower")
    assert num_parameters(tower, {"num_labels": 1000}) == image_parameters(tower) == 85_798_656
    assert recipe.network.expected_tower_parameters == 85_798_656


@pytest.mark.parametrize("name", ["vit-demo", "clip-demo", "cloob-demo"])
def test_the_demos_do_not_contradict_themselves(name: str) -> None:
    recipe = recipe_of(ROOT / f"recipes/{name}.yaml")
    assert schema.check(recipe, LABELS if name == "vit-demo" else SPM, {}) == []


def test_a_network_of_another_size_than_the_recipe_asserts_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(Mismatch, match=r"has [\d,]+ parameters, expected 5 \(network.expected_num_parameters\)"):
        check(Dual(**PAIR, expected_num_parameters=5), FACTS, None)
    short = PAIR | {"text": {**PAIR["text"], "num_positions": 60}}
    with pytest.raises(Mismatch, match=r"captions of up to 77 tokens, but network.text.num_positions is 60"):
        check(Dual(**short), FACTS, None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": {"kind": "image-tower"}}, r"network.kind is 'image-tower', but .* 'cloob', expected labels"),
        ({"samples": {"form": "labelled", "pictures": ["a+b"], "batch_samples": 4, "micro_batch_samples": 2}},
         r"pretrain.samples.form is 'labelled', but .* reads pairs"),
        ({"samples": {"form": "pairs", "features": ["other+demo-tower"], "batch_samples": 4}},
         r"pretrain.samples.features are of other, but pretrain.shards of demo-pictures"),
        ({"guard": {"spike_ratio": 2.0}}, r"CLOOB's loss passes zero .* Set pretrain.guard: \{spike_ratio: null\}"),
        ({"strategy": "fsdp2"}, r"pretrain.strategy is 'fsdp2', .* Set it to ddp"),
        ({"objective": {"kind": "cloob", "hopfield_warmup_steps": 2000}}, r"begins its retrieval over 2000 steps"),
        ({"valid_samples": 1}, r"a pair alone has nothing to differ from"),
        ({"objective": {"kind": "siglip"}}, r"package.layouts has 'japanese-clip', .* is 'siglip', expected clip"),
        ({"layouts": ["tower"]}, r"package.layouts has 'tower', but network.kind is 'dual'"),
    ],
)  # fmt: skip
def test_a_contradiction_is_told_with_what_to_change(changes: dict[str, Any], told: str) -> None:
    import re

    recipe = recipe_of(ROOT / "recipes/cloob-demo.yaml")
    training = {key: value for key, value in changes.items() if key not in ("network", "layouts")}
    for key, kind in (("objective", schema.PretrainObjective), ("samples", schema.PretrainSamples)):
        if key in training:
            training[key] = TypeAdapter(kind).validate_python(training[key])
    if "guard" in training:
        training["guard"] = type(recipe.pretrain.guard)(**training["guard"])
    recipe.pretrain = recipe.pretrain.model_copy(update=training)
    if "network" in changes:
        recipe.network = TypeAdapter(Network).validate_python(changes["network"])
    if "layouts" in changes:
        recipe.package.layouts = changes["layouts"]
    found = schema.check(recipe, SPM, {})
    assert any(re.search(told, each) for each in found), found


def test_samples_cannot_be_cut_or_be_one_and_have_one_kind_of_pictures() -> None:
    good = {"form": "pairs", "features": ["a+b"], "batch_samples": 4}
    assert Pairs(**good).micro_batch_samples == 4
    for wrong, told in (
        ({"micro_batch_samples": 2}, "objective.chunk_samples"),
        ({"batch_samples": 1}, "greater than or equal to 2"),
        ({"pictures": ["a+c"]}, "exactly one of 'features' and 'pictures'"),
        ({"features": None}, "exactly one of 'features' and 'pictures'"),
    ):
        with pytest.raises(ValidationError, match=told):
            Pairs(**(good | wrong))


def test_a_bigger_batch_in_chunks_costs_flops_and_little_memory() -> None:
    recipe = recipe_of(ROOT / "recipes/japanese-clip-vit-b-16.yaml")
    whole = cost.training_cost(recipe.network, recipe.pretrain, SPM, on_gpu=True, is_compiled=False)
    assert whole.num_parameters == 110_814_721  # with the learned scale
    assert whole.step_flops == pytest.approx(
        3 * 8192 * 13.08e9, rel=0.1
    )  # 13.08 GFLOP a caption with the last layer whole
    without = recipe.pretrain.model_copy(update={"objective": recipe.pretrain.objective.model_copy(
        update={"chunk_samples": None})})  # fmt: skip
    assert cost.training_cost(recipe.network, without, SPM, True, False).activation_bytes > 10 * whole.activation_bytes
    assert held(whole, recipe.pretrain, "ddp", 1, False).total < 80e9
    short = cost.shortened(recipe.pretrain, 3)
    shapes = cost.batch_shapes(recipe.network, short, SPM)
    assert shapes["ids"] == ((3, 77), 32_000)
    assert cost.facts(LABELS) == {"num_labels": 1000}
