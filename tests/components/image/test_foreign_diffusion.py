"""Somebody else's Stable Diffusion: what is taken in, what depends on it, and what is refused, by the verbs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from components import paths
from components.align import align
from components.evaluate import evaluate
from components.fit import fit
from components.lineage import lineage_of
from components.manifest import read_manifest
from components.outcomes import Refused
from components.package import package
from components.pretrain import pretrain
from components.shard import shard
from models.stable_diffusion import network as networks
from models.stable_diffusion.schema import LatentDiffusion, Vae
from tests.components.image import small_diffusion as small
from tests.components.sharded import run_chain, stages_in
from tests.components.speech.small_speech import write_yaml

pytestmark = pytest.mark.slow
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("foreign")
    with stages_in(root):
        small.write_diffusion_project()
        run_chain(["small-base"], {"fit": fit, "shard": shard, "pretrain": pretrain})
        for name in ("other-spm", "other-words"):
            fit(name)
        shard("squares+other-words")
    return SimpleNamespace(root=root)


@pytest.fixture(autouse=True)
def _inside(chain, monkeypatch):
    monkeypatch.chdir(chain.root)
    monkeypatch.setenv("HIRAKU_ACCELERATOR", "cpu")
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(chain.root / "checkpoints"))


def weights(name):
    return paths.payload("align" if "stage" in name else "pretrain", name)


def brought(name):
    """The base in a folder, as somebody else might have it."""
    shutil.copytree(weights("small-base"), name)
    shutil.copytree(paths.payload("fit", "words"), Path(name) / "tokenizer")
    return Path(name)


def started(name, start):
    """A recipe of stage 1 from a foreign model, latents of its own autoencoder under an encoder of that name."""
    encoder = f"{name}-latents"
    write_yaml(paths.RECIPES / "encoders" / f"{encoder}.yaml", small.ENCODERS["small-latents"] | {"model": start})
    recipe = small.stage1() | {"starts_from": start, "network": small.DIFFUSION | {"vae": start}}
    recipe["align"]["samples"] = recipe["align"]["samples"] | {"latents": [f"squares+{encoder}"]}
    write_yaml(paths.RECIPES / f"{name}.yaml", recipe)
    return encoder


# ---- the tokenizer of CLIP -------------------------------------------------------------------------------------------


def clip_tokenizer(folder):
    """A CLIPTokenizer with three merges; folder receives the files of transformers 4."""
    folder.mkdir()
    letters, merges = sorted(ByteLevel.alphabet()), ["t h", "th e</w>", "r e", "re d</w>"]
    pieces = [*letters, *(f"{each}</w>" for each in letters), *("".join(each.split()) for each in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    tokens = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24} | tokens
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def v1_4(folder, is_of_version_4):
    """A miniature of Stable Diffusion v1-4 as diffusers saves it here, or with the files that stand on the Hub."""
    tokenizer = clip_tokenizer(Path(f"{folder}-tokenizer"))
    facts = {"vocab_size": len(tokenizer), "bos": 516, "eos": 517, "pad": 517}
    torch.manual_seed(0)
    made = networks.build(LatentDiffusion(**small.DIFFUSION), facts)
    StableDiffusionPipeline(
        vae=networks.build(Vae(**small.VAE), {}), text_encoder=made.text_encoder, unet=made.unet, tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_config(made.scheduler), safety_checker=None, feature_extractor=None,
    ).save_pretrained(folder)  # fmt: skip
    if is_of_version_4:
        shutil.rmtree(Path(folder) / "tokenizer")
        shutil.copytree(f"{folder}-tokenizer", Path(folder) / "tokenizer")
    return tokenizer


@pytest.mark.parametrize("version", [4, 5])
def test_a_base_with_the_tokenizer_of_clip_is_taken_in_scored_and_started_from_however_it_was_saved(version):
    name = f"v1-4-of-{version}"
    tokenizer = v1_4(f"{name}-folder", version == 4)
    kept = {path.name for path in Path(f"{name}-folder/tokenizer").iterdir()}
    assert ("tokenizer.json" in kept, "vocab.json" in kept) == (version == 5, version == 4)
    recipe = small.foreign(f"{name}-folder") | {"layout": "stable-diffusion", "evaluate": {"tasks": ["named"]}}
    write_yaml(paths.RECIPES / f"{name}.yaml", recipe)
    package(name)
    place = paths.layout(name, "stable-diffusion")
    found = DiffusionPipeline.from_pretrained(place, safety_checker=None).tokenizer
    assert type(found).__name__ == "CLIPTokenizer"
    for text in ("the red 猫", "Café, RED  x 🙂" * 9, ""):
        how = {"padding": "max_length", "max_length": 24, "truncation": True}
        assert found(text, **how)["input_ids"] == tokenizer(text, **how)["input_ids"]
    evaluate(name)
    assert json.loads((paths.payload("evaluate", name) / "scores.json").read_text())["tasks"]["named"]["psnr_db"] > 0
    encoder = started(f"after-{name}-stage1", name)
    fit(encoder)
    shard(f"squares+{encoder}")
    align(f"after-{name}-stage1")
    assert (weights(f"after-{name}-stage1") / UNET_WEIGHTS).read_bytes() == (place / UNET_WEIGHTS).read_bytes()


def test_a_tokenizer_that_is_none_of_clips_is_refused():
    recipe = small.foreign(str(brought("of-ours"))) | {"layout": "stable-diffusion"}
    write_yaml(paths.RECIPES / "of-ours.yaml", recipe)
    with pytest.raises(Refused, match=r"with words that end in None, expected a CLIPTokenizer.*key 'layout'"):
        package("of-ours")
    shutil.rmtree("of-ours/tokenizer")
    Path("of-ours/tokenizer").mkdir()
    with pytest.raises(Refused, match=r"holds no CLIPTokenizer, expected tokenizer\.json and .*, or merges\.txt"):
        package("of-ours")


# ---- what depends on it ----------------------------------------------------------------------------------------------


def test_another_word_on_a_foreign_model_stops_nothing_that_is_made_with_it_and_another_weight_does():
    source = brought("reworded-folder")
    words = small.foreign(str(source))
    write_yaml(paths.RECIPES / "reworded.yaml", words | {"description": "Before."})
    package("reworded")
    before = read_manifest("package", "reworded").payload_hash
    encoder = started("reworded-stage1", "reworded")
    fit(encoder)

    write_yaml(paths.RECIPES / "reworded.yaml", words | {"description": "After."})
    package("reworded")
    assert read_manifest("package", "reworded").payload_hash != before
    shard(f"squares+{encoder}")
    align("reworded-stage1")
    (source / "README.md").write_text("A card, which is no weight.\n")
    write_yaml(paths.RECIPES / "reworded.yaml", words | {"description": "Later."})
    package("reworded")
    state = paths.layout("reworded", "diffusers").as_posix()
    nodes = [("fit", encoder), ("shard", f"squares+{encoder}"), ("align", "reworded-stage1")]
    assert len({read_manifest(*node).parents[state] for node in nodes}) == 1
    lineage_of("align", "reworded-stage1")  # refuses a parent that is another one now
    evaluate("reworded-stage1")

    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors = tensors | {"decoder.conv_in.bias": tensors["decoder.conv_in.bias"] + 1}
    save_file(tensors, file, {"format": "pt"})
    package("reworded")
    with pytest.raises(Refused, match=r"was made from artifacts/packaged/reworded/diffusers with the content"):
        lineage_of("align", "reworded-stage1")
    with pytest.raises(Refused, match="are not those of reworded as they are now"):
        align("reworded-stage1")


def test_the_text_of_a_licence_is_asked_of_the_base_and_goes_into_every_package():
    folder, licence = brought("brought"), "creativeml-openrail-m"
    write_yaml(paths.RECIPES / "restricted.yaml", small.foreign("brought", licence))
    with pytest.raises(Refused, match=r"whose text must go to everybody.*brought has no LICENSE\. Save the text"):
        package("restricted")
    (folder / "License.txt").write_text("Use-based restrictions.")
    package("restricted")
    recipe = small.stage1() | {"starts_from": "restricted", "licence": licence}
    write_yaml(paths.RECIPES / "restricted-stage1.yaml", recipe)
    align("restricted-stage1")
    evaluate("restricted-stage1")
    package("restricted-stage1")
    place = paths.layout("restricted-stage1", "diffusers")
    assert (place / "LICENSE").read_text() == "Use-based restrictions."
    assert f"under {licence}; [its text](LICENSE)" in (place / "README.md").read_text()


def test_a_tokenizer_with_more_pieces_than_the_text_encoder_has_rows_is_refused():
    from transformers import AutoTokenizer

    folder = brought("longer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens([f"語{number}" for number in range(40)])
    tokenizer.save_pretrained(folder / "tokenizer")
    write_yaml(paths.RECIPES / "longer.yaml", small.foreign("longer"))
    with pytest.raises(Refused, match="tokenizer of 360 pieces, but the table of its text encoder has 320 rows"):
        package("longer")
