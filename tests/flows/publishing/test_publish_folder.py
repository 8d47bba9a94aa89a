"""A release in a folder: whole or not there, and never in the place of somebody else's files."""

from pathlib import Path

import pytest
import yaml

from components import chosen, paths
from components.outcomes import Refused
from components.publish import publish, restore
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import RECIPE, REPOSITORY, change_publish, files_of, quiet


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".hiraku.json"}


@pytest.mark.usefixtures("_in_process")
def test_a_folder_gets_the_same_files_without_a_token_and_a_newer_version_takes_their_place(project: Path) -> None:
    place = project.parent / "shelf" / "tiny"
    first = publish(RECIPE, quiet, version="1", to=place)
    assert (content_of(place), first["is_new"]) == (files_of("1"), True)
    assert publish(RECIPE, quiet, version="1", to=place)["is_new"] is False
    assert publish(RECIPE, quiet, to=place)["version"] == "2"
    assert content_of(place) == files_of("2")
    assert [path.name for path in place.parent.iterdir()] == ["tiny"]
    assert not paths.receipt("publish", RECIPE).exists()


@pytest.mark.usefixtures("_in_process")
def test_a_folder_that_others_use_or_have_changed_stays_as_it_is(project: Path, monkeypatch) -> None:
    place = project.parent / "shelf"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="holds what no 'hiraku publish tiny' has put there"):
        publish(RECIPE, quiet, to=place)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    (place / "notes.txt").unlink()
    publish(RECIPE, quiet, version="1", to=place)
    monkeypatch.setattr(chosen, "gap_between", lambda *_words: "logits differ by up to 0.5")
    with pytest.raises(Refused, match="computes something else"):
        publish(RECIPE, quiet, to=place)
    assert content_of(place) == files_of("1")
    assert [path.name for path in place.parent.iterdir() if path.name.startswith(".shelf")] == []
    (place / "README.md").write_text("better")
    with pytest.raises(Refused, match="was changed after"):
        publish(RECIPE, quiet, to=place)
    with pytest.raises(Refused, match="which stages own"):
        publish(RECIPE, quiet, to=paths.state("package", RECIPE) / "shelf")


def test_a_recipe_may_name_a_folder_beside_its_repository_and_both_are_restored(hub: Hub) -> None:
    change_publish(repository=REPOSITORY, folder="../shelf")
    assert publish(RECIPE, quiet, version="1")["folder"] == "../shelf"
    publish(RECIPE, quiet)
    assert content_of(Path("../shelf")) == hub.files(REPOSITORY) == files_of("2")
    assert restore(RECIPE, "1", quiet)["is_new"] is True
    assert content_of(Path("../shelf")) == hub.files(REPOSITORY) == files_of("1")


def test_the_command_line_takes_a_version_and_a_folder_and_needs_no_place_in_the_recipe_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import checks
    from flows.command_line import app

    command, given, _ = app.parse_args(
        ["publish", RECIPE, "--version", "champion", "--to", "shelf"], exit_on_error=False
    )
    assert command.__name__ == "publish"
    assert given.args == (RECIPE,)
    assert given.kwargs == {"version": "champion", "to": Path("shelf")}
    monkeypatch.setattr(checks, "_project", quiet)  # git, DVC and servers are not what is asked here
    path = Path("recipes") / f"{RECIPE}.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    del recipe["publish"]
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    checks.before_publish(RECIPE, "shelf", quiet)
    with pytest.raises(Refused, match=r"Add where it goes: publish: \{repository"):
        checks.before_publish(RECIPE, None, quiet)
