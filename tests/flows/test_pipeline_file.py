"""Stages of a repository that stays open, beside those of one that is opened each time."""

import json
import os
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from flows import workspace
from flows.launch import launch
from tests.flows.conftest import Project

ADDRESS = "dvc.yaml:ingest-smoke-text"


def told(stage: Any) -> str:
    """All that DVC knows of a stage, what the lock says of it too."""
    return json.dumps([stage.cmd, *(each.dumpd() for each in (*stage.deps, *stage.outs))], default=str)


def anew() -> str:
    """What a repository says that DVC opens now."""
    with Repo() as repo:
        return told(repo.stage.get_target(ADDRESS))


def test_a_repository_that_stays_open_sees_what_was_changed_in_the_meantime(project: Project) -> None:
    with workspace.open_repo() as repo:
        seen = [told(workspace.stage_of(repo, ADDRESS)) for _ in range(2)]
        assert seen == [anew()] * 2

        assert launch("ingest", "smoke-text", ADDRESS, print).outcome.kind == "done"
        locked = told(workspace.stage_of(repo, ADDRESS))
        assert locked == anew() != seen[0]
        assert workspace.is_fresh(repo, ADDRESS)

        project.write_graph(ingest="0.2")
        assert told(workspace.stage_of(repo, ADDRESS)) == anew() != locked
        assert not workspace.is_fresh(repo, ADDRESS)


def test_a_pipeline_file_is_read_once_while_it_stays_the_same(project: Project) -> None:
    with workspace.open_repo() as repo:
        workspace.stage_of(repo, ADDRESS)
        path = Path("dvc.yaml")
        about, size = path.stat(), len(path.read_bytes())
        path.write_bytes(b"#" * size)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        (asked_as_pull_does,) = repo.stage.load_all("dvc.yaml", "ingest-smoke-text")
        for stage in (workspace.stage_of(repo, ADDRESS), asked_as_pull_does):
            assert stage.cmd.startswith("python toy.py ingest smoke-text")
