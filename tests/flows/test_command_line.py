"""The words of the command line, and what a person is told before anything starts."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from components import VERBS
from flows import command_line
from flows.command_line import FAILED, REFUSED, VERB_HELP, app, run
from flows.launch import StageFailed
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project

WORDS = [*VERBS, "release", "recipes", "collect", "graph", "clean", "doctor", "ui"]
"""What people type; a word that is taken away or renamed breaks their scripts."""


def words_of(application) -> set[str]:
    return {name for name in application if not name.startswith("-")}


def test_the_words_are_frozen() -> None:
    assert words_of(app) == set(WORDS)
    assert list(VERB_HELP) == list(VERBS)
    assert (REFUSED, FAILED) == (2, 1)


def test_every_word_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for word in WORDS:
        assert run([word, "--help"]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 3, word


def test_help_loads_no_heavy_library() -> None:
    heavy = "{'prefect', 'mlflow', 'dvc', 'torch', 'transformers', 'pandas'}"
    code = f"import sys; from flows.command_line import run; run(['--help']); sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(words) == REFUSED
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return captured.err


def test_an_unknown_recipe_is_answered_with_the_nearest(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Did you mean '{RECIPE}'?" in refusal(capsys, "release", "smoke-gtp2")


def test_an_unknown_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["relaese", RECIPE]) == REFUSED
    assert "relaese" in "".join(capsys.readouterr())


def test_a_stage_whose_inputs_are_not_made_names_the_commands_that_make_them(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "shard", "smoke-text+smoke-spm")
    assert "hiraku ingest smoke-text" in error
    assert "hiraku fit smoke-spm" in error


def test_raw_data_that_nobody_can_bring_are_asked_for(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.folder / "data" / "smoke" / "a.jsonl").unlink()
    (project.folder / "data" / "smoke").rmdir()
    assert "hiraku collect smoke-text --from FOLDER" in refusal(capsys, "release", RECIPE)


@pytest.mark.parametrize(("gone", "command"), [(".git", "git init && dvc init"), (".dvc/config", "dvc init")])
def test_a_folder_without_git_or_dvc_is_told_what_to_run(
    project: Project, capsys: pytest.CaptureFixture[str], gone: str, command: str
) -> None:
    (project.folder / gone).rename(project.folder / "put-aside")
    assert command in refusal(capsys, "ingest", "smoke-text")


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_server_that_does_not_answer_is_said_before_any_work(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    assert variable in refusal(capsys, "ingest", "smoke-text")
    assert project.started() == []


def test_a_port_in_use_is_answered_with_a_free_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refusal(capsys, "ui", "--mlflow-port", str(port))
    assert f"Port {port} for mlflow is in use" in error
    assert "hiraku ui --mlflow-port" in error


def test_a_stale_graph_fails_the_check_and_rendering_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Project(tmp_path / "project").folder)
    assert "hiraku graph" in refusal(capsys, "graph", "--check")
    assert run(["graph"]) == 0
    assert run(["graph", "--check"]) == 0


def test_the_list_of_recipes_says_where_each_stands(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    command_line.console.width = 200
    assert run(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(RECIPE in line and "not begun" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), command_line.INTERRUPTED), (StageFailed("fit x: it was killed"), FAILED)],
)
def test_an_interruption_and_a_failure_end_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def fail(*_words: object) -> None:
        raise error

    monkeypatch.setattr("flows.checks.before_release", fail)
    assert run(["release", RECIPE]) == code
    assert str(error) in capsys.readouterr().err
