"""The diffusion family against diffusers: sizes, losses by hand, what is frozen, folders."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel

from models.objective import Mismatch, Setting
from models.stable_diffusion import convert, features
from models.stable_diffusion.network import Diffusion, build, check, require_unmoved
from models.stable_diffusion.objectives import alphas_of, empty_caption, objective
from models.stable_diffusion.schema import AlignedNoise, LatentDiffusion, Noise, Reconstruction, Vae
from models.stable_diffusion.sizes import text_size, unet_size, vae_size

FACTS: dict[str, Any] = {
    "vocab_size": 50, "bos": 1, "eos": 2, "pad": 3, "max_tokens": 12, "layout": "clip", "pieces": "a"
}  # fmt: skip
VAE = Vae(kind="vae", size_px=16, block_channels=[8, 16], layers_per_block=1, norm_groups=4)
SECTION = LatentDiffusion(
    kind="latent-diffusion",
    vae="v",
    unet={"block_channels": [16, 32], "attention": [True, False], "layers_per_block": 1, "num_heads": 2,
          "norm_groups": 4, "latent_size": 8},
    text={"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 12},
)  # fmt: skip


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    vae: Any = build(VAE, {})
    made: Any = build(SECTION, FACTS)
    vae.register_to_config(scaling_factor=0.5)
    return Diffusion(vae, made.unet, made.text_encoder, made.scheduler)


def batch(rows: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"latents": torch.randn(rows, 4, 8, 8), "ids": torch.randint(4, 50, (rows, 12))}


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_the_full_recipe_has_the_parameters_of_the_paper() -> None:
    full = LatentDiffusion(kind="latent-diffusion", vae="v")
    own = Vae(kind="vae", size_px=512, block_channels=[128, 256, 512, 512])
    with torch.device("meta"):
        made: Any = build(full, FACTS | {"vocab_size": 32_000})
        vae: Any = build(own, {})
    counts = [sum(each.numel() for each in part.parameters()) for part in (made.unet, made.text_encoder, vae)]
    assert counts == [859_520_964, 109_691_136, 83_653_863]
    assert sum(counts) == 1_052_865_963
    assert counts == [unet_size(full).parameters, text_size(full, 32_000).parameters, vae_size(own).parameters]


def test_operations_are_those_that_torch_counts(network: Any) -> None:
    # Of the fused attention of a CPU torch counts nothing.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted, torch.no_grad():
        network.say(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 12, 16))
    assert unet_size(SECTION).flops == pytest.approx(counted.get_total_flops(), rel=0.01)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted, torch.no_grad():
        network.vae.decode(network.vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean)
    assert vae_size(VAE).flops == pytest.approx(counted.get_total_flops(), rel=0.01)


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_diffusers_by_hand(network: Any, prediction: str, gamma: float | None) -> None:
    network.scheduler["prediction_type"] = prediction
    own: Any = objective(Noise(kind="noise", min_snr_gamma=gamma, caption_dropout=0), network.train(), Setting(FACTS))
    torch.manual_seed(5)
    given = own.prepared(batch())
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    )
    latents, noise, steps = given["latents"] * 0.5, given["noise"], given["timesteps"]
    said = network.unet(
        scheduler.add_noise(latents, noise, steps), steps, network.text_encoder(input_ids=given["ids"])[0]
    ).sample
    wanted = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, steps)
    errors = torch.nn.functional.mse_loss(said, wanted, reduction="none").mean(dim=[1, 2, 3])
    if gamma:
        shares = scheduler.alphas_cumprod[steps].double()
        ratio = shares / (1 - shares)
        least = torch.minimum(ratio, torch.full_like(ratio, gamma))
        errors = errors * (least / ratio if prediction == "epsilon" else least / (ratio + 1))
    assert float(own(given).total.detach()) == pytest.approx(float(errors.detach().mean()), abs=1e-6)


def test_captions_are_left_out_as_often_as_asked_and_only_in_training(network: Any) -> None:
    own: Any = objective(Noise(kind="noise", caption_dropout=0.25), network.train(), Setting(FACTS))
    given = batch(4000)
    is_empty = (own.prepared(given)["ids"] == empty_caption(FACTS)).all(1)
    assert 0.22 < float(is_empty.float().mean()) < 0.28
    assert empty_caption(FACTS).tolist() == [1, 2, *[3] * 10]
    network.eval()
    assert torch.equal(own.prepared(given)["ids"], given["ids"])


def test_held_out_pictures_get_the_same_noise_every_time(network: Any) -> None:
    own: Any = objective(Noise(kind="noise"), network.eval(), Setting(FACTS))
    torch.manual_seed(1)
    first = own.prepared(batch())
    torch.manual_seed(2)
    assert torch.equal(own.prepared(batch())["noise"], first["noise"])


def test_latents_are_drawn_from_their_deviations(network: Any) -> None:
    own: Any = objective(Noise(kind="noise", caption_dropout=0), network.train(), Setting(FACTS))
    given = batch(400) | {"deviations": torch.full((400, 4, 8, 8), 0.5)}
    moved = own.prepared(given)["latents"] - given["latents"]
    assert float(moved.std()) == pytest.approx(0.5, rel=0.05)


def test_signal_and_noise_are_those_of_the_schedule(network: Any) -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(alphas_of(network.scheduler).double(), (1 - betas).cumprod(0), atol=1e-5)


def test_a_reconstruction_is_measured_as_by_hand() -> None:
    torch.manual_seed(0)
    vae: Any = build(VAE, {})
    own: Any = objective(Reconstruction(kind="vae", kl_weight=0.01), vae.eval(), Setting({}))
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    found = own(own.prepared({"pixels": pixels}))
    latents = vae.encode(pixels).latent_dist
    divergence = 0.5 * (latents.mean**2 + latents.var - 1 - latents.logvar).sum() / pixels.numel()
    wanted = (vae.decode(latents.mean).sample - pixels).abs().mean() + 0.01 * divergence
    assert float(found.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


# ---- what is frozen --------------------------------------------------------------------------------------------------


def test_what_is_frozen_gets_no_gradient_and_does_not_move(network: Any) -> None:
    network.freeze("unet")
    network.freeze("vae")
    own: Any = objective(AlignedNoise(kind="noise", trains=["text_encoder"]), network.train(), Setting(FACTS))
    own(own.prepared(batch())).total.backward()
    assert all(each.grad is None for part in (network.unet, network.vae) for each in part.parameters())
    assert all(each.grad is not None for each in network.text_encoder.parameters())
    own.begin_step(1)
    require_unmoved(network)
    with torch.no_grad():
        network.unet.conv_in.weight[0, 0, 0, 0] += 1e-7
    with pytest.raises(AssertionError, match="'unet' have moved"):
        require_unmoved(network)
    network.unet.conv_in.weight.grad = torch.zeros(16, 4, 3, 3)
    with pytest.raises(AssertionError, match="'unet' has a gradient"):
        own.begin_step(2)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_what_diffusers_and_transformers_load(network: Any, tmp_path: Any) -> None:
    convert.save(network, tmp_path / "a")
    again = convert.load(tmp_path / "a")
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        theirs, ours = kind.from_pretrained(tmp_path / "a" / part).state_dict(), getattr(network, part).state_dict()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs), part
        own = getattr(again, part).state_dict()
        assert all(torch.equal(own[key], ours[key]) for key in ours), part
    assert again.scaling_factor == 0.5


def test_a_text_encoder_has_the_names_of_diffusers_layout_wherever_its_weights_come_from(
    network: Any, tmp_path: Any
) -> None:
    """What CompVis/stable-diffusion-v1-4 has, and all that transformers 4 reads."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file, save_file

    ours = network.text_encoder.state_dict()
    for folder in ("random", "loaded"):
        convert.save(network, tmp_path / folder)
        file = tmp_path / folder / "text_encoder" / "model.safetensors"
        names = set(load_file(file))
        assert all(name.startswith(("text_model.embeddings.", "text_model.encoder.", "text_model.final_layer_norm."))
                   for name in names)  # fmt: skip
        assert len(names) == len(ours)
        network = convert.load(tmp_path / folder)
    # Transformers itself puts these names into the file of what it has read from one with them.
    CLIPTextModel.from_pretrained(file.parent).save_pretrained(tmp_path / "theirs")
    assert set(load_file(tmp_path / "theirs" / "model.safetensors")) == names

    # Folders without the prefix, which versions before wrote, are read too.
    bare = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    for tensors in (load_file(file), bare):
        save_file(tensors, file, {"format": "pt"})
        pipeline = StableDiffusionPipeline.from_pretrained(
            tmp_path / folder, tokenizer=None, safety_checker=None, feature_extractor=None
        )
        for found in (pipeline.text_encoder, convert.part_of_folder(file.parent, "text_encoder")):
            own = found.state_dict()
            assert all(torch.equal(own[key], ours[key]) for key in ours)


