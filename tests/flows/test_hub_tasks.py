"""Items of a task of lm-eval from a data set of a Hub on loopback, by the task file that reads local files too."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flows.hub_server import TOKEN, serving
from tests.flows.hub_store import Hub

REPOSITORY = "neighbour/pairs"
ROWS = [{"sentence1": f"{n}人がいる。", "sentence2": "人がいる。", "label": n % 3} for n in range(4)]
HIDDEN = {"sentence1": "猫がいる。", "sentence2": "犬がいる。", "label": -1}
SCRIPT = """
import json, sys
from components.hub import Unfinished
from components.modalities.text.harness_items import Unavailable, items_of
from components.modalities.text.harness_schema import Harness
from components.outcomes import Refused

revision, config = json.loads(sys.argv[1])
task = {"task": "jnli", "version": "0.2", "shots": 2, "revision": revision}
section = Harness.model_validate({"kind": "harness", "tasks": [task]})
try:
    found = items_of(section, section.tasks[0], config, lambda *_, **__: ())
except Unavailable as missing:
    print(json.dumps({"missing": str(missing)}))
except Unfinished as passing:
    print(json.dumps({"passing": str(passing)}))
except Refused as refused:
    print(json.dumps({"refused": str(refused)}))
else:
    rows = {split: part.to_list() for split, part in found.overrides["custom_dataset"]().items()}
    print(json.dumps({"names": found.names, "texts": found.texts, "notes": found.notes, "rows": rows}))
"""
CONFIG = {
    "dataset_path": REPOSITORY,
    "training_split": "train",
    "validation_split": "validation",
    "metadata": {
        "fields": ["sentence1", "sentence2", "label"],
        "gold": "label",
        "gold_hidden": -1,
        "known_by": ["sentence1"],
    },
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        parts = {"train.jsonl": ROWS[:3], "validation.jsonl": [ROWS[3], HIDDEN, ROWS[0]]}
        files = {name: "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in parts.items()}
        running.add(REPOSITORY, "items", files)
        yield running


def asked(address: str, revision: str, cache: Path, is_offline: bool = False, **changed: object) -> dict:
    """What a process of its own finds, since the client's libraries read the Hub's address when they are loaded."""
    ours = {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HOME": str(cache), "HF_HUB_OFFLINE": str(int(is_offline))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([revision, {**CONFIG, **changed}])],
        cwd=ROOT, env=os.environ | ours | {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict = json.loads(done.stdout)
    return found


def test_a_commit_of_a_data_set_gives_the_items_that_files_of_it_would(hub: Hub, tmp_path: Path) -> None:
    found = asked(hub.url, hub.sha(REPOSITORY), tmp_path)
    assert found["rows"] == {"train": ROWS[:3], "validation": [ROWS[3], ROWS[0]]}
    assert found["names"] == ["1", "3"]
    assert found["texts"] == [[ROWS[3]["sentence1"]], [ROWS[0]["sentence1"]]]
    assert "1 of 3 items have no right answer and are left out, the first is 2 of split validation" in found["notes"][0]


def test_a_commit_that_is_not_there_makes_the_task_missing_and_says_what_to_look_at(hub: Hub, tmp_path: Path) -> None:
    found = asked(hub.url, "0" * 40, tmp_path)
    assert f"split train of the Hub's {REPOSITORY} at 00000000 cannot be read" in found["missing"]
    assert "Check the key 'revision'" in found["missing"]


def test_a_data_set_that_is_a_script_is_not_run(hub: Hub, tmp_path: Path) -> None:
    hub.add("neighbour/script", "code", {"script.py": b"raise SystemExit"})
    found = asked(hub.url, hub.sha("neighbour/script"), tmp_path, dataset_path="neighbour/script")
    assert "name a commit of its branch refs/convert/parquet" in found["missing"]


def test_a_data_set_that_is_not_there_makes_the_task_missing(hub: Hub, tmp_path: Path) -> None:
    found = asked(hub.url, hub.sha(REPOSITORY), tmp_path, dataset_path="neighbour/nothing")
    assert "split train of the Hub's neighbour/nothing at" in found["missing"]
    hub.add("neighbour/empty", "nothing to read", {"README.md": b"words"})
    found = asked(hub.url, hub.sha("neighbour/empty"), tmp_path, dataset_path="neighbour/empty")
    assert "split train of the Hub's neighbour/empty at" in found["missing"]


def test_a_data_set_that_is_broken_makes_the_task_missing(hub: Hub, tmp_path: Path) -> None:
    hub.add("neighbour/broken", "no JSON", {"train.jsonl": b"{"})
    found = asked(hub.url, hub.sha("neighbour/broken"), tmp_path, dataset_path="neighbour/broken")
    assert "split train of the Hub's neighbour/broken at" in found["missing"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_fails_is_asked_again_by_the_next_run(hub: Hub, tmp_path: Path, status: int) -> None:
    commit, hub.read_status = hub.sha(REPOSITORY), status
    found = asked(hub.url, commit, tmp_path)
    assert f"The Hub did not answer as it should for split train of the Hub's {REPOSITORY}" in found["passing"]
    hub.read_status = 0
    assert asked(hub.url, commit, tmp_path)["names"] == ["1", "3"]


def test_a_hub_that_cannot_be_reached_is_asked_again_by_the_next_run(hub: Hub, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens
        found = asked(address, hub.sha(REPOSITORY), tmp_path)
    assert f"The Hub did not answer as it should for split train of the Hub's {REPOSITORY}" in found["passing"]


def test_a_data_set_that_is_here_needs_no_hub_and_another_is_refused_where_none_may_be_asked(
    hub: Hub, tmp_path: Path
) -> None:
    commit = hub.sha(REPOSITORY)
    found = asked(hub.url, commit, tmp_path / "new", is_offline=True)
    assert "HF_HUB_OFFLINE says that no Hub may be asked" in found["refused"]
    whole = asked(hub.url, commit, tmp_path / "old")
    assert asked(hub.url, commit, tmp_path / "old", is_offline=True) == whole
