"""The seven language models of arXiv 2404.01657: their recipes agree with what their sources state."""

import json
import math
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from components.contamination import can_leak, sources_of
from components.cost import cost_of
from components.graph import plan
from components.recipes import Library
from models.gpt import network, schema
from tests.conftest import ROOT

# Parameters of the released weights, counted from their configurations; tied ones once, buffers not at all.
RELEASED = {
    "japanese-gpt2-xsmall": 37_398_016,
    "japanese-gpt2-small": 110_418_432,
    "japanese-gpt2-medium": 336_128_000,
    "japanese-gpt-1b": 1_302_712_320,
    "japanese-gpt-neox-small": 153_278_976,
    "japanese-gpt-neox-3.6b": 3_607_245_312,
    "bilingual-gpt-neox-4b": 3_796_120_064,
}
# rinnakk/japanese-pretrained-models: windows of an update on 8 GPUs, micro-batches in all and of one update, peak rate.
PUBLISHED = {
    "japanese-gpt2-xsmall": (480, 1.6e6, 3, 7e-4),
    "japanese-gpt2-small": (512, 4e6, 8, 6e-4),
    "japanese-gpt2-medium": (480, 1.3e7, 20, 3e-4),
}
# Billions of tokens on the cards of the released models.
TOKENS = {"japanese-gpt-neox-3.6b": 312.5, "bilingual-gpt-neox-4b": 524}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.chdir(ROOT)
    return Library()


def facts_of(library: Library, recipe: Any) -> dict[str, int]:
    vocab_size = library.read("encoder", recipe.encoder).vocab_size
    return {"vocab_size": vocab_size, "unk": 0, "bos": 1, "eos": 2, "pad": 3}


@pytest.mark.parametrize("name", RELEASED)
def test_a_recipe_has_exactly_the_released_parameters(library: Library, name: str) -> None:
    recipe = library.read("recipe", name)
    facts = facts_of(library, recipe)
    assert recipe.network.expected_num_parameters == RELEASED[name]
    assert schema.num_parameters(recipe.network, facts["vocab_size"]) == RELEASED[name]
    assert network.num_parameters(recipe.network, facts) == RELEASED[name]  # on the meta device
    cost = cost_of(library, name, on_gpu=True, is_compiled=True)
    assert cost is not None
    assert cost.num_parameters == RELEASED[name]


@pytest.mark.parametrize("name", RELEASED)
def test_a_recipe_goes_from_raw_files_to_a_package_without_a_contradiction(library: Library, name: str) -> None:
    stages = plan(library, name)
    verbs = [stage.verb for stage in stages]
    assert verbs[-1] == "package"
    assert {"ingest", "validate", "fit", "shard", "pretrain", "evaluate"} <= set(verbs)
    for corpus in {stage.name for stage in stages if stage.verb == "ingest"}:
        section = library.read("corpus", corpus)
        if section.source.kind == "hub":
            assert section.source.num_files
            assert "Hugging Face Hub" in section.description
            continue
        assert f"hiraku collect {corpus} --from" in " ".join(section.description.split())
        assert section.source.paths == [corpus]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_the_sources_state_of_a_training_is_in_the_recipe(library: Library, name: str) -> None:
    training = library.read("recipe", name).pretrain
    windows, micro_batches, accumulated, rate = PUBLISHED[name]
    assert training.samples.window_tokens == 1024
    assert training.samples.batch_samples == windows
    assert training.num_steps == int(micro_batches / accumulated)
    # The published schedule counts micro-batches, of which 2,000 warm up.
    assert training.learning_rate.warmup_steps == math.ceil(2000 / accumulated)
    assert (training.learning_rate.kind, training.learning_rate.final_share) == ("linear", 0)
    assert (training.optimizer.learning_rate, training.optimizer.weight_decay) == (rate, 0.01)
    assert training.samples.micro_batch_samples * 8 * 2 <= windows  # 8 GPUs still have several turns


@pytest.mark.parametrize("name", TOKENS)
def test_a_recipe_reads_as_many_tokens_as_its_card_says(library: Library, name: str) -> None:
    training = library.read("recipe", name).pretrain
    assert training.num_steps * training.samples.batch_tokens / 1e9 == pytest.approx(TOKENS[name], rel=1e-3)


def test_a_batch_is_whole_micro_batches_on_one_two_four_and_eight_devices(library: Library) -> None:
    for name in RELEASED:
        samples = library.read("recipe", name).pretrain.samples
        assert samples.batch_tokens // samples.micro_batch_tokens % 8 == 0, name


