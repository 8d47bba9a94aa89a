"""Sharding of speech that is killed goes on after its last part, and ends with the bytes of a run that was not."""

import errno
import os
import shutil
import signal
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest

from components import growing, manifest, paths, shard
from components.fit import fit
from components.manifest import read_manifest, tree_hash
from components.modalities.speech import shards, units
from components.outcomes import Refused
from tests.components.speech.small_speech import small_records, write_project

NAME = "tones+units"
NUM_RECORDS, PART, BATCH = 40, 5, 4
IN_A_BATCH = 23
"""A recording of the sixth batch: four parts are noted by then."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(small_records(NUM_RECORDS))
        fit("units")
        shard.shard(NAME)
        whole = SimpleNamespace(
            hash=tree_hash(paths.payload("shard", NAME)), counts=read_manifest("shard", NAME).counts
        )
    return SimpleNamespace(root=root, whole=whole)


@pytest.fixture(autouse=True)
def _small_parts(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project.root)
    shutil.rmtree(paths.ARTIFACTS / "sharded", ignore_errors=True)
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(shards, "PART_RECORDS", PART)
    monkeypatch.setattr(shard, "BATCH_RECORDS", BATCH)


def kill_while_encoding():
    return units.UnitEncoder, "units_of", IN_A_BATCH


def kill_before_the_first_part():
    return units.UnitEncoder, "units_of", PART


def kill_while_the_files_are_ended():
    return np, "save", 2


def kill_while_the_state_is_hashed():
    return manifest, "tree_hash", 1


def sharded_until(root, place):
    """In a child process: shard, and die at a call of some function."""
    os.chdir(root)
    shards.PART_RECORDS, shard.BATCH_RECORDS = PART, BATCH
    owner, name, number = place()
    original, calls = getattr(owner, name), []

    def dying(*arguments, **more):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)

    setattr(owner, name, dying)
    shard.shard(NAME)


def counted(monkeypatch):
    """One entry for each recording that is encoded from now on."""
    encoded, original = [], units.UnitEncoder.units_of
    monkeypatch.setattr(
        units.UnitEncoder, "units_of", lambda self, samples: encoded.append(1) or original(self, samples)
    )
    return encoded


KILLS = {
    kill_before_the_first_part: NUM_RECORDS,
    kill_while_encoding: NUM_RECORDS - IN_A_BATCH // BATCH * BATCH,
    kill_while_the_files_are_ended: 0,
    kill_while_the_state_is_hashed: 0,
}
"""Where it dies -> how many recordings are encoded by the next run."""


@pytest.mark.parametrize("place", KILLS, ids=lambda place: place.__name__)
def test_a_killed_run_goes_on_after_its_last_part_and_ends_with_the_same_bytes(project, monkeypatch, place):
    process = get_context("spawn").Process(target=sharded_until, args=(project.root, place))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not paths.state("shard", NAME).exists()
    encoded = counted(monkeypatch)
    shard.shard(NAME)
    assert len(encoded) == KILLS[place]
    assert tree_hash(paths.payload("shard", NAME)) == project.whole.hash
    assert read_manifest("shard", NAME).counts == project.whole.counts


def test_a_full_disk_is_told_leaves_no_state_and_the_next_run_goes_on(project, monkeypatch):
    original, flushed = growing.flush, []

    def full(stream):
        flushed.append(1)
        if len(flushed) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(stream)

    with monkeypatch.context() as patch:
        for module in (growing, shards):
            patch.setattr(module, "flush", full)
        with pytest.raises(Refused, match=r"The disk is full: artifacts/sharded/tones\+units"):
            shard.shard(NAME)
    assert not paths.state("shard", NAME).exists()
    encoded = counted(monkeypatch)
    shard.shard(NAME)
    assert 0 < len(encoded) < NUM_RECORDS
    assert tree_hash(paths.payload("shard", NAME)) == project.whole.hash


def test_what_was_cut_since_it_was_noted_is_made_again(project, tmp_path):
    encoder = SimpleNamespace(kind="units", dtype=np.dtype("u1"), facts={"num_units": 8})
    values = [("train", np.full(size, size, "u1")) for size in range(1, 8)]

    def stopped():
        yield from values[:6]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shards(stopped(), encoder, tmp_path / "kept")
    assert shards.num_written(tmp_path / "kept") == PART
    with (tmp_path / "kept" / "train" / shards.VALUES_NAME).open("r+b") as stream:
        stream.truncate(3)
    assert shards.num_written(tmp_path / "kept") == 0
    shards.write_shards(iter(values), encoder, tmp_path / "kept")
    found = shards.Arrays(tmp_path / "kept", "train")
    assert [found.part(number).tolist() for number in range(7)] == [[size] * size for size in range(1, 8)]


def test_offsets_that_are_not_the_written_ones_are_refused(tmp_path):
    encoder = SimpleNamespace(kind="units", dtype=np.dtype("u1"), facts={"num_units": 8})
    shards.write_shards(iter([("train", np.ones(3, "u1"))]), encoder, tmp_path / "a+b" / "shards")
    np.save(tmp_path / "a+b" / "shards" / "train" / shards.OFFSETS_NAME, np.array([0, 2]))
    with pytest.raises(Refused, match=r"offsets\.npy is not the one that was written.*hiraku shard a\+b"):
        shards.Arrays(tmp_path / "a+b" / "shards", "train")
