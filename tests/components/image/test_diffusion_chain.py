"""An autoencoder, its latents, a base, and the two stages that give it other captions, by the verbs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoPipelineForImage2Image, AutoPipelineForText2Image, DiffusionPipeline
from safetensors.torch import load_file

from components import paths
from components.align import align
from components.batch_view import batch_texts
from components.evaluate import evaluate
from components.fit import fit
from components.job import plan_of
from components.manifest import read_manifest
from components.mixtures import weighted_folders
from components.modalities import modality
from components.modalities.image.cutting import pixels_of
from components.modalities.image.shards import Arrays
from components.outcomes import Refused
from components.package import package
from components.pretrain import pretrain
from components.recipes import Library
from components.shard import shard
from models.stable_diffusion import convert
from tests.components.image import small_diffusion as small
from tests.components.image.small_squares import small_records
from tests.components.sharded import run_chain, stages_in
from tests.components.speech.small_speech import write_yaml

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("diffusion")
    with stages_in(root):
        small.write_diffusion_project()
        stages = {"fit": fit, "shard": shard, "pretrain": pretrain, "align": align}
        done = run_chain(["small-stage2"], stages)
    return SimpleNamespace(root=root, done=done)


@pytest.fixture(autouse=True)
def _inside(chain, monkeypatch):
    monkeypatch.chdir(chain.root)
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(chain.root / "checkpoints"))


def weights_of(name):
    return paths.payload("align", name)


def weights(name):
    return paths.payload("align" if "stage" in name else "pretrain", name)


def test_the_graph_goes_from_pictures_to_latents_to_a_base_to_both_stages(chain):
    wanted = ["pretrain-small-vae", "fit-small-latents", "shard-squares+small-latents", "pretrain-small-base"]
    wanted += ["align-small-stage1", "align-small-stage2"]
    assert [key for key in chain.done if key in wanted] == wanted


def test_latents_are_what_diffusers_makes_of_the_pictures():
    vae = AutoencoderKL.from_pretrained(weights("small-vae")).eval()
    records = [record for record in small_records() if record["split"] == "train"]
    pixels = torch.from_numpy(pixels_of([each["picture"] for each in records], small.PX, "bilinear"))
    with torch.no_grad():
        found = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist
    kept = Arrays(paths.payload("shard", "squares+small-latents"), "train")
    for name, wanted in (("latent", found.mean), ("deviation", found.std)):
        assert np.allclose(kept.rows(name), wanted.flatten(1), atol=1e-5)


def test_the_scale_of_latents_is_one_over_their_deviation():
    vae = AutoencoderKL.from_pretrained(weights("small-vae")).eval()
    kept = Arrays(paths.payload("shard", "squares+small-latents"), "train")
    latents = torch.from_numpy(kept.rows("latent").copy())
    drawn = latents + torch.from_numpy(kept.rows("deviation").copy()) * torch.randn(latents.shape)
    assert float(drawn.std()) * vae.config.scaling_factor == pytest.approx(1, rel=0.15)


def test_captions_of_shards_are_what_the_released_tokenizer_gives():
    from transformers import AutoTokenizer

    encoder = modality("image").open_encoder(paths.payload("fit", "words"))
    theirs = AutoTokenizer.from_pretrained(paths.payload("fit", "words"))
    texts = ["赤い四角", "白い背景の左上に青い四角がある" * 9, ""]
    ids = theirs(texts, padding="max_length", max_length=24, truncation=True)["input_ids"]
    assert encoder.padded(encoder.ids_of(texts)).tolist() == ids
    assert ids[0][0] == 1
    assert ids[1][-1] == 2
    assert ids[2][:3] == [1, 2, 3]
    assert theirs.model_max_length == 24


@pytest.mark.parametrize("name", ["small-base", "small-stage1", "small-stage2"])
def test_the_autoencoder_is_the_same_in_every_stage_to_the_byte(name):
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (weights(name) / "vae" / file).read_bytes() == (weights("small-vae") / file).read_bytes()


def test_stage_1_trains_a_new_text_encoder_and_leaves_the_rest_as_it_was():
    before, after = weights("small-base"), weights("small-stage1")
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (before / file).read_bytes() == (after / file).read_bytes()
    ours, theirs = (load_file(each / "text_encoder" / "model.safetensors") for each in (after, before))
    assert all(key.startswith("text_model.") for key in {*ours, *theirs})
    shapes = {key for key, value in ours.items() if value.shape != theirs[key].shape}
    assert len(shapes) == 1
    assert "token_embedding" in shapes.pop()


def test_stage_2_moves_both():
    before, after = weights("small-stage1"), weights("small-stage2")
    for file in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        old, new = load_file(before / file), load_file(after / file)
        assert all(not torch.equal(old[key], new[key]) for key in old if not key.endswith("position_ids")), file


def test_pictures_of_the_fixed_prompts_are_kept_by_step():
    names = sorted(path.name for path in paths.journal("align", "small-stage2").glob("samples-*.svg"))
    assert names == ["samples-0000000.svg", "samples-0000002.svg", "samples-0000004.svg"]
    text = (paths.journal("align", "small-stage2") / names[0]).read_text()
    assert "青い四角" in text
    assert "data:image/png;base64," in text


def test_a_batch_is_shown_by_its_captions():
    assert all("tokens: " in line for line in batch_texts("small-stage2", 1))
    assert batch_texts("small-vae", 1) == ["a picture of 16 x 16 pixels"] * 8


def test_a_curve_is_kept():
    rows = json.loads((paths.state("align", "small-stage1") / "curve.json").read_text())
    metrics = [row["metrics"] for row in rows]
    assert any("align/unweighted_loss" in each for each in metrics)
    assert read_manifest("align", "small-stage1").counts["pictures"] == 32
    assert convert.load(weights("small-stage1")).pieces


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "captions"}, "start and an end"),
        (
            {"network": small.DIFFUSION | {"unet": small.UNET | {"latent_size": 16}}},
            "another autoencoder, or of pictures",
        ),
        ({"network": small.DIFFUSION | {"text": small.TEXT | {"num_positions": 20}}}, "captions of 24 tokens"),
        ({"network": small.DIFFUSION | {"unet": small.UNET | {"layers_per_block": 2}}}, "layers_per_block 1"),
        ({"network": small.DIFFUSION | {"scheduler": {"beta_end": 0.5}}}, "scheduler of the weights.*beta_end 0.012"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(change, words):
    recipe = small.stage1() | change
    if "encoder" in change:
        recipe["align"]["shards"] = [{"shards": f"squares+{change['encoder']}"}]
        fit("captions")
        shard("squares+captions")
    write_yaml(paths.RECIPES / "wrong.yaml", recipe)
    with pytest.raises(Refused, match=words):
        align("wrong")


def test_a_text_encoder_of_another_tokenizer_is_not_inherited():
    write_yaml(paths.RECIPES / "wrong.yaml", small.stage2("small-base"))
    with pytest.raises(Refused, match="vocab_size 320"):
        align("wrong")


def test_latents_of_another_autoencoder_are_refused():
    recipe = small.autoencoder()
    recipe["pretrain"]["seed"] = 1
    write_yaml(paths.RECIPES / "other-vae.yaml", recipe)
    pretrain("other-vae")
    write_yaml(paths.RECIPES / "wrong.yaml", small.base() | {"network": small.DIFFUSION | {"vae": "other-vae"}})
    with pytest.raises(Refused, match="not those of other-vae"):
        pretrain("wrong")

    # Nor are they by a base whose own autoencoder they do not come from.
    write_yaml(
        paths.RECIPES / "encoders" / "other-latents.yaml", small.ENCODERS["small-latents"] | {"model": "other-vae"}
    )
    fit("other-latents")
    shard("squares+other-latents")
    recipe = small.stage1() | {"network": small.DIFFUSION | {"vae": "other-vae"}}
    recipe["align"]["samples"] = recipe["align"]["samples"] | {"latents": ["squares+other-latents"]}
    write_yaml(paths.RECIPES / "wrong.yaml", recipe)
    with pytest.raises(Refused, match="latents of the autoencoder beside it, which is not that of 'other-vae'"):
        align("wrong")


def test_latents_of_pictures_of_two_sizes_are_refused():
    section = small.ENCODERS["small-latents"] | {"size_px": 2 * small.PX}
    write_yaml(paths.RECIPES / "encoders" / "large-latents.yaml", section)
    fit("large-latents")
    shard("squares+large-latents")
    recipe = small.stage2()
    recipe["align"]["shards"] *= 2
    latents = ["squares+small-latents", "squares+large-latents"]
    recipe["align"]["samples"] = recipe["align"]["samples"] | {"latents": latents}
    write_yaml(paths.RECIPES / "wrong.yaml", recipe)
    with pytest.raises(
        Refused, match=r"'squares\+large-latents' and 'squares\+small-latents' were made with different"
    ):
        align("wrong")


def test_latents_that_are_no_numbers_end_a_training_at_their_step_and_what_was_good_is_kept(monkeypatch):
    monkeypatch.setenv("HIRAKU_CHECKPOINT_EVERY_SECONDS", "0")
    recipe = small.stage2()
    recipe["align"]["guard"] = {"max_skipped_batches": 0}
    write_yaml(paths.RECIPES / "broken.yaml", recipe)
    section, own = Library().read("recipe", "broken").align, modality("image")
    samples = own.open_samples(weighted_folders(section, own), "train", section.samples)
    record = int(plan_of(samples, section).indices(2)[1][0])
    file = paths.payload("shard", "squares+small-latents") / "train" / "latent.bin"
    before = file.read_bytes()
    values = np.frombuffer(before, "<f4").reshape(len(samples), -1).copy()
    values[record] = np.nan
    file.write_bytes(values.tobytes())
    try:
        with pytest.raises(Refused, match=r"step 3 \(batch number 2\) has loss nan.*The checkpoint of step 2 is kept"):
            align("broken")
    finally:
        file.write_bytes(before)
    align("broken")  # goes on from that checkpoint
    for part, name in convert.WEIGHTS.items():
        ours, theirs = (weights_of(each) / part / name for each in ("broken", "small-stage2"))
        assert ours.read_bytes() == theirs.read_bytes(), part


def test_activations_that_are_computed_again_change_no_weight():
    write_yaml(paths.RECIPES / "again.yaml", small.stage2(activation_checkpointing=True))
    align("again")
    for part, name in convert.WEIGHTS.items():
        ours, theirs = (load_file(weights_of(each) / part / name) for each in ("again", "small-stage2"))
        assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs), part


@pytest.fixture(scope="module")
def released(chain):
    """The last stage, scored and packaged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(chain.root)
        patch.setenv("HIRAKU_ACCELERATOR", "cpu")
        evaluate("small-stage2")
        package("small-stage2")
    return chain.root / paths.layout("small-stage2", "diffusers")


