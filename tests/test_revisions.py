"""Every verb's output on a tiny input, held together with the REVISION numbers that decide it.

DVC makes states anew when a REVISION is raised, and only then. So when a change of code changes what comes out here,
raise the REVISION of the verb, modality or family that changed, and record both below; when it was not meant to change
anything, mend the code. Training and scores are compared within a tolerance, since machines add in different orders.
"""

import json
from pathlib import Path

import pytest

from components import paths
from components.evaluate import evaluate
from components.fit import fit
from components.ingest import ingest
from components.manifest import file_hash, read_manifest
from components.package import package
from components.pretrain import pretrain
from components.shard import shard
from components.validate import validate
from tests.smoke import write_smoke_project

TEXT = "components.modalities.text"
GPT = "models.gpt"

HASHES = {
    ("ingest", "smoke-text"): (
        {"components.ingest": 2, TEXT: 2},
        "82a69e70b0a565dffa9ef443f9f5e8ac4eb1a1c70f50917a47f9e4c69269a571",
    ),
    ("validate", "smoke-text"): (
        {"components.validate": 2, TEXT: 2},
        "df9c136c7785683881d0b75ed4ce4b40d41b70dc10c5d93256944ade79386ef5",
    ),
    ("fit", "smoke-spm"): (
        {"components.fit": 2, TEXT: 2},
        "ec14a1b280468c800e0945d6d59aafaf26fe949bda8b275b782d16573590cb7a",
    ),
    ("shard", "smoke-text+smoke-spm"): (
        {"components.shard": 1, TEXT: 2},
        "420846e97bfe2ade0c46273d3e798e5ceaf579d9038d8a84427cb619033a7251",
    ),
}
TRAINED = {
    "smoke-gpt2": ({"components.pretrain": 1, GPT: 1, TEXT: 2}, {1: 7.08382, 20: 5.88656}),
    "smoke-gpt-neox": ({"components.pretrain": 1, GPT: 1, TEXT: 2}, {1: 7.09537, 20: 5.64096}),
}
SCORED = ({"components.evaluate": 5, GPT: 1, TEXT: 2}, 5.35633)
PACKAGED = (
    {"components.package": 6, GPT: 1},
    {
        "config.json": "a7ec1b1472cd497091cf4009e3fb5638f100bb92aac890801b5e886a2fc146cc",
        "generation_config.json": "c4a0ad59d9f07c39f24c3901694793f49aaa942fce611e111933c1e2dc4c63ef",
        "tokenizer.json": "2d8a0712101bf934bb125b9c083686393e1f4cf26b8810c32c3450a6c8ee1b1e",
        "tokenizer_config.json": "c179c6df057b4bd6fcbed82261b306375c859e915249034ed1f55fbbf70f21a0",
    },
)
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole path of verbs, without an orchestrator."""
    root = tmp_path_factory.mktemp("revisions")
    write_smoke_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        ingest("smoke-text")
        validate("smoke-text")
        fit("smoke-spm")
        shard("smoke-text+smoke-spm")
        for recipe in TRAINED:
            pretrain(recipe)
        evaluate("smoke-gpt2")
        package("smoke-gpt2")
    return root


@pytest.fixture(autouse=True)
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@pytest.mark.parametrize("node", HASHES, ids=lambda node: "-".join(node))
def test_a_stage_of_text_gives_the_recorded_bytes_for_its_revisions(node: tuple[str, str]) -> None:
    manifest = read_manifest(*node)
    assert (manifest.revisions, manifest.payload_hash) == HASHES[node]


@pytest.mark.parametrize("recipe", TRAINED)
def test_training_gives_the_recorded_losses_for_its_revisions(recipe: str) -> None:
    revisions, losses = TRAINED[recipe]
    assert read_manifest("pretrain", recipe).revisions == revisions
    rows = json.loads((paths.state("pretrain", recipe) / "curve.json").read_text())
    found = {row["step"]: row["metrics"]["pretrain/loss"] for row in rows if "pretrain/loss" in row["metrics"]}
    assert {step: found[step] for step in losses} == pytest.approx(losses, rel=TOLERANCE)


def test_scores_are_the_recorded_ones_for_their_revisions() -> None:
    revisions, bits = SCORED
    assert read_manifest("evaluate", "smoke-gpt2").revisions == revisions
    scores = json.loads((paths.payload("evaluate", "smoke-gpt2") / "scores.json").read_text())
    assert scores["tasks"]["smoke-held-out"]["bits_per_character"] == pytest.approx(bits, rel=TOLERANCE)


def test_a_package_has_the_recorded_files_for_its_revisions() -> None:
    revisions, hashes = PACKAGED
    assert read_manifest("package", "smoke-gpt2").revisions == revisions
    folder = paths.layout("smoke-gpt2", "transformers")
    assert {name: file_hash(folder / name) for name in hashes} == hashes
