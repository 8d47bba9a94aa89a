"""A throw-away project with real Prefect, DVC and MLflow, whose stages take milliseconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.graph import plan
from components.recipes import Library
from tests.conftest import ROOT

HERE = Path(__file__).parent
RECIPE = "smoke-gpt2"


def run(*words: str, folder: Path) -> None:
    """Run a program; its failure is the test's."""
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


class Project:
    """A folder with git, DVC, recipes and a graph of toy stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copytree(ROOT / "tests" / "recipes", folder / "recipes")
        shutil.copy(HERE / "toy.py", folder / "toy.py")
        (folder / "input").write_text("raw")
        (folder / "data" / "smoke").mkdir(parents=True)
        (folder / "data" / "smoke" / "a.jsonl").write_text('{"text": "a"}\n')
        (folder / ".gitignore").write_text("/artifacts/\n/data\n/.hiraku/\n/started\n/*-died\n")
        dvc = str(Path(sys.executable).with_name("dvc"))
        run("git", "init", "-q", folder=folder)
        run(dvc, "init", "-q", folder=folder)
        run(dvc, "remote", "add", "-q", "--default", "local", str(folder.parent / "remote"), folder=folder)
        self.write_graph({})

    def write_graph(self, changed: dict[str, str]) -> None:
        """One toy stage for each real one; `changed` gives the words after VERB NAME for some verbs."""
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            stages = plan(Library(), RECIPE)
        finally:
            os.chdir(before)
        body = {}
        for stage in stages:
            words = changed.get(stage.verb, "0.1")
            deps = [out for parent in stage.parents for out in [f"artifacts/{_participle(parent[0])}/{parent[1]}"]]
            body[stage.key] = {
                "cmd": f"python toy.py {stage.verb} {stage.name} {words}",
                "deps": ["input", *deps],
                "outs": [stage.out],
            }
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": body}, sort_keys=False))

    def environment(self) -> dict[str, str]:
        """Everything under the folder, and this checkout's code."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "HF_"))}
        return {**kept, "PYTHONPATH": str(ROOT)}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start the command line in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(HERE / "drive.py"), *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def started(self) -> list[str]:
        """Every start of a toy stage so far, such as `fit 1234`."""
        path = self.folder / "started"
        return path.read_text().splitlines() if path.is_file() else []


def _participle(verb: str) -> str:
    from components import VERBS

    return VERBS[verb]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh throw-away project."""
    return Project(tmp_path / "project")