def test_an_autoencoder_is_scored_by_what_it_gives_back():
    evaluate("small-vae")
    scores = json.loads((paths.payload("evaluate", "small-vae") / "scores.json").read_text())["tasks"]["named"]
    assert scores["num_pictures"] == 6
    assert 0 < scores["psnr_db"] < 40
    package("small-vae")
    AutoencoderKL.from_pretrained(paths.layout("small-vae", "vae"))


def test_a_release_loads_with_nothing_of_ours(released):
    kinds = DiffusionPipeline, AutoPipelineForText2Image
    for kind in kinds:
        pipeline = kind.from_pretrained(released)
        assert type(pipeline).__name__ == "StableDiffusionPipeline"
        assert pipeline.safety_checker is None
        assert pipeline.tokenizer.model_max_length == 24
    picture = pipeline("青い四角", num_inference_steps=2).images[0]
    assert picture.size == (small.PX, small.PX)
    changing = AutoPipelineForImage2Image.from_pretrained(released)
    assert changing("赤い四角", picture, strength=0.5, num_inference_steps=4).images[0].size == picture.size
    assert not list(released.rglob("*.bin"))
    assert all(key.startswith("text_model.") for key in load_file(released / "text_encoder" / "model.safetensors"))
    card = (released / "README.md").read_text()
    assert "safety checker" in card
    assert "Loss, the mean squared error of noise of variance 1: training went from" in card
    assert "| Objective | noise: " in card


