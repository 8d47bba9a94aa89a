"""Raw data come under `data/`, and `data.dvc` records just them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.graph import Stage, plan_to
from components.outcomes import Refused
from components.recipes import Library
from flows import workspace
from flows.collect import collect, missing, require_obtainable
from flows.workspace import DATA_FILE
from tests.components.image.small_server import serving
from tests.conftest import ROOT
from tests.flows.conftest import Project

GENERATED = """
description: made
language: ja
licence: CC0-1.0
source: {kind: files, paths: [made], generator: toy}
columns: {text: {modality: text}}
"""


LISTED = """
description: pictures of a list of addresses
language: ja
licence: CC0-1.0
source:
  kind: files
  paths: [listed/pictures]
  format: webdataset
  download: {lists: [listed/list.csv], own_hosts: [127.0.0.1], timeout_seconds: 5}
columns: {picture: {modality: image, form: picture}}
"""


def quiet(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder somewhere else, with two files of a known kind and one of another."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.jsonl").write_text('{"text": "b"}\n')
    (folder / "deep" / "c.txt").write_text("c\n")
    (folder / "LICENSE.pdf").write_text("no data")
    return folder


@pytest.fixture
def generator(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus whose raw data are made."""

    def write(root: Path) -> None:
        (root / "made").mkdir(parents=True, exist_ok=True)
        (root / "made" / "m.txt").write_text("made\n")

    monkeypatch.setattr("flows.collect.GENERATORS", {"toy": write})
    (project.folder / "recipes" / "corpora" / "made.yaml").write_text(GENERATED)


def recorded() -> list[str]:
    """What data.dvc names, read as DVC reads it."""
    with workspace.open_repo() as repo:
        return sorted(entry["path"] for entry in repo.ls(str(Path.cwd()), "data", recursive=True, dvc_only=True))


def test_files_of_a_folder_are_copied_and_just_they_are_recorded(project: Project, outside: Path) -> None:
    (project.folder / "data" / "unrelated.txt").write_text("mine")
    said: list[str] = []
    collect("smoke-text", outside, said.append)
    assert Path("data/smoke/deep/c.txt").read_text() == "c\n"
    assert recorded() == ["smoke/a.jsonl", "smoke/b.jsonl", "smoke/deep/c.txt"]
    assert any("LICENSE.pdf" in line for line in said)


def test_adding_a_corpus_keeps_what_is_recorded_and_not_on_this_machine(
    project: Project, outside: Path, generator: None
) -> None:
    collect("smoke-text", outside, quiet)
    shutil.rmtree("data/smoke")
    collect("made", None, quiet)
    assert recorded() == ["made/m.txt", "smoke/a.jsonl", "smoke/b.jsonl", "smoke/deep/c.txt"]


def test_a_fresh_clone_whose_list_is_lost_makes_it_again_from_the_generators(
    project: Project, outside: Path, generator: None, tmp_path: Path
) -> None:
    collect("made", None, quiet)
    for cache in (Path(".dvc/cache"), tmp_path / "remote", Path("data/made")):
        shutil.rmtree(cache)
    collect("smoke-text", outside, quiet)
    assert "made/m.txt" in recorded()


def test_a_list_that_cannot_be_made_again_is_not_overwritten(
    project: Project, outside: Path, generator: None, tmp_path: Path
) -> None:
    collect("smoke-text", outside, quiet)
    before = DATA_FILE.read_text()
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises(Refused, match="would lose them"):
        collect("made", None, quiet)
    assert DATA_FILE.read_text() == before
    assert yaml.safe_load(before)["outs"][0]["path"] == "data"


