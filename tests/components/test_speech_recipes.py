"""HuBERT of arXiv 2404.01657 and its recognisers: their recipes agree with what their sources state."""

import shutil
from pathlib import Path

import pytest

from components.graph import plan
from components.outcomes import Refused
from components.recipes import Library
from models.frames import SAMPLE_RATE_HZ
from models.hubert import schema
from tests.conftest import ROOT

BASE_PARAMETERS = 94_371_712
"""Of facebook/hubert-base-ls960 and rinna/japanese-hubert-base, both `HubertModel`."""
RECOGNISERS = [f"{start}-hubert-base-ctc-{hours}" for start in ("japanese", "english") for hours in ("32h", "552h")]
OURS = ["japanese-hubert-base-iteration1", "japanese-hubert-base", *RECOGNISERS]
DEMOS = ["hubert-demo-iteration1", "hubert-demo", "hubert-demo-ctc", "hubert-demo-ctc-scratch"]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.chdir(ROOT)
    return Library()


@pytest.mark.parametrize("name", OURS)
def test_a_recipe_has_exactly_the_released_parameters(library: Library, name: str) -> None:
    network = library.read("recipe", name).network
    assert network.expected_num_parameters == schema.num_parameters(network) == BASE_PARAMETERS


@pytest.mark.parametrize(("name", "clusters", "steps"), [(OURS[0], 100, 250_000), (OURS[1], 500, 400_000)])
def test_pre_training_has_fairseqs_numbers(library: Library, name: str, clusters: int, steps: int) -> None:
    recipe = library.read("recipe", name)
    units, training = library.read("encoder", recipe.encoder), recipe.pretrain
    objective, samples, optimizer = training.objective, training.samples, training.optimizer
    assert (units.num_clusters, training.num_steps) == (clusters, steps)
    # config/pretrain/hubert_base_librispeech.yaml
    assert samples.batch_seconds * SAMPLE_RATE_HZ == 1_400_000
    assert samples.batches_per_step == 32
    assert (samples.min_seconds, samples.max_seconds) == (32_000 / 16_000, 250_000 / 16_000)
    assert (objective.mask_share, objective.mask_frames, objective.temperature) == (0.8, 10, 0.1)
    assert (objective.feature_penalty, objective.front_end_gradient) == (10, 0.1)
    assert (optimizer.learning_rate, optimizer.beta2, optimizer.epsilon, optimizer.clip_norm) == (5e-4, 0.98, 1e-6, 10)
    assert (optimizer.beta1, optimizer.weight_decay, objective.min_masks) == (0.9, 0.01, 2)
    rate = training.learning_rate
    assert (rate.kind, rate.warmup_steps, rate.final_share) == ("linear", 32_000, 0)
    assert dropouts(recipe.network) == (0.1, 0.1, 0.0, 0.1, 0.05)


def dropouts(network: schema.Network) -> tuple[float, ...]:
    return (
        network.dropout,
        network.attention_dropout,
        network.activation_dropout,
        network.projection_dropout,
        network.layerdrop,
    )


FINE_TUNING = {
    # fairseq, examples/hubert/config/finetune/base_10h.yaml: world size 1, update_freq [1]
    "32h": {"rate": 2e-5, "steps": 25_000, "hold": 0, "batches": 1, "frozen": 10_000, "masked": 0.75},
    # fairseq, examples/wav2vec/config/finetuning/base_100h.yaml: world size 2, update_freq [4]
    "552h": {"rate": 3e-5, "steps": 80_000, "hold": 32_000, "batches": 8, "frozen": 0, "masked": 0.65},
}


@pytest.mark.parametrize("name", RECOGNISERS)
def test_fine_tuning_has_fairseqs_numbers(library: Library, name: str) -> None:
    recipe, wanted = library.read("recipe", name), FINE_TUNING[name.rpartition("-")[2]]
    training = recipe.align
    objective, samples, optimizer, rate = (
        training.objective,
        training.samples,
        training.optimizer,
        training.learning_rate,
    )
    assert samples.batch_seconds * SAMPLE_RATE_HZ == 3_200_000
    assert (samples.batches_per_step, training.num_steps) == (wanted["batches"], wanted["steps"])
    assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2) == (wanted["rate"], 0.9, 0.98)
    assert (optimizer.epsilon, optimizer.weight_decay) == (1e-8, 0)
    assert (rate.kind, rate.warmup_steps, rate.hold_steps) == ("tri-stage", 8_000, wanted["hold"])
    assert (rate.initial_share, rate.final_share) == (0.01, 0.05)
    assert (objective.time_mask_share, objective.time_mask_frames) == (wanted["masked"], 10)
    assert (objective.channel_mask_share, objective.channel_mask_channels) == (0.5, 64)
    assert (objective.freeze_steps, objective.freeze_front_end) == (wanted["frozen"], True)
    assert dropouts(recipe.network) == (0.0, 0.0, 0.1, 0.0, 0.1)