def test_parts_that_do_not_learn_keep_their_bytes(network: Any, tmp_path: Any) -> None:
    convert.save(network, tmp_path / "a")
    file = tmp_path / "a" / "unet" / "config.json"
    file.write_text(file.read_text() + "\n")
    again: Any = convert.load(tmp_path / "a")
    again.sources["unet"] = tmp_path / "a" / "unet"
    convert.save(again, tmp_path / "b")
    assert (tmp_path / "b" / "unet" / "config.json").read_bytes() == file.read_bytes()


def test_a_base_without_a_unet_is_refused_with_what_it_lacks(network: Any, tmp_path: Any) -> None:
    convert.save(network, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "unet")
    for act in (
        lambda: convert.load(tmp_path / "a"),
        lambda: convert.take_in(tmp_path / "a", "diffusers", tmp_path / "b"),
    ):
        with pytest.raises(Mismatch, match=r"lacks unet/config\.json, unet/diffusion_pytorch_model\.safetensors"):
            act()


def test_pickles_are_named(network: Any, tmp_path: Any) -> None:
    convert.save(network, tmp_path / "a")
    weights = tmp_path / "a" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(Mismatch, match=r"diffusion_pytorch_model\.bin but no .*a pickle can run code"):
        convert.part_of_folder(tmp_path / "a" / "vae", "vae")


