"""A version of the registry as the source of a recipe: fetched by number or alias, and anew when the alias moves."""

import json
from pathlib import Path

import pytest
import yaml

from components import fetching, paths, registry, tracking
from components import package as package_module
from components.evaluate import evaluate
from components.graph import plan
from components.manifest import read_manifest
from components.outcomes import Refused
from components.package import package
from components.recipes import Library
from components.register import register
from flows import collect
from tests.flows.publishing.releases import loaded_here
from tests.flows.versions import make_package

NAME = "champion-again"


@pytest.fixture
def champion(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project whose model is registered and champion; its version."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(package_module, "load_back", loaded_here)
    tracking.HOME.mkdir(parents=True)
    (tracking.HOME / "mlflow.db").write_bytes(empty_database.read_bytes())
    make_package(tmp_path)
    version = registered()
    registry.set_alias("tiny", registry.CHAMPION, version)
    return version


def registered() -> str:
    run = tracking.Release("tiny", "tests")
    version = register("tiny", run)["version"]
    run.close("FINISHED")
    return str(version)


def write_recipe(version: str, **keys: object) -> None:
    lines = {"family": "gpt", "source": f"registry:tiny@{version}", "evaluate": {"tasks": ["town-held-out"]}, **keys}
    Path(f"recipes/{NAME}.yaml").write_text(yaml.safe_dump(lines))


def missing() -> list[str]:
    return collect.missing_models(Library(), plan(Library(), NAME))


def bring(said: list[str]) -> Path:
    return fetching.fetch(NAME, Library().read("recipe", NAME).source, said.append)


def bits(name: str) -> float:
    scores = json.loads((paths.payload("evaluate", name) / "scores.json").read_text())
    return float(scores["tasks"]["town-held-out"]["bits_per_character"])


def test_the_champion_is_fetched_taken_in_and_scores_as_it_did(champion: str) -> None:
    write_recipe("champion")
    assert missing() == [NAME]
    with pytest.raises(Refused, match=f"hiraku collect {NAME}"):
        package(NAME)
    said: list[str] = []
    place = bring(said)
    assert said == [f"{place} holds version {champion} of tiny, from the registry."]
    assert missing() == []
    package(NAME)
    evaluate(NAME)
    assert bits(NAME) == pytest.approx(bits("tiny"), rel=1e-6)
    looked, before = (read_manifest("evaluate", each).details["contamination"] for each in (NAME, "tiny"))
    assert looked == before, "it has seen what the recipe of its version names"


def test_an_alias_that_has_moved_is_fetched_anew_and_a_number_is_not(champion: str) -> None:
    write_recipe("champion")
    place = bring([])
    before = (place / "transformers" / "README.md").read_text()
    text = Path("recipes/tiny.yaml").read_text().replace("A network for a test.", "Another network for a test.")
    Path("recipes/tiny.yaml").write_text(text)
    package("tiny")
    second = registered()
    assert missing() == []
    registry.set_alias("tiny", registry.CHAMPION, second)
    assert missing() == [NAME]
    bring([])
    assert missing() == []
    assert (place / "transformers" / "README.md").read_text() != before
    write_recipe(champion)
    assert missing() == [NAME]
    bring([])
    registry.set_alias("tiny", registry.CHAMPION, champion)
    assert missing() == []


def test_a_version_that_is_not_there_is_refused_with_those_that_are(champion: str) -> None:
    write_recipe("9")
    with pytest.raises(Refused, match=f"no version '9' of 'tiny'. There are: .*champion, {champion}"):
        collect.require_obtainable(Library(), plan(Library(), NAME))


def test_a_layout_that_the_version_has_not_is_refused(champion: str) -> None:
    write_recipe("champion", layout="reward")
    bring([])
    with pytest.raises(Refused, match="no layout 'reward', but transformers"):
        package(NAME)


def test_files_that_were_changed_in_the_registry_are_refused(champion: str) -> None:
    found = registry.read_version("tiny", champion)
    assert found is not None
    (weights,) = Path(".hiraku/mlflow").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    write_recipe("champion")
    with pytest.raises(Refused, match="its files were changed"):
        bring([])
    assert not list(Path("data").rglob("*.safetensors"))
