"""Items of a task of lm-eval from a data set of a Hub on loopback, by the task file that reads local files too."""

import json
import os
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
from components.modalities.text.harness_items import Unavailable, items_of
from components.modalities.text.harness_schema import Harness

revision, config = json.loads(sys.argv[1])
task = {"task": "jnli", "version": "0.2", "shots": 2, "revision": revision}
section = Harness.model_validate({"kind": "harness", "tasks": [task]})
try:
    found = items_of(section, section.tasks[0], config, lambda *_, **__: ())
except Unavailable as missing:
    print(json.dumps({"missing": str(missing)}))
else:
    rows = {split: part.to_list() for split, part in found.overrides["custom_dataset"]().items()}
    print(json.dumps({"names": found.names, "texts": found.texts, "notes": found.notes, "rows": rows}))
"""
CONFIG = {
    "dataset_path": REPOSITORY,
    "training_split": "train",
    "validation_split": "validation",
    "metadata": {"fields": ["sentence1", "sentence2", "label"], "gold": "label", "known_by": ["sentence1"]},
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        parts = {"train.jsonl": ROWS[:3], "validation.jsonl": [ROWS[3], HIDDEN, ROWS[0]]}
        files = {name: "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in parts.items()}
        running.add(REPOSITORY, "items", files)
        yield running


def asked(hub: Hub, revision: str, cache: Path, **changed: object) -> dict:
    """What a process of its own finds, since the client's libraries read the Hub's address when they are loaded."""
    ours = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([revision, {**CONFIG, **changed}])],
        cwd=ROOT, env=os.environ | ours | {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict = json.loads(done.stdout)
    return found


def test_a_commit_of_a_data_set_gives_the_items_that_files_of_it_would(hub: Hub, tmp_path: Path) -> None:
    found = asked(hub, hub.sha(REPOSITORY), tmp_path)
    assert found["rows"] == {"train": ROWS[:3], "validation": [ROWS[3], ROWS[0]]}
    assert found["names"] == ["1", "3"]
    assert found["texts"] == [[ROWS[3]["sentence1"]], [ROWS[0]["sentence1"]]]
    assert "1 of 3 items have no right answer and are left out, the first is 2 of split validation" in found["notes"][0]


def test_a_commit_that_is_not_there_makes_the_task_missing_and_says_what_to_look_at(hub: Hub, tmp_path: Path) -> None:
    found = asked(hub, "0" * 40, tmp_path)
    assert f"split train of the Hub's {REPOSITORY} at 00000000 cannot be read" in found["missing"]
    assert "Check the key 'revision'" in found["missing"]


def test_a_data_set_that_is_a_script_is_not_run(hub: Hub, tmp_path: Path) -> None:
    hub.add("neighbour/script", "code", {"script.py": b"raise SystemExit"})
    found = asked(hub, hub.sha("neighbour/script"), tmp_path, dataset_path="neighbour/script")
    assert "name a commit of its branch refs/convert/parquet" in found["missing"]