def test_a_lock_that_another_process_of_dvc_holds_is_refused_and_keeps_what_is_recorded(
    project: Project, outside: Path
) -> None:
    collect("smoke-text", outside, quiet)
    before = DATA_FILE.read_text()
    program = (
        "import sys, zc.lockfile; lock = zc.lockfile.LockFile('.dvc/tmp/lock'); print('held', flush=True); input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match="run the same command again"):
            collect("smoke-text", outside, quiet)
    finally:
        holder.communicate("\n")
    assert DATA_FILE.read_text() == before
    collect("smoke-text", outside, quiet)


def test_a_record_that_is_broken_is_refused_with_the_reason(project: Project, outside: Path) -> None:
    DATA_FILE.write_text("outs: 3\n")
    with pytest.raises(Refused, match=r"DVC cannot read data\.dvc"):
        collect("smoke-text", outside, quiet)


def test_a_wrong_folder_an_empty_one_and_a_missing_one_are_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=r"\.jsonl"):
        collect("smoke-text", tmp_path / "empty", quiet)
    with pytest.raises(Refused, match="is not a folder"):
        collect("smoke-text", tmp_path / "nowhere", quiet)
    shutil.rmtree("data/smoke")
    with pytest.raises(Refused, match=r"recipes/corpora/smoke-text\.yaml says where .* --from FOLDER"):
        collect("smoke-text", None, quiet)
    assert not DATA_FILE.exists()


def test_a_folder_without_a_readable_file_is_no_data(project: Project) -> None:
    from components.graph import plan
    from flows import collect as module

    stages = plan(Library(), "smoke-gpt2")
    assert missing(Library(), stages) == []
    Path("data/smoke/a.jsonl").rename("data/smoke/notes.md")
    assert missing(Library(), stages) == ["smoke-text"]
    with pytest.raises(
        Refused, match=r"reads data/smoke, which holds no file that ends in \.txt, .*\.tar\.gz\. recipes/"
    ):
        module.require_obtainable(Library(), stages)
    with pytest.raises(Refused, match=r"holds no file"):
        collect("smoke-text", None, quiet)


def test_an_empty_folder_of_a_generator_is_filled(project: Project, generator: None) -> None:
    from flows import collect as module

    Path("data/made").mkdir()
    assert missing(Library(), [Stage("ingest", "made", (), (), ())]) == ["made"]
    with workspace.open_repo() as repo:
        module.complete(Library(), "made", repo, quiet)
    assert Path("data/made/m.txt").read_text() == "made\n"


def test_raw_data_that_are_gone_come_back_from_the_remote(project: Project, outside: Path) -> None:
    from components.graph import plan
    from flows import collect as module

    collect("smoke-text", outside, quiet)
    shutil.rmtree("data/smoke")
    shutil.rmtree(".dvc/cache")
    library = Library()
    stages = plan(library, "smoke-gpt2")
    assert missing(library, stages) == ["smoke-text"]
    module.require_obtainable(library, stages)
    with workspace.open_repo() as repo:
        module.complete(library, "smoke-text", repo, quiet)
    assert Path("data/smoke/deep/c.txt").read_text() == "c\n"


def test_all_raw_data_that_nobody_can_bring_are_named_at_once(project: Project, outside: Path) -> None:
    from flows import collect as module

    text = yaml.safe_load(Path("recipes/corpora/smoke-text.yaml").read_text())
    for name in ("second", "third"):
        corpus = text | {"source": {"kind": "files", "paths": [name]}}
        Path(f"recipes/corpora/{name}.yaml").write_text(yaml.safe_dump(corpus))
    stages = [Stage("ingest", name, (), (), ()) for name in ("smoke-text", "second", "third")]
    collect("smoke-text", outside, quiet)
    with pytest.raises(Refused) as refusal:
        module.require_obtainable(Library(), stages)
    assert str(refusal.value).splitlines() == [
        f"Corpus '{name}' reads data/{name}, which is not here. recipes/corpora/{name}.yaml says where the data come "
        f"from. Bring them: hiraku collect {name} --from FOLDER"
        for name in ("second", "third")
    ]


