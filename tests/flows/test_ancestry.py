"""`hiraku lineage`: of a recipe, of a folder, of a version of a real registry."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from components import paths, processes, registry, tracking
from components.lineage import lineage_from, write_lineage
from components.manifest import Manifest, tree_hash, writing
from components.outcomes import Busy, Refused
from components.register import register
from flows import ancestry
from tests.components.test_lineage import make
from tests.components.test_manifest import ON_A_SMALL_DISK
from tests.conftest import ROOT

MODEL = "gpt"


def make_model() -> None:
    """A model of four states and a package; its parent is another recipe's."""
    raw = Path("data/wiki")
    raw.mkdir(parents=True)
    (raw / "a.txt").write_text("raw")
    records = {"artifacts/ingested/wiki/records": make("ingest", "wiki", {"data/wiki": tree_hash(raw)}, "a", "CC0-1.0")}
    encoder = {"artifacts/fitted/spm/encoder": make("fit", "spm", records, "b")}
    weights = {"artifacts/pretrained/older/weights": make("pretrain", "older", records | encoder, "c", "MIT")}
    manifest = Manifest("package", MODEL, {"components.package": 2}, weights | encoder, {}, "MIT", {"layouts": ["x"]})
    with writing(manifest) as folder:
        (folder / "x").mkdir()
        (folder / "x" / "model.safetensors").write_bytes(b"weights")
        write_lineage(lineage_from(manifest), folder / "x", ())
    Path("recipes").mkdir()
    shutil.copy(ROOT / "tests" / "recipes" / "smoke-gpt2.yaml", Path("recipes") / f"{MODEL}.yaml")


@pytest.fixture
def model(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its layout, in a project with a tracking server of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_model()
    tracking.HOME.mkdir(parents=True)
    shutil.copy(empty_database, tracking.HOME / "mlflow.db")
    return paths.layout(MODEL, "x")


def told(model: str) -> str:
    """What the terminal shows."""
    console = Console(file=StringIO(), width=200)
    with console.capture() as captured:
        ancestry.show(ancestry.origin_of(model), console)
    return captured.get()


def test_a_folder_alone_tells_parents_code_and_licences_and_whether_its_raw_bytes_are_here(model: Path) -> None:
    alone = Path("downloaded")
    shutil.copytree(model, alone)
    text = told(str(alone))
    assert text.startswith("gpt  downloaded\n")
    assert text.index("package gpt") < text.index("pretrain older") < text.index("fit spm") < text.index("ingest wiki")
    assert "models it starts from  older" in text
    assert "licences  CC0-1.0, MIT" in text
    assert "components.package 2" in text
    assert "only the tracking server of its makers knows" in text
    assert "these bytes are here" in text
    Path("data/wiki/a.txt").write_text("other")
    assert "other bytes are here" in told(str(alone))
    shutil.rmtree("data")
    assert "not on this machine" in told(str(alone))


def test_a_recipe_and_a_version_of_the_registry_tell_the_revision_of_the_code_and_of_the_data(model: Path) -> None:
    release = tracking.Release(MODEL, "language", {"git_revision": "abcdef0123456789", "data data": "0123md5.dir"})
    content = json.loads((paths.state("package", MODEL) / "manifest.json").read_text())["payload_hash"]
    tracking.open_stage_run(release, "package", MODEL, {"payload_hash": content, **processes.tags()})
    register(MODEL, release)
    for name in (MODEL, f"registry:{MODEL}@challenger", f"registry:{MODEL}@1"):
        text = told(name)
        assert "git abcdef012345" in text, name
        assert "md5 0123md5.dir" in text
        assert content[:12] in text
    with pytest.raises(Refused, match=r"no version '7' of 'gpt'. There are: challenger, 1"):
        ancestry.origin_of(f"registry:{MODEL}@7")


def test_a_package_that_was_changed_is_refused_and_a_strange_name_gets_the_nearest(
    model: Path,
) -> None:
    with pytest.raises(Refused, match="Did you mean 'gpt'"):
        ancestry.origin_of("gtp")
    with pytest.raises(Refused, match=r"recipes has no lineage.json"):
        ancestry.origin_of("recipes")
    (model / "extra").write_text("x")
    with pytest.raises(Refused, match="was changed after it was made"):
        ancestry.origin_of(MODEL)


def test_only_what_is_made_on_the_way_to_a_verb_is_compared(model: Path) -> None:
    from flows import reproduce

    lineage = ancestry.origin_of(MODEL).lineage
    other = Manifest("ingest", "other", {}, {"data/other": "raw"})
    with writing(other) as folder:
        (folder / "records").mkdir()
    first, *others = lineage.states  # a corpus that only the training reads comes in beside the first
    lineage = replace(lineage, states=(first, other, *others))
    lineage.of("pretrain")[0].parents["artifacts/ingested/other/records"] = other.payload_hash
    made = {
        until: [state.verb for state in reproduce.made_for(lineage, lineage.of(until))] for until in ("fit", "pretrain")
    }
    assert made == {"fit": ["ingest", "fit"], "pretrain": ["ingest", "ingest", "fit", "pretrain"]}


def test_a_commit_that_git_cannot_check_out_is_told_in_gits_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import reproduce

    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    with (
        pytest.raises(Refused, match=r"git cannot check out commit 0123.*invalid reference"),
        reproduce._folder("0123" * 10),
    ):
        pass


def test_a_package_is_registered_by_one_process_at_a_time_and_once(model: Path) -> None:
    holder = (
        "import sys; from components import locks, register\nwith locks.held(register.lock_of('gpt')): print(); input()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", holder], env=environment, text=True, **pipes) as process:
        process.stdout.readline()
        with pytest.raises(Busy, match=r"holds .*register-gpt"):
            register(MODEL, tracking.Release(MODEL, "language"))
        process.communicate("\n")
    first = register(MODEL, tracking.Release(MODEL, "language"))
    assert first["is_new"]
    folder = paths.state("package", MODEL)
    late = registry.add_version(
        MODEL, tracking.Release(MODEL, "x").open(), folder, {"content_hash": first["content_hash"]}
    )
    assert late.version == first["version"], "what another machine has made meanwhile is made twice"


def test_a_fault_of_this_machines_disk_is_not_blamed_on_the_registry(model: Path) -> None:
    from flows import trouble

    def is_full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    for asked in (lambda: ancestry._asked(is_full), trouble.told("")(is_full)):
        with pytest.raises(OSError, match="No space left on device"):
            asked()


def test_files_that_have_no_room_are_not_fetched(model: Path, tmp_path: Path) -> None:
    try:
        subprocess.run([*ON_A_SMALL_DISK, str(tmp_path), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    (model / "model.safetensors").write_bytes(bytes(2 << 20))
    small = tmp_path / "small"
    small.mkdir()
    version = registry.add_version(MODEL, tracking.Release(MODEL, "x").open(), paths.state("package", MODEL), {})
    program = f"""
from components import registry
from components.outcomes import Refused
try:
    with registry.fetched(registry.read_version("{MODEL}", "{version.version}")):
        pass
except Refused as refused:
    print(refused)
"""
    script = [*ON_A_SMALL_DISK, str(small), sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(small)}
    said = subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout
    assert said.startswith("Version 1 of 'gpt' has 2,0"), said
    assert f"{small} has room for 1,0" in said
