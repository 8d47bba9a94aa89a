"""As `test_revisions`, of pictures and of Stable Diffusion: what comes out, together with the REVISION that decides it.

Losses of training are recorded and no average of weights, so what begins from another training begins from one without.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from components import paths
from components.align import align
from components.evaluate import evaluate
from components.fit import fit
from components.ingest import ingest
from components.manifest import read_manifest
from components.modalities.image.shards import Arrays
from components.pretrain import pretrain
from components.shard import shard
from components.validate import validate
from tests.components.image import small_diffusion as small
from tests.components.image.small_pictures import file_of, noise
from tests.components.sharded import run_chain, stages_in
from tests.components.speech.small_speech import write_yaml

IMAGE = {"components.modalities.image": 1}
DIFFUSION = {"models.stable_diffusion": 4}

HASHES: dict[tuple[str, str], tuple[dict[str, int], str]] = {
    ("ingest", "drawings"): (
        {"components.ingest": 2, "components.attached": 1, **IMAGE},
        "9305c575df1c3d374f5e3aa8590e9bf4da3491417fe613eed1f8d899c2a63000",
    ),
    ("validate", "drawings"): (
        {"components.validate": 2, **IMAGE},
        "237cdfc2df4d641ae2b61eab4a774480031b67100565e0b745b94a745b241e88",
    ),
    ("fit", "words"): (
        {"components.fit": 2, **IMAGE},
        "d010fc844cbfc116af98fb0b65c73f43b1e16ca23f454898ae211a8f48666706",
    ),
    ("fit", "small-pixels"): (
        {"components.fit": 2, **IMAGE},
        "b40baf9757398b08b36ef62cdce7f01b634828110556c4a7b78d110241d9c2d3",
    ),
    ("shard", "squares+words"): (
        {"components.shard": 1, **IMAGE},
        "00d8eccc0670951e86f1a84b2fb3b3ae039e9ea754df7de3fbe92e65af1750aa",
    ),
    ("shard", "squares+small-pixels"): (
        {"components.shard": 1, **IMAGE},
        "e40dfa0250c6139f93b547ac262d4562ee31f184328f783476f0a4795ae797d8",
    ),
}
TRAINED: dict[tuple[str, str], tuple[dict[str, int], dict[int, float]]] = {
    ("pretrain", "small-vae"): ({"components.pretrain": 1, **IMAGE, **DIFFUSION}, {1: 0.65245, 4: 0.86371}),
    ("pretrain", "small-base"): ({"components.pretrain": 1, **IMAGE, **DIFFUSION}, {1: 1.04052, 4: 1.00652}),
    ("align", "small-stage1"): ({"components.align": 1, **IMAGE, **DIFFUSION}, {1: 0.79310, 4: 0.79681}),
    ("align", "small-both"): ({"components.align": 1, **IMAGE, **DIFFUSION}, {1: 0.81430, 4: 0.76629}),
}
LATENTS = ({"components.shard": 1, **IMAGE, **DIFFUSION}, {"latent": 0.25068, "deviation": 0.99202})
"""Means of what is kept of the pictures, of absolute values."""
SCORED = ({"components.evaluate": 5, **IMAGE, **DIFFUSION}, 13.02562)
TOLERANCE = 2e-3


def write_drawings() -> None:
    """Raw pictures and captions: one too small, one that is there twice."""
    folder = Path("data/drawings")
    folder.mkdir(parents=True)
    sides = [(60, 40), (64, 64), (8, 8), (96, 50), (60, 40)]
    for number, side in enumerate(sides):
        (folder / f"{number}.png").write_bytes(file_of(noise(*side)))
    rows = [{"id": f"d{n}", "image": f"{n}.png", "caption": [f"{n}番目の絵", "絵"]} for n in range(len(sides))]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {
        "picture": {
            "modality": "image",
            "form": "picture",
            "filters": {"min_side_px": 32},
            "expectations": {"unique_mostly": 0},
        },
        "captions": {"modality": "image", "form": "captions"},
    }
    source = {"kind": "files", "paths": ["drawings"], "format": "jsonl", "files_field": "image", "id_field": "id"}
    section = {"description": "Small.", "language": "ja", "licence": "CC0-1.0", "source": source, "columns": columns}
    write_yaml(
        paths.RECIPES / "corpora" / "drawings.yaml", section | {"splits": {"only": "train"}, "max_reject_share": 1}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs leave of a few pictures, without an orchestrator."""
    root = tmp_path_factory.mktemp("revisions")
    with stages_in(root):
        small.write_diffusion_project()
        write_drawings()
        # At small's own rate, ten times this, two CPUs were 0.9 % apart after four steps of Adam.
        rate = {"learning_rate": 0.001}
        both = small.training("words", {"kind": "noise", "min_snr_gamma": 5}, optimizer=rate)
        recipe = small.recipe(small.DIFFUSION, "words", "diffusers", starts_from="small-base", align=both)
        write_yaml(paths.RECIPES / "small-both.yaml", recipe)
        ingest("drawings")
        validate("drawings")
        run_chain(["small-stage1", "small-both"], {"fit": fit, "shard": shard, "pretrain": pretrain, "align": align})
        evaluate("small-vae")
    return root


@pytest.fixture(autouse=True)
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@pytest.mark.parametrize("node", HASHES, ids=lambda node: "-".join(node))
def test_a_stage_of_pictures_gives_the_recorded_bytes_for_its_revisions(node: tuple[str, str]) -> None:
    manifest = read_manifest(*node)
    assert (manifest.revisions, manifest.payload_hash) == HASHES[node]


def test_latents_are_the_recorded_ones_for_their_revisions() -> None:
    revisions, means = LATENTS
    assert read_manifest("shard", "squares+small-latents").revisions == revisions
    kept = Arrays(paths.payload("shard", "squares+small-latents"), "train")
    found = {name: float(np.abs(kept.rows(name)).mean()) for name in means}
    assert found == pytest.approx(means, rel=TOLERANCE)


@pytest.mark.parametrize("node", TRAINED, ids=lambda node: "-".join(node))
def test_training_gives_the_recorded_losses_for_its_revisions(node: tuple[str, str]) -> None:
    revisions, losses = TRAINED[node]
    assert read_manifest(*node).revisions == revisions
    rows = json.loads((paths.state(*node) / "curve.json").read_text())
    key = f"{node[0]}/loss"
    found = {row["step"]: row["metrics"][key] for row in rows if key in row["metrics"]}
    assert {step: found[step] for step in losses} == pytest.approx(losses, rel=TOLERANCE)


def test_scores_are_the_recorded_ones_for_their_revisions() -> None:
    revisions, decibels = SCORED
    assert read_manifest("evaluate", "small-vae").revisions == revisions
    scores = json.loads((paths.payload("evaluate", "small-vae") / "scores.json").read_text())
    assert scores["tasks"]["named"]["psnr_db"] == pytest.approx(decibels, rel=TOLERANCE)