def test_the_program_on_the_card_runs_where_nothing_of_ours_can_be_imported(released, tmp_path):
    (tmp_path / "small-stage2").symlink_to(released)
    (program,) = re.findall(r"```python\n(.*?)```", (released / "README.md").read_text(), re.DOTALL)
    assert "AutoPipelineForText2Image" in program
    (tmp_path / "example.py").write_text(small.ALONE + program)
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-I", "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"({small.PX}, {small.PX}) ({small.PX}, {small.PX})" in done.stdout
    assert (tmp_path / "picture.png").is_file()


def test_a_picture_hangs_on_its_prompt_and_seed_to_the_last_level(released, monkeypatch):
    from models.stable_diffusion import sampling
    from models.stable_diffusion.sampling import open_pipeline, pictures

    pipeline = open_pipeline(released)
    prompts, seeds = ["青い四角", "赤い四角", "緑い四角"], [3, 4, 5]
    together = pictures(pipeline, prompts, seeds, 3, 5.0)
    assert together.dtype == np.uint8
    assert together.shape == (3, small.PX, small.PX, 3)
    for number in (2, 0):
        alone = pictures(pipeline, [prompts[number]], [seeds[number]], 3, 5.0)
        assert np.abs(alone[0].astype(int) - together[number]).max() <= 1
    assert np.array_equal(pictures(pipeline, prompts, seeds, 3, 5.0), together)
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "NUM_AT_ONCE", 2)
        in_two_passes = pictures(pipeline, prompts, seeds, 3, 5.0)
    assert in_two_passes.shape == together.shape
    assert np.abs(in_two_passes.astype(int) - together).max() <= 1
    assert not np.array_equal(pictures(pipeline, prompts[:1], [9], 3, 5.0)[0], together[0])


