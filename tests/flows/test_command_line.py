"""The words of the command line, and what a person is told before anything starts."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from components import VERBS, paths
from components.batch_view import batch_texts
from components.batches import BatchPlan
from components.modalities import modality
from components.modalities.text.windows import END_MARK
from components.outcomes import Refused
from components.recipes import Library
from components.settings import settings
from flows import checks, command_line
from flows.command_line import FAILED, REFUSED, VERB_HELP, app, run
from flows.launch import StageFailed
from tests.components.small_pretraining import write_project
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project
from tests.flows.test_summary import FOREIGN

WORDS = [
    *VERBS,
    "release",
    "recipes",
    "collect",
    "graph",
    "batch",
    "clean",
    "doctor",
    "ui",
    "serve",
    "deploy",
    "compare",
    "lineage",
    "reproduce",
    "promote",
    "rollback",
]
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
    monkeypatch.setenv(variable, f"http://anna:secret@127.0.0.1:{port}")
    error = refusal(capsys, "ingest", "smoke-text")
    assert f"{variable} is http://127.0.0.1:{port}, but nothing answers there" in error
    assert project.started() == []


def test_the_pages_of_servers_that_run_elsewhere_are_told_without_their_passwords(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:secret@tracking.example")
    monkeypatch.setenv("PREFECT_API_URL", "http://anna:secret@prefect.example:4200/api")
    assert run(["ui"]) == 0
    said = capsys.readouterr().out
    assert "MLflow   https://tracking.example (MLFLOW_TRACKING_URI)" in said
    assert "Prefect  http://prefect.example:4200 (PREFECT_API_URL)" in said


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


def failing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> tuple[int, str]:
    """The exit code and the words of a command in which this is raised."""

    def fail(*_words: object) -> None:
        raise error

    monkeypatch.setattr("flows.checks.before_release", fail)
    monkeypatch.setattr(command_line.errors, "width", 500)
    code = run(["release", RECIPE])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return code, captured.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), command_line.INTERRUPTED, "the same command goes on from there"),
        (StageFailed("fit x: it was killed"), FAILED, "fit x: it was killed"),
    ],
)
def test_an_interruption_and_a_failure_end_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    found, text = failing(monkeypatch, capsys, error)
    assert found == code
    assert said in text


def test_an_error_of_a_library_and_a_fault_of_ours_end_in_a_sentence_that_names_the_trace(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvc.exceptions import DvcException

    for error, origin in [
        (DvcException("no cache at http://anna:secret@host/[/x]"), "It comes from DVC"),
        (PermissionError(13, "Permission denied", "data"), "It comes from the operating system"),
        (ZeroDivisionError("division by zero"), "It is a fault of the program"),
    ]:
        code, said = failing(monkeypatch, capsys, error)
        assert code == FAILED
        assert f"{type(error).__name__}: {error}".replace("anna:secret@", "") in said
        assert origin in said
        trace = Path(said.rpartition("The whole trace: ")[2].strip())
        assert trace.parent == Path(".hiraku/logs")
        text = trace.read_text()
        assert text.startswith(f"hiraku release {RECIPE}\n")
        assert "Traceback" in text
        assert "secret" not in text + said
        trace.unlink()


def test_a_listener_that_has_ended_does_not_end_the_command() -> None:
    code = "import sys; from flows.terminal import say\nfor _ in range(9): say('x' * 99_999)\nsys.exit(7)"
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 7


# ---- found out before a server starts --------------------------------------------------------------------------------


def test_a_setting_that_nothing_reads_is_answered_with_the_nearest(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIRAKU_NUM_WORKER", "2")
    settings.cache_clear()
    for words in (["ingest", "smoke-text"], ["release", RECIPE], ["ui"]):
        assert "Did you mean 'HIRAKU_NUM_WORKERS'?" in refusal(capsys, *words)
    assert not Path(".hiraku").exists()


@pytest.fixture
def locked_server() -> Iterator[str]:
    """The address of a tracking server that lets nobody in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401, "You are not authenticated")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_words: object) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_wrong_login_of_the_tracking_server_is_said_before_any_work(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, locked_server: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@{locked_server}")
    error = refusal(capsys, "ingest", "smoke-text")
    assert f"MLFLOW_TRACKING_URI is http://{locked_server}," in error
    assert "401" in error
    assert "MLFLOW_TRACKING_PASSWORD" in error
    assert "secret" not in error
    assert project.started() == []


def test_a_verb_of_another_kind_of_recipe_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"hiraku pretrain {RECIPE}" in refusal(capsys, "align", RECIPE)
    assert not Path(".hiraku").exists()


def test_a_verb_that_a_recipe_has_no_section_for_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recipes/other.yaml").write_text(yaml.safe_dump(FOREIGN))
    for verb in ("pretrain", "evaluate", "publish"):
        error = refusal(capsys, verb, "other")
        assert "'other' is somebody else's model, taken from path:x" in error
        assert "hiraku package other" in error
    path = Path("recipes") / f"{RECIPE}.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("publish")))
    assert f"Add where it goes: publish: {{repository: ORGANISATION/{RECIPE}}}" in refusal(capsys, "publish", RECIPE)
    assert not Path(".hiraku").exists()


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_shows_the_text_of_the_windows_that_the_trainer_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sentencepiece

    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    section = Library().read("recipe", "tiny").pretrain
    samples = modality("text").open_samples(
        [(paths.payload("shard", "stories+letters"), 1.0)], "train", section.samples
    )
    plan = BatchPlan(len(samples), section.samples.batch_samples, section.seed)
    number = plan.epoch_batches + 1
    epoch, indices = plan.indices(number)
    assert epoch == 1
    processor = sentencepiece.SentencePieceProcessor(model_file=str(paths.payload("fit", "letters") / "spiece.model"))
    windows = samples.batch(indices, epoch)["input_ids"].tolist()
    expected = [processor.decode([token for token in window if token != processor.eos_id()]) for window in windows]
    texts = batch_texts("tiny", number)
    assert [text.replace(END_MARK, "") for text in texts] == expected
    assert any(END_MARK in text for text in texts)
    assert run(["batch", "tiny", str(number)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("sample ")] == "\n".join(texts).split("\n")
    assert len([line for line in lines if line.startswith("sample ")]) == len(texts)


def test_a_batch_of_an_unmade_recipe_names_all_stages_to_run(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line.strip() for line in refusal(capsys, "pretrain", RECIPE).splitlines()[1:]]
    assert len(commands) == 4
    error = refusal(capsys, "batch", RECIPE, "0")
    assert f"A batch of {RECIPE} reads what has not been made yet" in error
    assert [line.strip() for line in error.splitlines()[1:]] == commands


def test_a_batch_of_no_recipe_and_one_before_the_first_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    assert "Did you mean 'tiny'?" in refusal(capsys, "batch", "tinny", "0")
    assert "counted from 0, found -1" in refusal(capsys, "batch", "tiny", "-1")


def test_shards_that_no_recipe_reads_are_refused_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    checks._require_reader(Library(), "cc100-ja+web-ja-spm-32k")
    with pytest.raises(Refused, match=r"No recipe reads the shards 'cc100-ja-clean\+web-ja-spm-32k'.*pretrain\.shards"):
        checks._require_reader(Library(), "cc100-ja-clean+web-ja-spm-32k")