STEP = """
import dataclasses, json, sys
from components.recipes import Library
from components.trial import one_step
print(json.dumps(dataclasses.asdict(one_step(Library(), sys.argv[1], int(sys.argv[2])))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_tokens"),
    [
        ("japanese-gpt2-xsmall", 64),
        ("japanese-gpt2-small", 64),
        ("japanese-gpt2-medium", 64),
        ("japanese-gpt-neox-small", 64),
        ("japanese-gpt2-xsmall", 2048),  # activations, not parameters, take most of the memory
    ],
)
def test_the_real_network_takes_an_optimiser_step_in_the_memory_that_is_estimated(
    library: Library, name: str, num_tokens: int
) -> None:
    free = psutil.virtual_memory().available
    if name == "japanese-gpt2-medium" and free < 8e9:
        pytest.skip(f"takes 6.5 GB, {free / 1e9:.1f} GB are free")
    words = [sys.executable, "-c", STEP, name, str(num_tokens)]
    # By default glibc keeps freed memory of up to 32 MiB a piece: a tenth to a fifth of all, another one in every run.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": f"{1 << 20}"}
    told = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    done = json.loads(told)
    vocab_size = library.read("encoder", library.read("recipe", name).encoder).vocab_size
    assert done["loss"] == pytest.approx(math.log(vocab_size), abs=0.3)
    assert done["is_finite"]
    assert done["num_with_gradient"] == done["num_tensors"]
    assert 0.7 < done["peak_bytes"] / done["estimated_bytes"] < 1.15


# ---- what they are trained on, and what they are scored on -----------------------------------------------------------


def items_of(task: Any) -> set[tuple[str, ...]]:
    """What names the items of a task, whatever it asks of them."""
    if task.kind == "harness":
        return {(str(task.place(each)), each.corpus or "", each.revision or "") for each in task.tasks}
    return {(task.corpus, task.split, task.column)}


def may_hold(library: Library, corpus: str, task: Any) -> bool:
    """Whether a corpus may hold a task's items: none that this project wrote or translated, none of other languages."""
    if task.kind == "harness":
        return True
    other = library.read("corpus", task.corpus)
    if other.source.kind == "translated" or getattr(other.source, "generator", None):
        return False
    return bool(set(other.language.split(", ")) & set(library.read("corpus", corpus).language.split(", ")))


def cleaned_corpora(library: Library) -> dict[str, Any]:
    """Corpus -> the section of the one that it is when cleaned."""
    sections = [library.read("corpus", name) for name in library.files["corpus"]]
    return {each.source.corpus: each for each in sections if each.source.kind == "cleaned"}


def test_each_corpus_has_a_cleaned_one_without_items_of_any_task_that_its_models_are_scored_on(
    library: Library,
) -> None:
    seen = {
        name: sources_of(library, name).corpora
        for name in library.files["recipe"]
        if getattr(library.read("recipe", name), "evaluate", None)
    }
    corpora = {corpus for name in RELEASED for corpus in seen[name]}
    assert corpora == {"wikipedia-ja", "cc100-ja", "mc4-ja", "pile", "redpajama"}
    cleaned = cleaned_corpora(library)
    for corpus in corpora:
        scored = {
            task
            for name, trained_on in seen.items()
            if corpus in trained_on
            for task in library.read("recipe", name).evaluate.tasks
        }
        leaking = [each for task in scored if can_leak(each := library.read("task", task))]
        needed = set().union(*(items_of(each) for each in leaking if may_hold(library, corpus, each)))
        listed = [library.read("task", task) for task in cleaned[corpus].source.decontaminate.tasks]
        assert needed <= set().union(*map(items_of, listed)), corpus


def test_all_versions_of_the_eight_tasks_ask_the_same_items(library: Library) -> None:
    versions = [name for name in library.files["task"] if name.startswith("japanese-eight-")]
    assert len(versions) == 4
    first, *others = [items_of(library.read("task", name)) for name in versions]
    assert all(each == first for each in others)


def test_a_cleaned_corpus_is_held_against_cleaned_ones(library: Library) -> None:
    """What is like a record that was taken out of another corpus would be in neither."""
    for section in cleaned_corpora(library).values():
        for other in section.source.near_duplicates.against:
            assert library.read("corpus", other).source.kind == "cleaned"
