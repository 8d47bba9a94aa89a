"""What a person reads of releases and recipes stays readable, whatever stands in it."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from components.manifest import Manifest, writing
from flows.summary import Row, Summary, print_recipes, print_rows, print_summary
from tests.flows.conftest import RECIPE, Project

FOREIGN = {"family": "gpt", "description": "A neighbour's.", "language": "ja", "licence": "MIT", "source": "path:x"}


def printed(show, *what) -> str:
    stream = io.StringIO()
    show(*what, Console(file=stream, width=200))
    return stream.getvalue()


def write_recipe(path: str, **changed: str) -> None:
    place = Path("recipes") / path
    place.parent.mkdir(exist_ok=True)
    place.write_text(yaml.safe_dump(FOREIGN | changed))


def test_the_summary_of_somebody_elses_model_tells_its_folder(project: Project) -> None:
    write_recipe("other.yaml")
    with writing(Manifest("package", "other", {})) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text("{}")
    rows = [Row("package", "other", "ran", work=1.0), Row("register", "other", "registered")]
    said = printed(print_summary, Summary("other", rows, {"uri": "models:/other/1", "alias": "challenger"}))
    assert "model        artifacts/packaged/other/transformers\n" in said
    assert "registry     models:/other/1 (alias challenger)" in said


def test_what_a_person_or_a_library_writes_is_no_markup(project: Project) -> None:
    write_recipe("other.yaml", description="Answers between [INST] and [/INST].")
    assert "Answers between [INST] and [/INST]." in printed(print_recipes)
    said = printed(print_rows, Summary("other", [], troubles=["MLflow answered [/INST] and [red]"]))
    assert "MLflow answered [/INST] and [red]" in said


def test_a_broken_recipe_is_shown_as_broken_and_hides_no_other(project: Project) -> None:
    write_recipe("mine/own.yaml", licens="[/INST]")
    lines = printed(print_recipes).splitlines()
    assert any(line.startswith("own ") and "broken" in line and "own.yaml has 1 problem" in line for line in lines)
    assert any(RECIPE in line and "not begun" in line for line in lines)


def test_a_password_in_the_address_of_a_server_is_not_shown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@tracking.example:5000")
    monkeypatch.setenv("PREFECT_API_URL", "http://anna:secret@[::1]:4200/api")
    said = printed(print_summary, Summary(RECIPE))
    assert "MLflow UI    http://tracking.example:5000\n" in said
    assert "Prefect UI   http://[::1]:4200\n" in said


@pytest.mark.parametrize("is_on_path", [True, False])
def test_the_pages_are_opened_by_a_command_that_this_shell_finds(
    project: Project, monkeypatch: pytest.MonkeyPatch, is_on_path: bool
) -> None:
    folder = project.folder / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "hiraku"):
        (folder / name).touch(0o755)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder if is_on_path else project.folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    command = "hiraku" if is_on_path else ".venv/bin/hiraku"
    assert f"MLflow UI    {command} ui, then http://127.0.0.1:5000" in printed(print_summary, Summary(RECIPE))
