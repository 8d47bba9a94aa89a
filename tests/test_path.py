"""The whole path as a person walks it: the real command line, real stages, Prefect, DVC, MLflow, on smoke recipes."""

import json
import os
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
