"""Checkpoints on disk."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from components import checkpoints as subject
from components.checkpoints import Checkpoints, fingerprint_of
from components.outcomes import Busy, Refused
from components.settings import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path / "root"))
    return Checkpoints("pretrain", "tiny", fingerprint_of({"seed": 1}))


def state(value: int) -> dict[str, Any]:
    return {"weights": {"w": torch.full((1000,), float(value))}, "points": [{"step": value}], "words": ["あ"]}


def test_what_is_saved_comes_back(kept: Checkpoints) -> None:
    kept.save(12, state(12))
    step, found = kept.load() or (0, {})
    assert step == 12
    assert torch.equal(found["weights"]["w"], torch.full((1000,), 12.0))
    assert (found["points"], found["words"]) == ([{"step": 12}], ["あ"])


def test_nothing_saved_is_nothing_loaded(kept: Checkpoints) -> None:
    assert kept.load() is None


def test_two_are_kept_and_the_newest_is_loaded(kept: Checkpoints) -> None:
    for step in (5, 9, 10, 100):
        kept.save(step, state(step))
    assert [int(path.name.split("-")[1]) for path in kept.files()] == [100, 10]
    assert (kept.load() or (0, {}))[0] == 100


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(
    kept: Checkpoints, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.save(1, state(1))
    newest = kept.save(2, state(2))
    content = bytearray(newest.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1  # within the tensor, where torch itself checks nothing
    newest.write_bytes(content[: {"flipped bit": None, "cut": 100, "empty": 0}[damage]])
    assert (kept.load() or (0, {}))[0] == 1
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said
    assert "Taking the one before." in said


def test_all_damaged_is_a_start_from_nothing_and_says_so(kept: Checkpoints, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        kept.save(step, state(step)).write_bytes(b"")
    assert kept.load() is None
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("saved. ")[2] for line in said] == [
        "Taking the one before.",
        "None is before it: training from step 0.",
    ]


def test_a_folder_is_named_by_everything_that_decides_the_outcome(kept: Checkpoints) -> None:
    names = {Checkpoints("pretrain", "tiny", fingerprint_of(facts)).folder
             for facts in ({"seed": 1}, {"seed": 2}, {"seed": 1, "revision": 2})}  # fmt: skip
    assert len(names) == 3
    assert kept.folder in names
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})


def test_a_checkpoint_of_another_recipe_is_refused(kept: Checkpoints) -> None:
    other = Checkpoints("pretrain", "tiny", fingerprint_of({"seed": 2}))
    foreign = other.save(3, state(3))
    kept.folder.mkdir(parents=True)
    shutil.copy(foreign, kept.folder / foreign.name)
    with pytest.raises(Refused, match=r"belongs to another training.*Remove it"):
        kept.load()


def test_a_failed_save_leaves_the_one_before_and_no_partial_file(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.save(1, state(1))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        kept.save(2, state(2))
    assert [path.name for path in kept.folder.iterdir()] == [kept.files()[0].name]
    assert (kept.load() or (0, {}))[0] == 1


def test_a_full_disk_is_refused_before_work_and_at_a_save(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(subject.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 2_000))
    with pytest.raises(Refused, match=r"has 0 MB left, checkpoints need 30 MB.*HIRAKU_CHECKPOINT_ROOT"):
        kept.require_space(10_000_000)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    large = {"weights": torch.zeros(10**6)}
    monkeypatch.setattr(subject, "size_of", lambda _: 10**9)
    with pytest.raises(Refused, match="HIRAKU_CHECKPOINT_ROOT"):
        kept.save(1, large)
    assert not list(kept.folder.iterdir())


def test_sizes_are_those_of_all_tensors() -> None:
    assert subject.size_of({"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.int64), "word", 7]}) == 12 + 16


HOLD = """
import sys, time
from components.checkpoints import Checkpoints
with Checkpoints("pretrain", "tiny", sys.argv[1]).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_busy_until_the_first_one_dies_in_whatever_way(kept: Checkpoints) -> None:
    command = [sys.executable, "-c", HOLD, kept.fingerprint]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=rf"process {holder.pid} on .* holds"), kept.held():
            pass
        other = Checkpoints("pretrain", "tiny", fingerprint_of({"seed": 2}))
        with other.held():  # another training is none of its business
            pass
    finally:
        holder.kill()
        holder.wait()
    with kept.held():
        pass


def test_what_a_killed_save_left_is_cleared_by_the_next_holder(kept: Checkpoints) -> None:
    kept.save(1, state(1))
    (kept.folder / "step-0000000002.partial").write_bytes(b"half")
    with kept.held():
        assert [path.suffix for path in kept.folder.iterdir()] == [".ckpt"]


def test_of_a_finished_training_the_last_one_stays(kept: Checkpoints) -> None:
    with kept.held():
        for step in (1, 2):
            kept.save(step, state(step))
        kept.keep_last()
    assert (kept.load() or (0, {}))[0] == 2
    assert len(kept.files()) == 1


def test_what_is_discarded_leaves_nothing_and_the_name_can_be_held_again(kept: Checkpoints) -> None:
    other = Checkpoints("pretrain", "tiny", fingerprint_of({"seed": 2}))
    standing = other.save(5, state(5))
    with kept.held():
        num_bytes = kept.save(1, state(1)).stat().st_size
    (kept.folder / "step-0000000002.partial").write_bytes(b"half")
    assert subject.discard(kept.folder) == num_bytes + len(b"half")
    assert list(kept.folder.parent.iterdir()) == [other.folder]
    assert standing.is_file()  # another training of the same name
    with kept.held():
        assert kept.load() is None


def test_a_folder_with_other_files_keeps_them(kept: Checkpoints) -> None:
    kept.save(1, state(1))
    (kept.folder / "thesis.txt").write_text("mine")
    subject.discard(kept.folder)
    assert [path.name for path in kept.folder.iterdir()] == ["thesis.txt"]


def test_only_what_nobody_holds_is_cleared(kept: Checkpoints) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, kept.fingerprint], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        running = kept.save(1, state(1))
        stopped = Checkpoints("align", "large-3.6b", fingerprint_of({"seed": 2}))
        num_bytes = stopped.save(1, state(1)).stat().st_size
        assert subject.clear(settings().checkpoint_root) == {stopped.folder: num_bytes}
        assert subject.discard(kept.folder) is None
        assert running.is_file()
        assert not stopped.folder.exists()
    finally:
        holder.kill()
        holder.wait()


def test_names_with_dots_have_locks_of_their_own(kept: Checkpoints) -> None:
    folders = [Checkpoints("pretrain", "gpt-neox-3.6b", fingerprint_of({"seed": seed})).folder for seed in (1, 2)]
    locks = [subject._lock_path(folder) for folder in folders]
    assert [lock.name for lock in locks] == [f"{folder.name}.lock" for folder in folders]
    dotted = Checkpoints("pretrain", "gpt-neox-3.6b", kept.fingerprint)
    with dotted.held():
        assert [path.name for path in kept.folder.parent.glob("*.lock")] == [locks[0].name]
