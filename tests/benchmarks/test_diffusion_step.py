"""A step on cached latents, and diffusers' own: networks of the same weights give the same loss."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import diffusion_step
from benchmarks.peers import PEERS
from components.outcomes import Refused

SMALL = {
    "picture_px": 16,
    "vocab_size": 50,
    "vae": {"block_channels": [8, 8], "layers_per_block": 1, "norm_groups": 4},
    "unet": {
        "block_channels": [8, 16], "attention": [True, False], "layers_per_block": 1, "num_heads": 2, "norm_groups": 4
    },
    "text": {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 8},
}  # fmt: skip


@pytest.fixture
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sizes of the benchmark are small ones, and what a side sets in its process is put back."""
    configuration = tmp_path / "small.json"
    configuration.write_text(json.dumps(SMALL))
    monkeypatch.setattr(diffusion_step, "CONFIGURATION", configuration)
    kept = torch.get_num_threads()
    yield
    torch.set_num_threads(kept)


@pytest.mark.usefixtures("_small")
def test_a_round_of_small_networks_has_the_same_losses_on_both_sides(tmp_path: Path) -> None:
    """In this process: that of the benchmark has one for each side and stage, which take seconds to start."""
    sides = {"ours": diffusion_step.main, "theirs": runpy.run_path(str(PEERS / "diffusers_step.py"))["main"]}
    sizes = diffusion_step.write_work(tmp_path, 2, 1)
    work, outcome = tmp_path / "work.json", tmp_path / "outcome.json"
    found = {}
    for stage, trains in diffusion_step.STAGES.items():
        shared = {"learning_rate": diffusion_step.LEARNING_RATE, "clip_norm": diffusion_step.CLIP_NORM}
        work.write_text(json.dumps({"trains": trains, **shared}))
        for side, take_steps in sides.items():
            take_steps(work, outcome)
            found[f"{stage}, {side}"] = [json.loads(outcome.read_text())]
        ours, theirs = (found[f"{stage}, {side}"][0] for side in sides)
        diffusion_step.check_same_losses(stage, ours, theirs)
        assert len(ours["losses"]) == 2
    first, second = (found[f"{stage}, ours"][0]["losses"] for stage in diffusion_step.STAGES)
    assert first[0] == second[0]
    assert first[1] != second[1], "the U-Net learns in stage 2 alone"
    rows = diffusion_step._rows(found)
    assert [(row.figure, row.at_least) for row in rows] == [
        ("stage 1: steps per CPU second", 1.35),
        ("stage 2: steps per CPU second", 1.15),
    ]
    assert "pictures of 16 x 16 pixels, batch 2, fp32" in diffusion_step._notes(found, sizes, 2, 1)[0]


@pytest.mark.usefixtures("_small")
def test_the_scale_of_latents_is_none_that_could_be_left_out(tmp_path: Path) -> None:
    sizes = diffusion_step.write_work(tmp_path, 1, 1)
    vae = json.loads((tmp_path / "weights" / "vae" / "config.json").read_text())
    assert vae["scaling_factor"] == diffusion_step.SCALING_FACTOR
    assert set(sizes) == {"U-Net", "text encoder", "autoencoder"}


def test_sides_with_other_losses_are_refused() -> None:
    ours, theirs = {"losses": [1.0, 0.9]}, {"losses": [1.0, 0.90002]}
    diffusion_step.check_same_losses("stage 1", ours, {"losses": [1.0, 0.900009]})
    with pytest.raises(Refused, match=r"The loss of step 1 of stage 1 is 0.9000000 of ours and 0.9000200 of diffusers"):
        diffusion_step.check_same_losses("stage 1", ours, theirs)
    with pytest.raises(Refused, match="is nan of ours"):
        diffusion_step.check_same_losses("stage 1", {"losses": [float("nan")]}, {"losses": [1.0]})
