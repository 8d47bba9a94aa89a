"""What the tests of publishing share: a model whose versions are published, and ways to look at it."""

from pathlib import Path

import yaml

from components import paths, registry, tracking
from components.loadback import difference
from components.register import register
from models.gpt import release as gpt_release
from tests.flows.hub_store import Hub

RECIPE = "tiny"
REPOSITORY = f"hiraku/{RECIPE}"


def quiet(_line: str) -> None:
    """Nobody listens."""


def loaded_here(family: str, folder: Path, probes: list[str], workspace: Path, example: str = "") -> tuple[dict, str]:
    """As `components.loadback.load_back`, in this process."""
    return gpt_release.answer_of_folder(folder, probes), "printed"


def gap_here(family: str, probes: list[str], one: Path, other: Path) -> str | None:
    """As `components.loadback.gap_between`, in this process."""
    return difference(*(gpt_release.answer_of_folder(folder, probes) for folder in (one, other)))


def register_here() -> str:
    """Register the package of the current folder; return its version."""
    run = tracking.Release(RECIPE, "tests")
    receipt = register(RECIPE, run)
    run.close("FINISHED")
    return receipt["version"]


def change_publish(**keys: object) -> None:
    """Give the recipe another section `publish`; nobody has to approve."""
    path = Path("recipes") / f"{RECIPE}.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) | {"publish": keys, "promote": {"approval": False}}
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")


def files_of(version: str) -> dict[str, bytes]:
    """What a version holds, as the registry keeps it."""
    found = registry.read_version(RECIPE, version)
    assert found is not None
    with registry.fetched(found) as folder:
        return {path.name: path.read_bytes() for path in (folder / "transformers").iterdir()}


def assert_nothing_there(hub: Hub) -> None:
    """As a Hub makes a repository, without tags, and without a receipt here."""
    assert hub.titles(REPOSITORY) == ["initial commit"]
    assert hub.repositories[REPOSITORY].tags == {}
    assert not paths.receipt("publish", RECIPE).exists()
