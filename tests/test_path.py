"""The whole path as a person walks it: the real command line, real stages, Prefect, DVC, MLflow, on smoke recipes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components import paths
from components.manifest import tree_hash
from tests.conftest import ROOT
from tests.smoke import write_smoke_data

RECIPE = "smoke-gpt2"
STAGES = ["ingest", "validate", "fit", "shard", "pretrain", "evaluate", "package"]


class Checkout:
    """A clone of this project with the smoke recipes as a person's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str) -> str:
        """Run a program in the clone; its failure is the test's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "HF_", "PYTHONPATH"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            words, cwd=self.folder, env=kept | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def hiraku(self, *words: str) -> str:
        """Run the command line of the clone's own code."""
        return self.run(sys.executable, "-m", "flows", *words)

    def refused(self, *words: str) -> str:
        """Run the command line, which must refuse; what it says."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "HF_", "PYTHONPATH"))}
        command = [sys.executable, "-m", "flows", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=kept | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def states(self, output: str) -> dict[str, str]:
        """Verb -> what became of its stage, from the table at the end of a release."""
        rows = [line.split() for line in output.splitlines()]
        found = {row[0]: row[2] for row in rows if len(row) >= 3 and row[0] in (*STAGES, "register")}
        assert set(found) == {*STAGES, "register"}, output
        return found

    @property
    def package(self) -> str:
        """The content hash of the release."""
        return tree_hash(self.folder / paths.state("package", RECIPE))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A project in which the smoke recipe was released once."""
    folder = tmp_path_factory.mktemp("path") / "first"
    code = ["components", "flows", "models", ".dvc"]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / ".gitignore", folder / ".gitignore")
    shutil.copytree(ROOT / "tests" / "recipes", folder / "recipes" / "mine")
    write_smoke_data(folder)
    checkout = Checkout(folder)
    checkout.run("git", "init", "--quiet")
    checkout.run("git", "config", "user.email", "somebody@example.org")
    checkout.run("git", "config", "user.name", "Somebody")
    checkout.run("dvc", "remote", "modify", "local", "url", str(folder.parent / "remote"))
    checkout.run("dvc", "add", "--quiet", "data")
    checkout.hiraku("graph")
    checkout.run("git", "add", ".")
    checkout.run("git", "commit", "--quiet", "--message", "A project")
    output = checkout.hiraku("release", RECIPE)
    assert set(checkout.states(output).values()) == {"ran", "registered"}
    return checkout


@pytest.mark.slow
def test_a_release_leaves_a_package_that_transformers_loads_and_says_where(first: Checkout) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = first.folder / paths.layout(RECIPE, "transformers")
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("町の", return_tensors="pt")["input_ids"]
    assert network(input_ids=ids).logits.shape == (1, ids.shape[1], network.config.vocab_size)
    assert (first.folder / paths.state("validate", "smoke-text") / "report.html").is_file()
    receipt = json.loads((first.folder / paths.receipt("register", RECIPE)).read_text())
    assert receipt["alias"] == "challenger"


@pytest.mark.slow
def test_a_second_release_runs_nothing_and_registers_nothing(first: Checkout) -> None:
    output = first.hiraku("release", RECIPE)
    assert set(first.states(output).values()) == {"ready"}
    assert "nothing ran" in output


@pytest.mark.slow
def test_a_model_is_made_again_to_the_same_hashes_from_a_folder_that_only_tells_its_lineage(
    first: Checkout, tmp_path: Path
) -> None:
    alone = tmp_path / "downloaded"
    shutil.copytree(first.folder / paths.layout(RECIPE, "transformers"), alone)
    (alone / ".gitattributes").write_text("what a Hub adds")
    output = first.hiraku("reproduce", str(alone))
    table = [line.split() for line in output.splitlines() if " same " in line]
    assert [row[0] for row in table] == STAGES
    assert "All 7 states are the same." in output
    assert not list((first.folder / ".hiraku" / "reproduce").iterdir()), "the folder is thrown away"
    assert output.count("Running stage ") == len(STAGES), "no cache may answer"