def test_a_package_takes_in_what_another_made_and_starts_from_it(released, tmp_path):
    released = shutil.copytree(released, tmp_path / "released")
    foreign = small.foreign(str(released))
    write_yaml(paths.RECIPES / "given.yaml", foreign)
    package("given")
    write_yaml(paths.RECIPES / "given.yaml", foreign | {"evaluate": {"tasks": ["named"]}})
    evaluate("given")
    assert json.loads((paths.payload("evaluate", "given") / "scores.json").read_text())["tasks"]["named"]["psnr_db"] > 0
    recipe = small.stage1() | {"starts_from": "given"}
    write_yaml(paths.RECIPES / "after.yaml", recipe)
    align("after")
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (weights_of("after") / file).read_bytes() == (released / file).read_bytes()
    (released / "lineage.json").unlink()  # which would say that a file has changed
    shutil.rmtree(released / "unet")
    with pytest.raises(Refused, match=r"lacks unet/config\.json"):
        package("given")


def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(monkeypatch):
    from components import training_stage
    from components.outcomes import Stopped

    write_yaml(paths.RECIPES / "stopped.yaml", small.stage2())
    original, calls = training_stage._preview, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # at the validation of step 2
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(training_stage, "_preview", stopping)
    with pytest.raises(Stopped, match="after step 2"):
        align("stopped")
    monkeypatch.setattr(training_stage, "_preview", original)
    align("stopped")
    for part, file in convert.WEIGHTS.items():
        ours, theirs = (weights_of(name) / part / file for name in ("stopped", "small-stage2"))
        assert ours.read_bytes() == theirs.read_bytes(), part