def test_items_that_a_corpus_is_cleaned_of_are_asked_for_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    stage = plan_to(Library(), "ingest", "cc100-ja-clean")[-1]
    with pytest.raises(Refused, match=r"'cc100-ja-clean' read data/eval_ja, which is not here.*dvc add data/eval_ja"):
        require_obtainable(Library(), [stage])
    (tmp_path / "data" / "eval_ja").mkdir(parents=True)
    require_obtainable(Library(), [stage])


SOUNDS = """
description: sounds
language: und
licence: CC0-1.0
source: {kind: files, paths: [PATHS], files_field: audio, FOLDER}
columns: {audio: {modality: speech, form: recording}}
"""


def write_sounds(project: Project, paths: str, folder: str) -> None:
    text = SOUNDS.replace("PATHS", paths).replace("FOLDER", folder)
    (project.folder / "recipes" / "corpora" / "sounds.yaml").write_text(text)


def test_a_table_comes_together_with_the_files_that_it_names(project: Project, tmp_path: Path) -> None:
    write_sounds(project, "sounds", "format: tsv")
    folder = tmp_path / "brought"
    (folder / "deep").mkdir(parents=True)
    (folder / "table.tsv").write_text("audio\ndeep/1.wav\n")
    (folder / "deep" / "1.wav").write_bytes(b"sound")
    (folder / ".hidden").write_text("an editor's")
    assert "sounds" in missing(Library(), [Stage("ingest", "sounds", (), (), ())])
    collect("sounds", folder, quiet)
    assert not missing(Library(), [Stage("ingest", "sounds", (), (), ())])
    assert recorded() == ["sounds/deep/1.wav", "sounds/table.tsv"]


def test_lists_and_the_folder_where_their_paths_start_come_together(project: Project, tmp_path: Path) -> None:
    write_sounds(project, "lists/core", "format: kaldi, files_folder: lists/wav")
    folder = tmp_path / "brought"
    for name, content in {"core/wav.scp": "u 1.wav\n", "core/utt2spk": "u s\n", "wav/1.wav": "sound"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    collect("sounds", folder, quiet)
    assert recorded() == ["lists/core/utt2spk", "lists/core/wav.scp", "lists/wav/1.wav"]
    assert not missing(Library(), [Stage("ingest", "sounds", (), (), ())])
    shutil.rmtree("data/lists/wav")
    assert missing(Library(), [Stage("ingest", "sounds", (), (), ())]) == ["sounds"]


def test_files_that_are_there_already_are_not_copied_again(project: Project, outside: Path) -> None:
    collect("smoke-text", outside, quiet)
    place = Path("data/smoke/b.jsonl")
    before = place.stat().st_ino
    (outside / "deep" / "c.txt").write_text("changed\n")
    said: list[str] = []
    collect("smoke-text", outside, said.append)
    assert place.stat().st_ino == before
    assert Path("data/smoke/deep/c.txt").read_text() == "changed\n"
    assert said[0].startswith("1 files (8 bytes) were copied")
    assert said[1] == "1 files are the same as those that are there."


def test_pictures_of_a_list_are_downloaded_once_and_recorded_with_their_list(project: Project, outside: Path) -> None:
    (project.folder / "recipes" / "corpora" / "listed.yaml").write_text(LISTED)
    with pytest.raises(Refused, match=r"listed/list\.csv is not there\. Run: hiraku collect listed --from FOLDER"):
        collect("listed", None, quiet)
    with serving() as server:
        start = f"http://127.0.0.1:{server.server_port}"
        (outside / "list.csv").write_text(f"url,caption\n{start}/fine,a\n{start}/gone,b\n")
        said: list[str] = []
        collect("listed", outside, said.append)
        assert "1 of 2 addresses of listed gave a picture." in said
        before = server.asked.copy()
        collect("listed", None, quiet)
        assert server.asked == before
    assert recorded() == ["listed/list.csv", "listed/pictures/00000.parquet", "listed/pictures/00000.tar"]
    assert not missing(Library(), [Stage("ingest", "listed", (), (), ())])
