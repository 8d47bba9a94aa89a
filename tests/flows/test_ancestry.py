"""`hiraku lineage`: of a recipe, of a folder, of a version of a real registry."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from components import paths, processes, tracking
from components.lineage import lineage_from, write_lineage
from components.manifest import Manifest, tree_hash, writing
from components.outcomes import Refused
from components.register import register
from flows import ancestry
from tests.components.test_lineage import make
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