def test_a_tensor_that_is_missing_is_not_left_to_chance(network: Any, tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    convert.save(network, tmp_path / "a")
    file = tmp_path / "a" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(Mismatch, match=r"conv_in\.bias"):
        convert.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"max_tokens": 20}, "captions of 20 tokens, but network.text.num_positions is 12"),
        ({"latent_shape": [4, 16, 16]}, "4 x 16 x 16 numbers a picture"),
    ],
)
def test_what_does_not_fit_is_refused(facts: dict[str, Any], words: str) -> None:
    check(SECTION, FACTS, None)
    with pytest.raises(Mismatch, match=words):
        check(SECTION, FACTS | facts, None)


def test_pictures_of_another_size_than_the_autoencoders_are_refused() -> None:
    with pytest.raises(Mismatch, match=r"32 pixels a side, but network\.size_px is 16"):
        check(VAE, {"size_px": 32}, None)
    with pytest.raises(ValueError, match="not a multiple of 2"):
        features.latent_shape(build(VAE, {}), 17)


def test_pixels_go_through_as_numbers_between_minus_one_and_one(network: Any) -> None:
    found = features.restored(network.eval(), torch.rand(2, 3, 16, 16) * 2 - 1)
    assert found.shape == (2, 3, 16, 16)
    assert np.abs(found.numpy()).max() <= 1
