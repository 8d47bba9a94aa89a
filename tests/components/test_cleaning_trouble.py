"""What goes wrong while a corpus is cleaned: huge records, full disks, kills, tasks without items, narrow limits."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components import near_duplicates, paths, records
from components.cleaning_schema import NearDuplicates
from components.executor_schema import Local
from components.ingest import ingest
from components.locks import held
from components.near_duplicates import Compared, allow_files, folder_of, lock_of
from components.outcomes import Busy, Refused
from components.recipes import Library
from components.records import parts_of
from tests.components.speech.small_speech import write_records, write_yaml
from tests.components.test_text_corpus_cleaning import RAW, left, project, record, report, some_text, write_cleaned
from tests.conftest import ROOT

__all__ = ["project"]
KEPT = ["a", "b", "c-test", "d", "e", "f", "h", "i"]


def raw() -> Compared:
    return Compared(parts_of("raw"), Library().read("corpus", "raw").columns)


def removed(executor: Local) -> list[list[tuple]]:
    """What goes of each part."""
    run, _ = near_duplicates.find([raw()], NearDuplicates(), executor, lambda _: None)
    return [np.load(path).tolist() for path in sorted((run / "removed").iterdir())]


def test_a_record_of_fifty_megabytes_is_cleaned_like_any_other(project: Path) -> None:
    huge = some_text(1, 17_000_000)
    assert len(huge.encode()) > 50_000_000
    again = huge[:8_000_000] + some_text(2, 1_000_000) + huge[8_000_000:]
    write_records([*RAW[:3], record("huge", huge), record("huge again", again), *RAW[6:]], "raw")
    # Few hashes, since this is about size.
    write_cleaned(near_duplicates={"num_bands": 4, "band_rows": 2}, decontaminate={"tasks": ["held-out"]})
    ingest("clean")
    assert left() == ["a", "b", "huge", "f", "h", "i"]


def test_a_disk_that_fills_while_near_duplicates_are_sought_is_named_and_what_is_done_stays(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PART_ROWS", 6)
    write_records(RAW, "raw")
    write_cleaned()
    folder = folder_of(raw().facts(NearDuplicates()))
    full = folder / "rows" / "00001.bin"
    full.parent.mkdir()
    full.symlink_to("/dev/full")
    with pytest.raises(Refused, match=r"The disk is full: \S*near_duplicates\S* .*HIRAKU_CHECKPOINT_ROOT"):
        ingest("clean")
    assert not paths.state("ingest", "clean").exists()
    assert [each.name for each in (folder / "completions").iterdir()] == ["00000"]
    full.unlink()
    ingest("clean")
    assert left() == KEPT


def test_a_disk_without_room_for_signatures_is_refused_before_the_work(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cleaned()
    usage = shutil.disk_usage(".")._replace(free=10_000)
    with monkeypatch.context() as patch:
        patch.setattr(near_duplicates.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(Refused, match=r"Signatures of raw take .* MB .* are free.*HIRAKU_CHECKPOINT_ROOT"):
            removed(Local())


def test_after_a_kill_the_same_goes_as_without_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PART_ROWS", 3)
    write_records(RAW, "raw")
    whole = removed(Local())
    assert sum(map(len, whole)) == 3
    signatures = folder_of(raw().facts(NearDuplicates()))
    for run in signatures.parent.iterdir():
        if run.is_dir() and run != signatures:
            shutil.rmtree(run)
    # As a kill leaves it: a part without its mark, whose files end anywhere.
    (signatures / "completions" / "00001").unlink()
    for path in [signatures / "rows" / "00001.bin", *signatures.glob("bucket_*/00001.*")]:
        path.write_bytes(path.read_bytes()[:7])
    assert removed(Local()) == whole


def test_the_same_goes_whatever_the_number_of_workers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(records, "PART_ROWS", 6)
    write_records(RAW, "raw")
    alone = removed(Local())
    shutil.rmtree(folder_of(raw().facts(NearDuplicates())).parent)
    assert removed(Local(workers=2)) == alone


def test_what_another_process_makes_is_waited_for(project: Path) -> None:
    write_cleaned()
    lock = lock_of(folder_of(raw().facts(NearDuplicates())))
    code = "import pathlib, sys; from components.locks import lock; lock(pathlib.Path(sys.argv[1])); "
    code += "print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lock.resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="holds"):
            removed(Local())
    finally:
        other.communicate("\n")
    with held(lock):
        pass
    assert removed(Local())


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(Refused, match="ulimit -Hn"):
            allow_files(hard)


def with_tasks_of_two(project: Path) -> None:
    (paths.RECIPES / "tasks" / "harness").symlink_to(ROOT / "recipes" / "tasks" / "harness")
    rows = [{"task": name, "version": "0.2", "shots": 0} for name in ("jnli", "marc-ja")]
    write_yaml(paths.RECIPES / "tasks" / "two.yaml", {"kind": "harness", "tasks": rows, "sets": ["fixed"]})
    write_cleaned(decontaminate={"tasks": ["two"]})


def test_tasks_without_items_are_named_and_one_without_any_is_refused_before_the_work(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tasks_of_two(project)
    with monkeypatch.context() as patch:
        patch.setattr(near_duplicates, "find", lambda *_: pytest.fail("the long work began"))
        with pytest.raises(Refused, match=r"Task 'two' has no item here.*\n  jnli: .*is not here"):
            ingest("clean")
    place = project / "data" / "eval_ja" / "jnli"
    place.mkdir(parents=True)
    row = {"sentence1": some_text(2)[:100], "sentence2": some_text(2)[100:200], "label": 1}
    (place / "validation.jsonl").write_text(json.dumps(row) + "\n")
    ingest("clean")
    assert "b" not in left()
    step = report()["cleaning"]["steps"][-1]
    assert step["removed"] == 1
    assert "marc-ja: data/eval_ja/marc_ja/validation.jsonl is not here" in step["rule"]
    assert "not cleaned of all items of task 'two'" in capsys.readouterr().err
    manifest = json.loads((paths.state("ingest", "clean") / "manifest.json").read_text())
    assert "data/eval_ja" in manifest["parents"]
