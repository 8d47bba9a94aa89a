"""What the YAML files of a Stable Diffusion contradict each other in, refused before anything is made."""

from pathlib import Path
from typing import Any

import pytest

from components import paths
from components.agreement import require_agreement
from components.graph import plan
from components.outcomes import Refused
from components.recipes import Library
from tests.components.image import small_diffusion as small
from tests.components.speech.small_speech import write_yaml
from tests.conftest import ROOT

OTHER_VAE = {"other-latents": small.ENCODERS["small-latents"] | {"model": "other-vae"}}
LARGE = {"large-latents": small.ENCODERS["small-latents"] | {"size_px": 2 * small.PX}}
LONG = {"other-words": small.ENCODERS["other-words"] | {"max_tokens": 20}}
BERT = {"other-words": small.ENCODERS["other-words"] | {"layout": "bert"}}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small.write_diffusion_project()
    write_yaml(paths.RECIPES / "other-vae.yaml", small.autoencoder())


def test_recipes_that_agree_are_planned() -> None:
    for library, name in ((Library(), "small-stage2"), (Library(ROOT / "recipes"), "japanese-stable-diffusion")):
        require_agreement(library, name)
        assert [each.key for each in plan(library, name) if each.verb == "align"][-1] == f"align-{name}"


@pytest.mark.parametrize(
    ("encoders", "latents", "words"),
    [
        (OTHER_VAE, ["squares+other-latents"], r"latents of 'other-vae', but the U-Net works in those of 'small-vae'"),
        (
            LARGE,
            ["squares+small-latents", "squares+large-latents"],
            r"small-latents of 16 pixels a side and squares\+large-latents of 32 pixels a side, expected one size",
        ),
        (LONG, ["squares+small-latents"], r"captions of 20 tokens, but network\.text\.num_positions is 24"),
        (BERT, ["squares+small-latents"], r"no start and end.*layout: clip"),
        ({}, ["squares+small-pixels"], r"squares\+small-pixels, which holds no latents"),
    ],
)
def test_encoders_that_do_not_fit_are_refused_before_they_are_fitted(
    encoders: dict[str, Any], latents: list[str], words: str
) -> None:
    for name, section in encoders.items():
        write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", section)
    recipe = small.stage1()
    recipe["align"]["samples"] = recipe["align"]["samples"] | {"latents": latents}
    recipe["align"]["shards"] *= len(latents)
    write_yaml(paths.RECIPES / "wrong.yaml", recipe)
    with pytest.raises(Refused, match=words):
        plan(Library(), "wrong")
    assert not paths.state("fit", "small-latents").exists()
