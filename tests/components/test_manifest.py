"""A state is whole or not there."""

import errno
from pathlib import Path

import pytest

from components import paths
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.outcomes import Outcome, Refused, clear_outcome, read_outcome, write_outcome


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


def test_what_a_killed_stage_left_is_cleared_by_the_next() -> None:
    left_over = paths.state("fit", "spm").with_name(".spm.partial-1")
    left_over.mkdir(parents=True)
    fill()
    assert not left_over.exists()


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
