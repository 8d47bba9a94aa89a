"""Peers stand on locks of their own and know nothing of ours."""

import ast
import sys

import pytest

from benchmarks import peers
from components.outcomes import Refused
from tests.conftest import ROOT

LOCKS = sorted(peers.PEERS.glob("*.lock"))


def _pins(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_names_no_index_and_shares_our_versions(path):
    assert "://" not in path.read_text(encoding="utf-8")
    ours, theirs = _pins(ROOT / "requirements.lock"), _pins(path)
    assert "torch" in theirs
    differing = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    assert not differing
    assert path.with_suffix(".in").is_file()


@pytest.mark.parametrize("path", sorted(peers.PEERS.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_peer_imports_nothing_of_ours(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not {name.split(".")[0] for name in names} & {"", "benchmarks", "components", "flows", "models"}


def test_an_environment_that_its_lock_made_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: pytest.fail("made again"))
    place = tmp_path / ".bench" / "transformers"
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    (place / "transformers.lock").write_bytes((peers.PEERS / "transformers.lock").read_bytes())
    assert peers.python_of("transformers").parts[-4:] == (".bench", "transformers", "bin", "python")


def test_an_environment_that_cannot_be_made_is_refused_and_not_taken_for_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no" / "python"))
    for _ in range(2):
        with pytest.raises(Refused, match="'transformers' cannot be made"):
            peers.python_of("transformers")
