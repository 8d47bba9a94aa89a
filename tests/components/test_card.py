"""Cards: what the Hub reads, and that every number comes from a file."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import yaml
from huggingface_hub import ModelCard

from components.card import Release, render
from components.card_metadata import metadata
from components.card_scores import with_error
from components.curve import LOSS_UNIT, Line, draw, loss_curve, thin, training_curve
from components.lineage import Input, Lineage
from components.manifest import Manifest
from components.markdown import cell, fenced, label, number, table
from components.outcomes import Refused
from components.package import _check_published
from components.recipes import Foreign, Library, read_section
from components.release_schema import PublishedScore
from tests.components.small_release import write_recipes
from tests.conftest import ROOT
from tests.flows.hub_metadata import problems_of

TASK = {"kind": "held-out-bits", "modality": "text", "corpus": "town", "split": "test", "max_documents": None}


@pytest.fixture
def release(tmp_path) -> Release:
    write_recipes(tmp_path)
    records = {"artifacts/ingested/town/records": "1" * 64}
    details = {"licences": {"CC0-1.0": 1200, "CC-BY-4.0": 34}, "rejects": {"too short | odd": 56}}
    counts = {"num_rows": 1290, "num_records": 1234, "num_rejects": 56}
    states = (
        Manifest("ingest", "town", {}, {"data/town": "0" * 64}, counts, "CC0-1.0", details, "1" * 64),
        Manifest("validate", "town", {}, records, {"num_accepted": 1230, "num_train": 1111}, "CC0-1.0", {}, "2" * 64),
        Manifest("fit", "town-spm", {}, records, {"held_out/characters_per_token": 2.345}, "CC0-1.0", {}, "3" * 64),
        Manifest("shard", "town+town-spm", {}, records, {"train/tokens": 98765}, "CC0-1.0", {}, "4" * 64),
        Manifest("evaluate", "tiny", {}, records, {}, "CC-BY-SA-4.0", {"tasks": {"town-held-out": TASK}}, "5" * 64),
        Manifest("package", "tiny", {}, {}, {}, "CC-BY-SA-4.0"),
    )
    return Release(
        name="tiny",
        recipe=read_section(tmp_path / "recipes" / "tiny.yaml", "recipe"),
        lineage=Lineage(states, (Input("data/town", "0" * 64),)),
        scores={"town-held-out": {"bits_per_character": 3.25, "perplexity": 1234.5678, "num_documents": 77}},
        num_parameters=4_321_000,
        class_name="GPT2LMHeadModel",
        curve=[Line("training", ((1, 6.0), (7, 4.25)))],
        target="package-tiny",
    )


def test_the_hub_reads_language_licence_task_and_results(release) -> None:
    data = ModelCard(render(release, "transformers", "print()", "")).data
    assert data.language == "ja"
    assert data.license == "cc-by-sa-4.0"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["gpt", "gpt2", "hiraku"]
    results = {result.metric_type: result for result in data.eval_results}
    assert set(results) == {"bits_per_character", "perplexity"}
    assert results["bits_per_character"].metric_value == 3.25
    assert (results["perplexity"].dataset_type, results["perplexity"].dataset_split) == ("town", "test")
    assert results["perplexity"].dataset_revision == "1" * 64


def test_two_tasks_of_one_corpus_stay_apart(release) -> None:
    task, scores = next(iter(release.scores.items()))
    section = release.tasks[task]
    both = replace(release, scores={task: scores, "again": {"perplexity": 9.0}})
    for state in both.own.of("evaluate"):
        state.details["tasks"]["again"] = section
    data = ModelCard(metadata(both, "transformers")).data
    found = {(each.dataset_config, each.metric_value) for each in data.eval_results if each.metric_type == "perplexity"}
    assert found == {(task, scores["perplexity"]), ("again", 9.0)}


def test_a_reward_model_is_a_classifier_of_transformers(release) -> None:
    data = ModelCard(render(release, "reward", "print()", "")).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert {result.task_type for result in data.eval_results} == {"text-classification"}


def test_a_licence_the_hub_does_not_know_is_other_with_a_name(release) -> None:
    object.__setattr__(release.recipe, "licence", "Town Licence 1.0")
    data = ModelCard(metadata(release, "transformers")).data
    assert (data.license, data["license_name"], data.get("license_link")) == ("other", "town-licence-1.0", None)
    object.__setattr__(release.recipe.package, "licence_link", "https://example.org/town")
    assert ModelCard(metadata(release, "transformers")).data["license_link"] == "https://example.org/town"


def test_several_languages_are_a_list_and_a_word_that_is_no_code_is_refused(release) -> None:
    object.__setattr__(release.recipe, "language", "ja, en")
    assert ModelCard(metadata(release, "transformers")).data.language == ["ja", "en"]
    object.__setattr__(release.recipe, "language", "Japanese")
    with pytest.raises(Refused, match="language 'Japanese', expected codes of two or three letters"):
        metadata(release, "transformers")


def test_what_a_model_starts_from_is_named_as_the_hub_knows_it(release) -> None:
    assert "base_model" not in metadata(release, "transformers")
    object.__setattr__(release.recipe.package, "base_model", "hiraku/japanese-gpt-neox-3.6b")
    assert ModelCard(metadata(release, "transformers")).data.base_model == "hiraku/japanese-gpt-neox-3.6b"


@pytest.mark.parametrize("name", sorted(Library(ROOT / "recipes").files["recipe"]))
def test_a_hub_takes_the_metadata_of_every_shipped_recipe(release, name: str) -> None:
    recipe = Library(ROOT / "recipes").read("recipe", name)
    if isinstance(recipe, Foreign):
        pytest.skip("its makers publish it")
    card = metadata(replace(release, name=name, recipe=recipe), recipe.package.layouts[0])
    assert problems_of(card) == []
    assert problems_of(re.sub("pipeline_tag: .*", "pipeline_tag: no-such-task", card)) != []
    assert _check_published(recipe) == []


def test_scores_stand_with_their_standard_errors_beside_what_was_published(release) -> None:
    plain = render(release, "transformers", "print()", "")
    assert "Published" not in plain
    assert "±" not in plain
    facts = {"model": "rinna/tiny", "score": "perplexity", "value": 28, "source": "its README", "note": "on other data"}
    beside = PublishedScore(**facts, task="town-held-out", metric="perplexity")
    alone = PublishedScore(model="rinna/tiny", score="mean of eight tasks", value=26.63, source="table 2")
    object.__setattr__(release.recipe.package, "published_scores", [beside, alone])
    text = render(replace(release, errors={"town-held-out": {"bits_per_character": 0.0213}}), "transformers", "", "")
    assert "| Bits per character | 3.250 ± 0.021 |  |" in text
    assert "| Perplexity | 1,234.57 | 28 (rinna/tiny; on other data) |" in text
    assert "| rinna/tiny | mean of eight tasks | 26.63 |  | table 2 |" in text
    assert "the standard error over the items" in text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(3.25, None, "3.25"), (3.25, 0.0021, "3.2500 ± 0.0021"), (71.234, 12.3, "71 ± 12"), (0.5, 0.0, "0.5000 ± 0.0000")],
)
def test_a_score_is_written_to_the_second_digit_of_its_standard_error(value, error, text) -> None:
    assert with_error(value, error) == text


def test_a_card_tells_use_limits_compute_recipe_and_whom_to_cite(release) -> None:
    text = render(replace(release, training_flops=1.234e18), "transformers", "print()", "")
    assert "Training is 448 tokens seen and 1.23e+18 FLOPs of forward and backward passes" in text
    assert "Hours, devices and power differ from run to run" in text
    assert text.index("## Intended use") < text.index("## Limits")
    assert "a start for training" in text
    recipe = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert yaml.safe_load(recipe)["pretrain"]["optimizer"]["learning_rate"] == 0.01
    assert "publish" not in yaml.safe_load(recipe)
    assert "@software{hiraku" in text


def test_the_numbers_of_the_files_stand_in_the_card(release) -> None:
    text = render(release, "transformers", "print('ひ')", "出力")
    for row in (
        "| Parameters | 4,321,000 |",
        "| Held-out characters per token | 2.345 |",
        "| `town` | training, encoder, evaluation | 1,290 | 56 | 1,230 | 1,111 |  |  | CC0-1.0 |",
        "| CC-BY-4.0 | 34 |",
        "| too short \\| odd | 56 |",
        "| Train tokens | 98,765 |",
        "| Optimiser steps | 7 |",
        "| Tokens seen | 448 |",
        "| Bits per character | 3.25 |",
        "| Perplexity | 1,234.57 |",
        "| raw data | `data/town` | `000000000000` |  |",
        "| shard | `town+town-spm` | `444444444444` | CC0-1.0 |",
        "training went from 6 at step 1 to 4.25 at step 7",
        "```python\nprint('ひ')\n```",
        "```\n出力\n```",
        "dvc repro package-tiny",
        "arxiv.org/abs/2404.01657",
    ):
        assert row in text
    assert "None" not in text


def test_licences_of_single_records_are_named_and_those_spelt_alike_once(release) -> None:
    corpus = release.lineage.states[0]
    corpus.details["licences"] = {"CC0-1.0": 1200, "CC BY-SA 4.0": 30, "cc-by-sa-4.0": 4, "Town Licence": 2}
    text = render(release, "transformers", "print()", "")
    met = "Licences met on the way: CC-BY-SA-4.0, CC0-1.0, Town Licence."
    assert f"The weights are released under CC-BY-SA-4.0. {met}" in text
    assert "| cc-by-sa-4.0 | 34 |" in text
    object.__setattr__(release.recipe, "licence", "CC BY-SA 4.0")
    assert ModelCard(metadata(release, "transformers")).data.license == "cc-by-sa-4.0"


def test_a_card_without_a_curve_shows_no_picture(release) -> None:
    object.__setattr__(release, "curve", [])
    assert "curve.svg" not in render(release, "transformers", "print()", "")


def test_losses_become_lines_and_other_metrics_do_not() -> None:
    points = [
        {"step": 20, "metrics": {"pretrain/loss": 3.0, "pretrain/learning_rate": 0.1}},
        {"step": 10, "metrics": {"pretrain/loss": 4.0}},
        {"step": 20, "metrics": {"pretrain/valid_loss": 3.5}},
    ]
    assert loss_curve(points, "pretrain") == [
        Line("training", ((10, 4.0), (20, 3.0))),
        Line("validation", ((20, 3.5),)),
    ]


def test_a_training_against_a_reward_model_is_shown_by_rewards_and_distance_and_not_by_a_loss_without_unit(
    release,
) -> None:
    loss, reward = {"align/loss": 0.1}, {"align/reward": -1.0, "align/kl_per_answer": 0.5}
    points = [
        {"step": 1, "metrics": loss | reward},
        {"step": 4, "metrics": {"align/loss": 0.2, "align/reward": 2.0, "align/kl_per_answer": 3.0}},
        {"step": 4, "metrics": {"align/valid_loss": -1.5, "align/valid_reward": 1.5}},
    ]
    lines, unit = training_curve(points, "align")
    assert lines == [
        Line("reward", ((1, -1.0), (4, 2.0))),
        Line("reward, validation", ((4, 1.5),)),
        Line("KL per answer", ((1, 0.5), (4, 3.0))),
    ]
    assert training_curve([{"step": 1, "metrics": loss}], "align") == ([Line("training", ((1, 0.1),))], LOSS_UNIT)
    text = render(replace(release, curve=lines, curve_unit=unit), "transformers", "", "")
    assert "![Reward and KL over optimiser steps]" in text
    assert "KL per answer in nats: reward went from -1" in text
    assert "Loss in nats" not in text


@pytest.mark.parametrize(
    "points",
    [((1, 2.0),), ((1, 2.0), (9, 2.0)), tuple((step, 10 / step) for step in range(1, 300)), ((0, -1), (5, 1e6))],
)
def test_a_curve_is_well_formed_and_inside_its_picture(points) -> None:
    root = ET.fromstring(draw([Line("a & b", points)], "steps <n>", "nats"))
    (line,) = root.findall("{http://www.w3.org/2000/svg}polyline")
    corners = [tuple(map(float, corner.split(","))) for corner in line.attrib["points"].split()]
    assert len(corners) == len(points)
    assert all(0 <= x <= 720 and 0 <= y <= 320 for x, y in corners)
    lowest = min(points, key=lambda point: point[1])
    assert max(y for _, y in corners) == corners[points.index(lowest)][1]


def test_a_long_curve_keeps_its_ends_and_drops_what_is_not_finite() -> None:
    kept = thin([(step, float(step)) for step in range(10_000)] + [(10_000, math.nan)])
    assert len(kept) == 400
    assert (kept[0], kept[-1]) == ((0, 0.0), (9999, 9999.0))


def test_values_are_written_for_a_person() -> None:
    written = [number(value) for value in (1234567, 0.123456, 1234.5678, 1e-8, True, "cosine", 2.0)]
    assert written == ["1,234,567", "0.1235", "1,234.57", "1e-08", "yes", "cosine", "2"]
    assert [label(key) for key in ("num_layers", "batch_tokens", "train/tokens", "hidden_size")] == [
        "Layers",
        "Batch (tokens)",
        "Train tokens",
        "Hidden size",
    ]
    assert number(
        {"num_layers": 2, "negative": "", "shares": {}, "names": [], "none": None, "zero": 0, "off": False}
    ) == ("layers 2, zero 0, off no")


def test_content_cannot_break_out_of_a_table_or_a_block_of_code() -> None:
    assert cell("a | b\nc") == "a \\| b c"
    assert table(("x", "y"), [("a|b", "1,000")]) == "| x | y |\n| --- | --: |\n| a\\|b | 1,000 |"
    assert fenced("```\nx\n```") == "````\n```\nx\n```\n````"