@pytest.mark.slow
def test_another_raw_byte_or_another_revision_of_the_code_is_refused_and_a_commit_is_taken_back(
    first: Checkout, tmp_path: Path
) -> None:
    alone = tmp_path / "downloaded"
    shutil.copytree(first.folder / paths.layout(RECIPE, "transformers"), alone)
    raw = next(path for path in sorted((first.folder / "data" / "smoke").iterdir()) if path.is_file())
    code, kept = first.folder / "components" / "ingest.py", raw.read_bytes()
    text = code.read_text()
    (revision,) = re.findall(r"^REVISION = (\d+)$", text, re.MULTILINE)
    try:
        raw.unlink()  # not in place: DVC's cache may share its bytes
        raw.write_bytes(kept[:-2] + b"?\n")
        refused = first.refused("reproduce", RECIPE)
        assert "The raw data are not those" in refused
        assert "data/smoke has the content" in refused
    finally:
        raw.unlink()
        raw.write_bytes(kept)
    try:
        code.write_text(text.replace(f"REVISION = {revision}", "REVISION = 99"))
        assert f"components.ingest has REVISION 99, and {revision} made it" in first.refused("reproduce", str(alone))
        # Of the recipe's own package the tracking server knows the commit, and git has it.
        output = first.hiraku("reproduce", RECIPE, "--until", "validate")
    finally:
        code.write_text(text)
    assert "by commit" in output
    assert "All 2 states are the same." in output
    assert first.run("git", "worktree", "list").count("\n") == 1
    assert "Did you mean 'pretrain'" in first.refused("reproduce", RECIPE, "--until", "pretrian")


@pytest.mark.slow
def test_dvc_alone_makes_the_same_bytes_again(first: Checkout, tmp_path: Path) -> None:
    before = first.package
    copy = tmp_path / "copy"
    shutil.copytree(first.folder, copy, ignore=shutil.ignore_patterns("artifacts", ".hiraku", "cache", "tmp"))
    alone = Checkout(copy)
    alone.run("dvc", "remote", "modify", "local", "url", str(tmp_path / "empty"))
    alone.run("dvc", "repro", "--quiet", f"recipes/mine/dvc.yaml:package-{RECIPE}")
    assert alone.package == before


@pytest.mark.slow
def test_a_new_sentence_on_the_card_trains_nothing(first: Checkout) -> None:
    path = first.folder / "recipes" / "mine" / f"{RECIPE}.yaml"
    text = path.read_text()
    recipe = yaml.safe_load(text)
    recipe["package"]["summary"] = "Another sentence."
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True))
    try:
        states = first.states(first.hiraku("release", RECIPE))
    finally:
        path.write_text(text)
    assert [verb for verb, state in states.items() if state == "ran"] == ["package"]
    assert states["register"] == "registered"


@pytest.mark.slow
def test_another_clone_takes_every_result_from_the_run_cache(first: Checkout, tmp_path: Path) -> None:
    first.run("git", "clone", "--quiet", ".", str(tmp_path / "second"))
    second = Checkout(tmp_path / "second")
    write_smoke_data(second.folder)
    states = second.states(second.hiraku("release", RECIPE))
    assert {verb: states[verb] for verb in STAGES} == dict.fromkeys(STAGES, "restored")
    first.hiraku("release", RECIPE)
    assert second.package == first.package


@pytest.mark.slow
def test_a_champion_is_scored_anew_where_the_task_changed_then_replaced_and_taken_back(first: Checkout) -> None:
    words = ("--yes", "--registry-only")
    first.hiraku("release", RECIPE)
    assert "version 1 is the champion; before it was none" in first.hiraku("promote", RECIPE, *words)
    mine = first.folder / "recipes" / "mine"
    recipe, task = mine / f"{RECIPE}.yaml", mine / "tasks" / "smoke-held-out.yaml"
    texts = {path: path.read_text() for path in (recipe, task)}
    recipe.write_text(texts[recipe].replace("num_steps: 20", "num_steps: 60"))
    task.write_text(texts[task].replace("max_documents: 10", "max_documents: 20"))
    try:
        first.hiraku("release", RECIPE)
        output = first.hiraku("promote", RECIPE, *words)
    finally:
        for path, text in texts.items():
            path.write_text(text)
    assert "Version 1 is scored anew on smoke-held-out" in output
    assert "beside version 1: better" in output
    assert "is the champion; before it was 1" in output
    assert "version 1 is the champion again" in first.hiraku("rollback", RECIPE, *words)
    assert "version 1 is the champion already" in first.hiraku("rollback", RECIPE, *words)
