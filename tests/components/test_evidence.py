"""Scores kept with versions: compared without scoring again, and scored anew from the registry where tasks changed."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from components import evidence, paths, registry, rescore, tracking
from components.evaluate import evaluate
from components.manifest import read_manifest
from components.outcomes import Refused
from components.package import package
from components.recipes import Library
from components.register import register
from components.registry import Version
from components.scoring import tasks_of, tasks_today
from tests.components.small_release import make_project, make_weights

TASK = "town-held-out"


def release() -> Version:
    run = tracking.Release("tiny", "tests")
    receipt = register("tiny", run)
    run.close("FINISHED")
    found = registry.read_version("tiny", receipt["version"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions of `tiny` in its registry, of different weights."""
    from components.modalities import modality

    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_project(root)
        for seed in (0, 1):
            if seed:
                make_weights("tiny", modality("text").open_encoder(paths.payload("fit", "town-spm")).facts, seed)
            evaluate("tiny")
            package("tiny")
            release()
        yield root


@pytest.fixture(autouse=True)
def _in_project(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def versions() -> tuple[Version, Version]:
    first, second = registry.read_version("tiny", "1"), registry.read_version("tiny", "2")
    assert first
    assert second
    return first, second


def never(*_arguments) -> None:
    raise AssertionError("it was scored again")


def test_a_version_keeps_its_scores_its_tasks_and_the_licences_of_its_data(versions: tuple[Version, Version]) -> None:
    _, second = versions
    scores = evidence.scores_of(second)
    assert scores is not None
    assert scores.totals == json.loads((paths.payload("evaluate", "tiny") / "scores.json").read_text())["tasks"]
    assert scores.tasks == tasks_of(read_manifest("evaluate", "tiny"))
    assert json.loads(second.tags[registry.DATA_LICENCES]) == ["CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"]


def test_the_tasks_of_today_are_those_that_were_scored_while_nothing_has_changed() -> None:
    library = Library()
    assert tasks_today(library, library.read("recipe", "tiny")) == tasks_of(read_manifest("evaluate", "tiny"))


def test_a_champion_scored_on_the_same_items_is_not_scored_again(
    versions: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "rescore", never)
    first, second = versions
    done = evidence.compared("tiny", first, second, print)
    (test,) = done.tests
    assert (test.task, test.num_items, test.measure.name) == (TASK, 5, "bits/num_characters")
    assert test.challenger == pytest.approx(
        json.loads((paths.payload("evaluate", "tiny") / "scores.json").read_text())["tasks"][TASK]["bits_per_character"]
    )
    back = evidence.compared("tiny", second, first, print)
    assert back.tests[0].gain == pytest.approx(-test.gain)
    assert evidence.compared("tiny", None, second, print).verdict == "first"


def test_a_champion_whose_task_has_changed_is_scored_anew_once_from_its_registered_package(
    versions: tuple[Version, Version], tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    first, _ = versions
    task = root / "recipes" / "tasks" / f"{TASK}.yaml"
    task.write_text(yaml.safe_dump(yaml.safe_load(task.read_text()) | {"max_documents": 3}))
    evaluate("tiny")
    package("tiny")
    # The registry's files lie where they were made; the copy's database names that place.
    third = release()
    said: list[str] = []
    done = evidence.compared("tiny", first, third, said.append)
    assert done.tests[0].num_items == 3
    assert f"Version 1 is scored anew on {TASK}" in said[0]
    # Version 2 has the weights of version 3: with them made anew, nothing differs to the last bit.
    second = registry.read_version("tiny", "2")
    same = evidence.compared("tiny", second, third, said.append)
    assert (same.tests[0].gain, same.verdict) == (0.0, "cannot-tell")
    monkeypatch.setattr(evidence, "rescore", never)
    assert evidence.compared("tiny", first, third, print) == done


def test_tasks_that_have_changed_since_the_challenger_was_scored_are_refused(
    versions: tuple[Version, Version], tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    task = root / "recipes" / "tasks" / f"{TASK}.yaml"
    task.write_text(yaml.safe_dump(yaml.safe_load(task.read_text()) | {"max_documents": 4}))
    evaluate("tiny")
    package("tiny")
    third = release()
    task.write_text(yaml.safe_dump(yaml.safe_load(task.read_text()) | {"max_documents": 2}))
    with pytest.raises(Refused, match=rf"not scored on {TASK} as the challenger was.*hiraku release tiny"):
        evidence.compared("tiny", versions[0], third, print)


def test_a_package_that_cannot_be_scored_is_refused_by_its_process_and_leaves_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Refused, match=r"cannot be scored as family 'gpt': .* has no config\.json"):
        rescore.rescore("tiny", empty, [TASK], tmp_path / "scores", print)
    assert not (tmp_path / "scores").exists()
