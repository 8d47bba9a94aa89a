"""Every gate passes a good version and fails a bad one, with a reason that names the key or file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from components import contamination, gates, paths
from components.card_metadata import HUB_LICENCES
from components.comparison import Comparison, PairedTest, Unpaired, compare
from components.evaluate import evaluate
from components.gates import Candidate
from components.licences import OPEN
from components.manifest import MANIFEST_NAME, tree_hash
from components.measures import Measure
from components.package import package
from components.recipes import Library
from components.registry import DATA_LICENCES, Version
from components.scoring import Scores
from tests.components.small_release import make_project

NO_ITEMS = pa.table({"task": pa.array([], pa.string())})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A real package, and what a registry would say of it."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        evaluate("tiny")
        package("tiny")
        folder = paths.state("package", "tiny").resolve()
        digest = tree_hash(folder, without=MANIFEST_NAME)
        version = Version("tiny", "2", digest, "run", "", {DATA_LICENCES: '["CC0-1.0", "CC-BY-4.0"]'})
        recipe = Library().read("recipe", "tiny")
    return Candidate("tiny", recipe, version, folder, Comparison(()), None, gates.proof_of_loading(version))


@pytest.fixture
def candidate(made: Candidate, tmp_path: Path) -> Candidate:
    """A copy that a test may break."""
    shutil.copytree(made.folder, tmp_path / "package")
    return replace(made, folder=tmp_path / "package")


def with_keys(candidate: Candidate, **keys) -> Candidate:
    promote = candidate.recipe.promote.model_copy(update=keys)
    return replace(candidate, recipe=candidate.recipe.model_copy(update={"promote": promote}))


def as_it_is(candidate: Candidate) -> Candidate:
    """The registry says of the files what they are now, and nobody has loaded them."""
    digest = tree_hash(candidate.folder, without=MANIFEST_NAME)
    return replace(candidate, version=replace(candidate.version, content_hash=digest), proof="")


def found(candidate: Candidate, name: str) -> gates.Gate:
    return gates.ask(name, candidate)


def right(task: str, champion: list[int], challenger: list[int]) -> PairedTest:
    def table(values: list[int]) -> pa.Table:
        rows = [{"task": task, "item": str(i), "metric": "is_right", "value": float(v)} for i, v in enumerate(values)]
        return pa.Table.from_pylist(rows)

    measures = {task: (Measure("is_right", "higher"),)}
    return compare(table(champion), table(challenger), measures).tests[0]


def test_a_good_version_passes_every_gate(candidate: Candidate) -> None:
    asked = gates.check(candidate)
    assert [gate.name for gate in asked] == list(gates.GATES)
    assert [gate.reason for gate in asked if not gate.passed] == []


def test_a_task_that_is_worse_beyond_noise_fails_unless_the_recipe_tolerates_it(candidate: Candidate) -> None:
    worse = replace(candidate, comparison=Comparison((right("spelling", [1] * 40, [1] * 28 + [0] * 12),)))
    gate = found(worse, "no task worse")
    assert (gate.passed, "spelling is worse by 0.3 is_right" in gate.reason) == (False, True)
    assert found(with_keys(worse, tolerated_loss={"spelling": 0.2}), "no task worse").passed
    noise = replace(candidate, comparison=Comparison((right("spelling", [1, 0] * 20, [0, 1] * 20),)))
    assert found(noise, "no task worse").passed


def test_a_version_that_lacks_a_measure_of_the_champion_is_not_promoted_and_one_that_has_more_is(
    candidate: Candidate,
) -> None:
    lost, gained = (Unpaired("eight", Measure("fixed/jnli/acc", "higher"), is_lost=lost) for lost in (True, False))
    gate = found(replace(candidate, comparison=Comparison((), (lost, gained))), "no task worse")
    assert (gate.passed, gate.reason.count("eight")) == (False, 1)
    assert "eight has no fixed/jnli/acc of the challenger" in gate.reason
    assert found(replace(candidate, comparison=Comparison((), (gained,))), "no task worse").passed


@pytest.mark.parametrize(("num_losses", "num_items"), [(8, 10), (6, 100), (6, 300)])
def test_a_verdict_of_worse_fails_however_few_items_tell_it(
    candidate: Candidate, num_losses: int, num_items: int
) -> None:
    test = right("spelling", [1] * num_items, [0] * num_losses + [1] * (num_items - num_losses))
    assert test.verdict == "worse"
    assert not found(replace(candidate, comparison=Comparison((test,))), "no task worse").passed


def test_a_recipe_that_wants_a_better_model_fails_one_that_cannot_be_told_apart(candidate: Candidate) -> None:
    same = replace(candidate, comparison=Comparison((right("spelling", [1, 0] * 20, [1, 0] * 20),)))
    gate = found(with_keys(same, min_verdict="better"), "verdict")
    assert (gate.passed, "spelling has 40 items" in gate.reason) == (False, True)
    better = replace(candidate, comparison=Comparison((right("spelling", [0] * 40, [1] * 40),)))
    assert found(with_keys(better, min_verdict="better"), "verdict").passed


@pytest.mark.parametrize(
    "licence", ["proprietary", "CC BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-ND-4.0", "llama2", "Gemma", "openrail", "cc"]
)
def test_data_that_may_not_be_released_fail_unless_a_person_has_looked_at_their_terms(
    candidate: Candidate, licence: str
) -> None:
    tags = {DATA_LICENCES: json.dumps(["CC0-1.0", licence])}
    barred = replace(candidate, version=replace(candidate.version, tags=tags))
    gate = found(barred, "data licences")
    assert (gate.passed, f"under {licence}" in gate.reason) == (False, True)
    assert "package.allowed_licences" in gate.reason
    section = barred.recipe.package.model_copy(update={"allowed_licences": [licence]})
    vouched = barred.recipe.model_copy(update={"package": section})
    assert found(replace(barred, recipe=vouched), "data licences").passed


def test_non_commercial_data_may_become_a_non_commercial_model(candidate: Candidate) -> None:
    tags = {DATA_LICENCES: '["CC-BY-NC-4.0"]'}
    barred = replace(candidate, version=replace(candidate.version, tags=tags))
    own = barred.recipe.model_copy(update={"licence": "CC-BY-NC-SA-4.0"})
    assert found(replace(barred, recipe=own), "data licences").passed


def test_a_model_may_be_released_under_the_terms_that_its_parent_has(candidate: Candidate) -> None:
    tags = {DATA_LICENCES: '["llama2", "CC0-1.0"]'}
    barred = replace(candidate, version=replace(candidate.version, tags=tags))
    assert not found(barred, "data licences").passed
    own = barred.recipe.model_copy(update={"licence": "llama2"})
    assert found(replace(barred, recipe=own), "data licences").passed


def test_open_licences_go_by_the_words_of_the_hub_besides_versions_that_it_does_not_list() -> None:
    versioned = {"odc-by-1.0", "odbl-1.0", "cc-by-2.1", "cc-by-sa-2.0", "cc-by-sa-2.1", "cc-by-sa-2.5"}
    others = {"0bsd", "mit-0", "psf-2.0", "cc-pddc", "public-domain", "unicode-3.0"}
    assert versioned | others == OPEN - HUB_LICENCES


def test_a_licence_that_only_the_lineage_of_the_package_tells_counts_too(candidate: Candidate) -> None:
    place = candidate.layouts[0] / "lineage.json"
    rows = json.loads(place.read_text())
    rows["states"][0]["licence"] = "all rights reserved"
    place.write_text(json.dumps(rows))
    assert "all rights reserved" in found(candidate, "data licences").reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("## Limits\n\nIt is good for nothing.", "## Limits\n", "no section 'Limits' with text"),
        ("## Limits", "## Bounds", "no section 'Limits' with text"),
        ("pipeline_tag:", "pipeline:", "no 'pipeline_tag'"),
        ("---\nlanguage", "---\n[language", "no 'license'"),
    ],
)
def test_a_card_that_lacks_something_fails(candidate: Candidate, old: str, new: str, reason: str) -> None:
    place = candidate.layouts[0] / "README.md"
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))
    gate = found(candidate, "card")
    assert (gate.passed, reason in gate.reason) == (False, True)


def test_a_package_without_a_card_fails(candidate: Candidate) -> None:
    (candidate.layouts[0] / "README.md").unlink()
    assert found(candidate, "card").reason.startswith("README.md is missing")


def test_what_does_not_load_in_a_fresh_process_fails_whatever_was_loaded_before(candidate: Candidate) -> None:
    (candidate.layouts[0] / "model.safetensors").write_bytes(b"damaged")
    gate = found(as_it_is(candidate), "loads")
    assert (gate.passed, "does not load in a fresh process" in gate.reason) == (False, True)


def test_weights_that_compute_no_number_fail(candidate: Candidate) -> None:
    from safetensors.torch import load_file, save_file

    place = candidate.layouts[0] / "model.safetensors"
    tensors = load_file(place)
    tensors["transformer.ln_f.weight"][:] = float("nan")
    save_file(tensors, place, {"format": "pt"})
    gate = found(as_it_is(candidate), "loads")
    assert (gate.passed, "are not finite" in gate.reason) == (False, True)


def test_contamination_above_the_bound_fails_where_it_was_measured(candidate: Candidate) -> None:
    assert found(candidate, "contamination").reason == "not measured on these tasks"
    totals = {"spelling": {contamination.SHARE: 0.04}, "reading": {"accuracy": 0.5}}
    measured = replace(candidate, scores=Scores(NO_ITEMS, totals, {}))
    gate = found(measured, "contamination")
    assert (gate.passed, "4.00% of spelling" in gate.reason) == (False, True)
    assert found(with_keys(measured, max_contamination=0.05), "contamination").passed


def test_files_that_were_changed_added_or_taken_away_fail(candidate: Candidate) -> None:
    (candidate.layouts[0] / "config.json").write_text("{}")
    assert "somebody has changed them" in found(candidate, "files and size").reason
    (candidate.layouts[0] / "model.pkl").write_bytes(b"code")
    (candidate.layouts[0] / "spiece.model").unlink()
    gate = found(as_it_is(candidate), "files and size")
    assert gate.reason.startswith("transformers lacks spiece.model and has model.pkl")


def test_a_package_that_is_too_large_fails(candidate: Candidate) -> None:
    gate = found(with_keys(candidate, max_megabytes=0.001), "files and size")
    assert (gate.passed, "at most 0.0 may be (promote.max_megabytes)" in gate.reason) == (False, True)
