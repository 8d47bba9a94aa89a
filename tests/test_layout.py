"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components import PURE_VERBS, VERBS
from tests.conftest import ROOT

SOURCES = sorted(path for top in ("flows", "components", "models", "benchmarks") for path in (ROOT / top).rglob("*.py"))
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
BANNED_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "handler", "processor"}


def test_mlflow_is_the_installed_package_and_not_the_folder() -> None:
    import mlflow  # noqa: TID251

    assert mlflow.__file__ is not None
    assert "site-packages" in mlflow.__file__
    assert not list((ROOT / "mlflow").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting_and_has_an_honest_name(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in BANNED_NAMES
    tree = ast.parse(text)
    if text.strip():
        assert ast.get_docstring(tree), "has no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_a_verb_names_module_function_and_stage_alike() -> None:
    for verb in VERBS:
        if verb == "align":  # comes with the alignment of language models
            continue
        tree = ast.parse((ROOT / "components" / f"{verb}.py").read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert verb in functions
        if verb in PURE_VERBS:
            assert [name for name in functions if not name.startswith("_")] == [verb]
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for key, stage in stages.items():
        verb, name = stage["cmd"].splitlines()[0].split()[3:5]
        assert key == f"{verb}-{name}"
        assert stage["outs"] == [f"artifacts/{VERBS[verb]}/{name}"]


def test_paths_under_artifacts_are_joined_in_one_module() -> None:
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in ("components", "flows") and path.name != "paths.py":
            strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            joined = [s for s in strings if isinstance(s, str) and s.startswith("artifacts/") and " " not in s]
            assert not joined, f"{path} joins {joined}"


def test_networks_and_the_trainer_import_without_orchestrator_tracker_or_data_versions() -> None:
    program = (
        "import sys\n"
        "for name in ('prefect', 'mlflow', 'dvc'): sys.modules[name] = None\n"
        "import components.pretrain, components.training\n"
        "import models.gpt.network, models.gpt.objectives, models.gpt.convert\n"
        "import models.hubert.network, models.hubert.objectives, models.hubert.convert, models.hubert.features\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lock_file_names_no_index_and_holds_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index" not in [line.strip() for line in lock.splitlines()]
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert {"torch", "torchaudio", "prefect", "mlflow", "dvc", "lightning", "transformers", "diffusers"} <= pinned
    version = next(line for line in lock.splitlines() if line.startswith("fastapi=="))
    assert (0, 139) <= tuple(int(part) for part in version.split("==")[1].split(".")[:2]) < (0, 151)