def test_who_brings_csj_is_told_whose_id_a_speaker_has_and_who_must_not_be_heard(library: Library) -> None:
    for name in library.files["corpus"]:
        if name.startswith("csj-"):
            told = " ".join(library.read("corpus", name).description.split())
            assert "utt2spk must stand the speaker's id of CSJ's own list of talks" in told
            assert ("every talk of a speaker of eval1 to eval3" in told) == ("eval" not in name)


def test_iteration_two_learns_units_of_the_sixth_layer_of_iteration_one(library: Library) -> None:
    features = library.read("encoder", "hubert-units-500").features
    assert (features.kind, features.model, features.layer) == ("layer", "japanese-hubert-base-iteration1", 6)


def test_units_of_a_layer_that_the_network_lacks_are_refused_before_anything_is_trained(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    place = tmp_path / library.path("encoder", "hubert-units-500")
    place.write_text(place.read_text(encoding="utf-8").replace("layer: 6", "layer: 13"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        Refused, match=r"layer 13 of 'japanese-hubert-base-iteration1', expected 1 to 12.*features\.layer"
    ):
        plan(Library(), "japanese-hubert-base")


def test_units_of_another_familys_layer_are_refused_before_anything_is_trained(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    place = tmp_path / library.path("encoder", "hubert-units-500")
    text = place.read_text(encoding="utf-8").replace("model: japanese-hubert-base-iteration1", "model: gpt-demo")
    place.write_text(text.replace("layer: 6", "layer: 2"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    wanted = r"'gpt-demo', a recipe of family 'gpt', expected one of family 'hubert'.*'features\.model' in .*units-500"
    with pytest.raises(Refused, match=wanted):
        plan(Library(), "japanese-hubert-base")


@pytest.mark.parametrize("name", RECOGNISERS)
def test_recognisers_differ_in_data_and_start_alone_and_are_scored_on_all_three_sets(
    library: Library, name: str
) -> None:
    recipe = library.read("recipe", name)
    assert recipe.starts_from == name.partition("-ctc")[0]
    assert recipe.encoder == "csj-phonemes"
    assert library.read("encoder", recipe.encoder).vocab_size == 42  # 40 phonemes, word boundary, blank
    assert len(recipe.evaluate.tasks) == len(recipe.package.published_scores) == 3
    twin = library.read("recipe", f"japanese-hubert-base-ctc-{name.rpartition('-')[2]}")
    assert (recipe.align, recipe.network) == (twin.align, twin.network)
    corpus = recipe.align.shards[0].shards.partition("+")[0]
    assert library.read("corpus", corpus).releasable is False


@pytest.mark.parametrize("name", [*OURS, *DEMOS, "hubert-digits", "hubert-digits-ctc"])
def test_a_recipe_goes_from_raw_files_to_a_package_without_a_contradiction(library: Library, name: str) -> None:
    stages = plan(library, name)
    assert stages[-1].verb == "package"
    assert {"ingest", "validate", "fit", "shard", "evaluate"} <= {stage.verb for stage in stages}
    for corpus in {stage.name for stage in stages if stage.verb == "ingest"}:
        section = library.read("corpus", corpus)
        is_brought = section.source.kind == "files" and section.source.generator is None
        assert (f"hiraku collect {corpus} --from" in " ".join(section.description.split())) == is_brought


def test_the_demos_recogniser_needs_both_iterations_and_its_twin_neither(library: Library) -> None:
    made = {(stage.verb, stage.name) for stage in plan(library, "hubert-demo-ctc")}
    assert {("pretrain", "hubert-demo-iteration1"), ("pretrain", "hubert-demo"), ("align", "hubert-demo-ctc")} <= made
    twin = {(stage.verb, stage.name) for stage in plan(library, "hubert-demo-ctc-scratch")}
    assert not {name for verb, name in twin if verb == "pretrain"} - {"hubert-demo-ctc-scratch"}
    networks = {library.read("recipe", name).network.model_dump_json() for name in DEMOS}
    assert len(networks) == 1


def test_the_voice_is_named_wherever_it_speaks(library: Library) -> None:
    for name in ("demo-speech", "demo-speech-labelled"):
        corpus = library.read("corpus", name)
        assert "MMDAgent" in corpus.source.engine.attribution
        assert corpus.source.engine.licence == corpus.licence == "CC BY 3.0"
    first, second = (library.read("corpus", name).source for name in ("demo-speech", "demo-speech-labelled"))
    assert (first.speakers, first.noise, first.seed) == (second.speakers, second.noise, second.seed)
