"""A state is whole or not there."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components import paths
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.outcomes import Outcome, Refused, clear_outcome, read_outcome, write_outcome
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(text: str = "data") -> None:
    with writing(Manifest("fit", "spm", {"components.fit": 1})) as folder:
        (folder / "encoder").mkdir()
        (folder / "encoder" / "file").write_text(text)
        (folder / "report.json").write_text("words")


def test_a_state_appears_whole_with_the_hash_of_its_payload() -> None:
    fill()
    manifest = read_manifest("fit", "spm")
    assert manifest.payload_hash == tree_hash(paths.payload("fit", "spm"))
    assert sorted(p.name for p in paths.state("fit", "spm").iterdir()) == ["encoder", "manifest.json", "report.json"]


def test_a_stage_that_fails_leaves_the_old_state_and_nothing_half_made() -> None:
    fill("old")

    def half_way() -> None:
        with writing(Manifest("fit", "spm", {})) as folder:
            (folder / "encoder").mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Refused, match="disk is full"):
        half_way()
    assert (paths.payload("fit", "spm") / "file").read_text() == "old"
    assert [p.name for p in paths.state("fit", "spm").parent.iterdir()] == ["spm"]


# Its own mount name space, so that the small disk is gone with the process.
ON_A_SMALL_DISK = [
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o size=1m none "$0" && exec "$@"',
]
FILLS_THE_DISK = """
import os, sys
os.chdir(sys.argv[1])
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file
from components.manifest import Manifest, writing
from components.outcomes import Refused

def fill(size):
    with writing(Manifest("fit", "spm", {})) as folder:
        (folder / "encoder").mkdir()
        save_file({"weights": np.zeros(size)}, folder / "encoder" / "model.safetensors")

fill(10)
try:
    fill(1 << 18)  # 2 MiB
except Refused as refused:
    print(type(refused.__cause__).__name__, refused)
print(*sorted(str(path) for path in Path("artifacts/fitted").rglob("*")))
"""


def test_a_disk_that_fills_while_weights_are_written_is_told_as_such(tmp_path: Path) -> None:
    try:
        subprocess.run([*ON_A_SMALL_DISK, str(tmp_path), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    script = [*ON_A_SMALL_DISK, str(tmp_path), sys.executable, "-c", FILLS_THE_DISK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    assert said[0].startswith("SafetensorError The disk is full: artifacts/fitted/spm needs more than")
    state = "artifacts/fitted/spm"
    assert said[1].split() == [
        state,
        f"{state}/encoder",
        f"{state}/encoder/model.safetensors",
        f"{state}/manifest.json",
    ]


def test_an_error_of_another_kind_is_not_taken_for_a_full_disk() -> None:
    with pytest.raises(ValueError, match="shapes differ"), writing(Manifest("fit", "spm", {})):
        raise ValueError("shapes differ")
    with pytest.raises(PermissionError), writing(Manifest("fit", "spm", {})):
        raise PermissionError(errno.EACCES, "Permission denied")


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_stage_left_is_cleared_by_the_next_and_what_a_running_one_writes_is_not() -> None:
    folder = paths.state("fit", "spm").parent
    left_overs = [folder / f".spm.{kind}-{dead_pid()}" for kind in ("partial", "old")]
    of_a_running_process = folder / f".spm.partial-{os.getppid()}"
    for each in [*left_overs, of_a_running_process]:
        each.mkdir(parents=True)
    fill()
    assert not any(each.exists() for each in left_overs)
    assert of_a_running_process.is_dir()


KILLED_WHILE_IT_DELETES = """
import os, shutil, signal
from pathlib import Path
from components.manifest import Manifest, writing

def killed(folder, **more):
    (Path(folder) / "encoder" / "file").unlink()
    os.kill(os.getpid(), signal.SIGKILL)

with writing(Manifest("fit", "spm", {})) as folder:
    (folder / "encoder").mkdir()
    (folder / "encoder" / "file").write_text("new")
    shutil.rmtree = killed
"""


def test_a_stage_that_is_killed_while_it_deletes_the_old_state_leaves_the_new_one_whole() -> None:
    fill("old")
    script = [sys.executable, "-c", KILLED_WHILE_IT_DELETES]
    child = subprocess.run(script, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert child.returncode == -signal.SIGKILL
    manifest = read_manifest("fit", "spm")
    assert (paths.payload("fit", "spm") / "file").read_text() == "new"
    assert manifest.payload_hash == tree_hash(paths.payload("fit", "spm"))


def test_an_old_state_that_cannot_be_replaced_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fill("old")
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OSError, match="Input/output error"):
        fill("new")
    assert (paths.payload("fit", "spm") / "file").read_text() == "old"
    assert [p.name for p in paths.state("fit", "spm").parent.iterdir()] == ["spm"]


def test_a_report_is_not_payload() -> None:
    fill()
    before = read_manifest("fit", "spm").payload_hash
    (paths.state("fit", "spm") / "report.json").write_text("other words")
    assert tree_hash(paths.payload("fit", "spm")) == before


def test_a_renamed_file_changes_the_hash_of_its_folder() -> None:
    fill()
    folder = paths.payload("fit", "spm")
    before = tree_hash(folder)
    (folder / "file").rename(folder / "other")
    assert tree_hash(folder) != before


def test_a_missing_state_names_the_command_that_makes_it() -> None:
    with pytest.raises(Refused, match=r"artifacts/fitted/spm has no manifest.json.*Run: hiraku fit spm"):
        read_manifest("fit", "spm")


def test_an_outcome_is_read_back_and_never_taken_for_a_later_run() -> None:
    write_outcome("fit", "spm", Outcome("refused", "vocab_size 9000 found", {"work": 1.5}))
    assert read_outcome("fit", "spm") == Outcome("refused", "vocab_size 9000 found", {"work": 1.5})
    clear_outcome("fit", "spm")
    assert read_outcome("fit", "spm") is None
