"""Folders of weights and releases, as transformers' own Auto classes and rinna's client read them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTModel,
)

from components.loadback import difference, load_back
from models.clip import convert, release
from models.clip.network import DualEncoder, begin
from models.clip.poolers import factor_of
from models.clip.schema import LAYOUTS, Clip, Cloob, Dual, ImageTower
from models.clip.timm import renamed
from models.objective import Mismatch, Setting
from models.pixels import MEAN, STD
from tests.models.clip_small import FACTS, PAIR, VISION, pair, pairs, tower, write_encoder

PIXELS = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_encoder(tmp_path_factory.mktemp("captions") / "encoder")


def released(network: Any, layout: str, encoder_folder: Path, tmp_path: Path) -> Path:
    convert.save(network, tmp_path / "weights")
    convert.write_layout(layout, tmp_path / "weights", encoder_folder, {}, tmp_path / layout)
    found = {file.relative_to(tmp_path / layout).as_posix() for file in (tmp_path / layout).rglob("*")}
    assert found == set(LAYOUTS[layout])
    return tmp_path / layout


@pytest.mark.parametrize("kind", ["clip", "cloob", "siglip"])
def test_weights_come_back_bit_for_bit_with_all_that_the_objective_left(kind: str, tmp_path: Path) -> None:
    network = pair(kind)
    convert.save(network, tmp_path)
    found: Any = convert.load(tmp_path)
    assert isinstance(found, DualEncoder)
    assert (found.contrast, found.reads, found.training) == (network.contrast, "class-token", False)
    assert found.state_dict().keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_the_poolers_of_a_release_do_nothing_whatever_the_towers_norms_give(tmp_path: Path) -> None:
    network, batch = pair("cloob"), pairs()
    with torch.no_grad():
        network.tower.layernorm.weight.mul_(9)
        network.text_tower.encoder.layer[-1].output.LayerNorm.bias.add_(5)
    model: Any = convert.released_part(network)
    assert isinstance(model, VisionTextDualEncoderModel)
    factors = [factor_of(each) for each in (model.vision_model, model.text_model)]
    assert all(factor is not None and 0 < factor <= 2.0**-14 for factor in factors)
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=PIXELS).pooler_output
        read = model.get_text_features(input_ids=batch["ids"], attention_mask=batch["mask"]).pooler_output
        assert torch.equal(seen, network.image_features(PIXELS))
        assert torch.equal(read, network.text_features(batch["ids"], batch["mask"]))
    assert float(model.logit_scale.exp()) == pytest.approx(30.0)


def test_auto_classes_read_a_release_without_remote_code(encoder: Any, tmp_path: Path) -> None:
    network = pair("clip")
    folder = released(network, "transformers", encoder.folder, tmp_path)
    model: Any = AutoModel.from_pretrained(folder)
    processor, pictures = AutoProcessor.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "VisionTextDualEncoderModel"
    assert type(processor).__name__ == "VisionTextDualEncoderProcessor"
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    texts = ["赤い丸", "Ａ4の紙とcafé、🙂"]
    expected = [each.tolist() for each in encoder.ids_of(texts)]
    assert [tokenizer(text)["input_ids"] for text in texts] == expected
    picture = release.drawn({"size_px": (48, 48)})
    inputs = processor(text=texts, images=picture, padding=True, return_tensors="pt")
    assert sorted(inputs) == ["attention_mask", "input_ids", "pixel_values"]
    plain = torch.from_numpy(__import__("numpy").asarray(picture).copy()).permute(2, 0, 1) / 255
    by_hand = (plain - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(inputs["pixel_values"][0], by_hand, rtol=0, atol=1e-6)
    assert torch.equal(pictures(picture, return_tensors="pt")["pixel_values"], inputs["pixel_values"])
    with torch.no_grad():
        found = model(**inputs)
        images = nn.functional.normalize(network.image_features(inputs["pixel_values"]))
        captions = nn.functional.normalize(network.text_features(inputs["input_ids"], inputs["attention_mask"]))
    torch.testing.assert_close(found.logits_per_image, images @ captions.T / 0.07)


@pytest.mark.parametrize("kind", ["clip", "cloob"])
def test_the_layout_of_rinnas_client_holds_towers_without_poolers_under_the_names_of_version_4(
    kind: str, encoder: Any, tmp_path: Path
) -> None:
    network, batch = pair(kind), pairs()
    folder = released(network, "japanese-clip", encoder.folder, tmp_path)
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    assert (config["model_type"], config["projection_dim"]) == (kind, 16)
    assert (config["text_config"]["model_type"], config["vision_config"]["model_type"]) == ("bert", "vit")
    assert ("logit_scale" in tensors) == (kind == "clip")
    told = {key: config.get(key) for key in ("init_inv_tau", "scale_hopfield")}
    assert told == ({"init_inv_tau": 30.0, "scale_hopfield": 15.0} if kind == "cloob" else dict.fromkeys(told))
    assert "vision_model.encoder.layer.1.attention.attention.query.weight" in tensors
    assert "text_model.encoder.layer.1.attention.self.query.weight" in tensors
    assert not any("pooler" in name for name in tensors)
    # As the client does it: modules from the configuration, then the tensors.
    found = {}
    for part, kind_of_tower in (("vision", ViTModel), ("text", BertModel)):
        own = {name.removeprefix(f"{part}_model."): each for name, each in tensors.items()
               if name.startswith(f"{part}_model.")}  # fmt: skip
        sizes = AutoConfig.for_model(**config[f"{part}_config"])
        found[part] = kind_of_tower.from_pretrained(None, config=sizes, state_dict=own, add_pooling_layer=False)
    with torch.no_grad():
        seen = found["vision"](pixel_values=PIXELS).last_hidden_state[:, 0] @ tensors["visual_projection.weight"].T
        read = found["text"](input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state[:, 0]
        torch.testing.assert_close(seen, network.image_features(PIXELS))
        torch.testing.assert_close(
            read @ tensors["text_projection.weight"].T, network.text_features(batch["ids"], batch["mask"])
        )
    again: Any = convert.load(folder)
    assert again.contrast == network.contrast
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_siglip_has_no_layout_of_the_client(encoder: Any, tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match=r"is for the objectives clip, cloob, found 'siglip'. Take it out"):
        released(pair("siglip"), "japanese-clip", encoder.folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["transformers", "japanese-clip", "tower"])
def test_a_fresh_process_computes_what_the_weights_do_and_runs_the_example_of_the_card(
    layout: str, encoder: Any, tmp_path: Path
) -> None:
    network = tower() if layout == "tower" else pair("cloob")
    folder = released(network, layout, encoder.folder, tmp_path)
    asked, section = release.probes(None), ImageTower(**VISION) if layout == "tower" else Dual(**PAIR)
    expected = release.answer(convert.load(tmp_path / "weights"), encoder, asked)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "small").symlink_to(folder)
    program = release.example("small", section, SimpleNamespace(layouts=[layout]), {})
    found, printed = load_back("clip", folder, asked, workspace, program)
    assert difference(expected, found) is None
    assert len(found) == (3 if layout == "tower" else 9)
    lines = printed.splitlines()
    assert len(lines) == 3
    if layout != "tower":
        assert [line.split()[1] for line in lines] == ["赤い丸", "青い四角", "黄色い三角"]
        assert all(-1 <= float(line.split()[0]) <= 1 for line in lines)
    other = release.answer(tower(seed=1) if layout == "tower" else pair("cloob", seed=1), encoder, asked)
    assert difference(other, found) is not None


# ---- the towers of a training ----------------------------------------------------------------------------------------


def test_a_training_begins_with_the_locked_tower_of_a_folder_byte_for_byte(tmp_path: Path) -> None:
    first = tower(seed=3)
    convert.save(first, tmp_path)
    setting = Setting(FACTS, None, {"small": tmp_path})
    network: Any = begin(Dual(**PAIR), Cloob(kind="cloob"), setting)
    for name, tensor in first.vit.state_dict().items():
        assert torch.equal(network.tower.state_dict()[name], tensor)
    assert not any(each.requires_grad for each in network.tower.parameters())
    convert.save(network, tmp_path / "pair")
    again: Any = begin(Dual(**PAIR), Clip(kind="clip"), Setting(FACTS, None, {"small": tmp_path / "pair"}))
    assert torch.equal(again.tower_features(PIXELS), first.vit(PIXELS).last_hidden_state[:, 0])
    with pytest.raises(Mismatch, match=r"network.tower_width is 40, but 'small' has 32. Change one of the keys"):
        begin(Dual(**(PAIR | {"tower_width": 40})), Clip(kind="clip"), setting)
    with pytest.raises(Mismatch, match=r"the tower 'small' has [\d,]+ parameters, expected 7"):
        begin(Dual(**PAIR, expected_tower_parameters=7), Clip(kind="clip"), setting)
    with pytest.raises(Mismatch, match=r"the encoder tells num_labels, expected vocab_size"):
        begin(Dual(**PAIR), Clip(kind="clip"), Setting({"num_labels": 3}))


# ---- other people's --------------------------------------------------------------------------------------------------


def timm_forward(tensors: dict[str, Tensor], pixels: Tensor, num_heads: int) -> Tensor:
    """Timm's VisionTransformer by its tensors alone (`vision_transformer.py`): the state of the class token."""
    layer_norm, linear = nn.functional.layer_norm, nn.functional.linear
    width, patch = tensors["cls_token"].shape[2], tensors["patch_embed.proj.weight"].shape[3]
    patches = nn.functional.conv2d(
        pixels, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=patch
    )
    hidden = torch.cat([tensors["cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    hidden = hidden + tensors["pos_embed"]
    for number in range(2):
        own = {name.removeprefix(f"blocks.{number}."): each for name, each in tensors.items()}
        normed = layer_norm(hidden, (width,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        qkv = linear(normed, own["attn.qkv.weight"], own["attn.qkv.bias"])
        query, key, value = qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(3)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        hidden = hidden + linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])
        normed = layer_norm(hidden, (width,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        inner = nn.functional.gelu(linear(normed, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        hidden = hidden + linear(inner, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    return layer_norm(hidden, (width,), tensors["norm.weight"], tensors["norm.bias"], 1e-6)[:, 0]


def timm_tensors(width: int = 128, patch: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 10, width), "norm.weight": (width,), "norm.bias": (width,),
              "patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}  # fmt: skip
    for number in range(2):
        for name, (out, inner) in {"attn.qkv": (3 * width, width), "attn.proj": (width, width),
                                   "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}.items():  # fmt: skip
            shapes |= {f"blocks.{number}.{name}.weight": (out, inner), f"blocks.{number}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{number}.{name}.{part}": (width,) for part in ("weight", "bias")}
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_a_tower_from_timm_is_taken_in_and_computes_what_it_did(tmp_path: Path) -> None:
    source, tensors = tmp_path / "timm", timm_tensors()
    source.mkdir()
    save_file(tensors, source / "model.safetensors")
    told = {"architecture": "vit_tiny_patch16_48", "num_classes": 0, "pretrained_cfg": {"mean": [0.5] * 3}}
    (source / "config.json").write_text(json.dumps(told))
    convert.take_in(source, "tower", tmp_path / "tower")
    assert {file.name for file in (tmp_path / "tower").iterdir()} == set(LAYOUTS["tower"])
    found = AutoModel.from_pretrained(tmp_path / "tower", add_pooling_layer=False)
    with torch.no_grad():
        state = found(pixel_values=PIXELS).last_hidden_state[:, 0]
    torch.testing.assert_close(state, timm_forward(tensors, PIXELS, num_heads=2), rtol=1e-5, atol=1e-5)
    assert list(AutoImageProcessor.from_pretrained(tmp_path / "tower").image_mean) == [0.5, 0.5, 0.5]
    asked = release.probes(None)
    assert (
        difference(release.answer_of_folder(source, asked), release.answer_of_folder(tmp_path / "tower", asked)) is None
    )
    with pytest.raises(Mismatch, match=r"from timm has blocks.0.ls1.gamma, which transformers' ViT cannot compute"):
        renamed(tensors | {"blocks.0.ls1.gamma": torch.ones(128)})


def write_tokenizer(folder: Path, encoder_folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((encoder_folder / name).read_bytes())


SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


def test_somebody_elses_clip_and_pair_of_towers_keep_what_their_poolers_do(encoder: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = SMALL | {"vocab_size": 300, "eos_token_id": 6, "bos_token_id": 4, "max_position_embeddings": 80}
    vision = SMALL | {"image_size": 48, "patch_size": 16}
    theirs = pair(seed=2)
    both = VisionTextDualEncoderConfig.from_vision_text_configs(theirs.tower.config, theirs.text_tower.config)
    models = {"clip": CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)),
              "transformers": VisionTextDualEncoderModel(both)}  # fmt: skip
    batch = pairs()
    batch["ids"][:, -1] = 6
    for layout, model in models.items():
        source = tmp_path / f"{layout}-source"
        model.eval().save_pretrained(source)
        convert.processor(48).save_pretrained(source)
        write_tokenizer(source, encoder.folder)
        if layout == "transformers":
            with pytest.raises(
                Mismatch, match=r"holds no processor_config.json, spiece.model, captions.json; the layout"
            ):
                convert.take_in(source, layout, tmp_path / "no")
        convert.take_in(source, "clip", tmp_path / layout)
        found: Any = convert.load(tmp_path / layout)
        assert found.reads == "pooler"
        with torch.no_grad():
            seen = model.get_image_features(pixel_values=PIXELS).pooler_output
            read = model.get_text_features(input_ids=batch["ids"], attention_mask=torch.ones_like(batch["ids"]))
            torch.testing.assert_close(found.image_features(PIXELS), seen)
            torch.testing.assert_close(
                found.text_features(batch["ids"], torch.ones_like(batch["ids"])), read.pooler_output
            )
        asked = release.probes(None)
        copies = [release.answer_of_folder(folder, asked) for folder in (source, tmp_path / layout)]
        assert difference(*copies) is None
        with pytest.raises(Mismatch, match=r"holds a DualEncoder, but 'layout' is 'tower'"):
            convert.take_in(source, "tower", tmp_path / "wrong")


def test_somebody_elses_captioner_is_taken_in_and_writes(encoder: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = SMALL | {"vocab_size": 300, "bos_token_id": 4, "sep_token_id": 5, "pad_token_id": 3, "eos_token_id": 5,
                    "encoder_hidden_size": 32, "max_position_embeddings": 40}  # fmt: skip
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=SMALL | {"image_size": 48, "patch_size": 16}, projection_dim=16)
    )
    source = tmp_path / "blip"
    model.save_pretrained(source)
    (source / "generation_config.json").unlink(missing_ok=True)
    convert.processor(48).save_pretrained(source)
    write_tokenizer(source, encoder.folder)
    convert.take_in(source, "captioner", tmp_path / "captioner")
    asked = release.probes(None)
    found, expected = (release.answer_of_folder(each, asked) for each in (tmp_path / "captioner", source))
    assert difference(expected, found) is None
    assert len(found) == 3
    assert all(1 <= each.numel() <= 20 for each in found.values())


def test_what_cannot_be_read_is_refused_with_what_to_do(encoder: Any, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    convert.save(pair(), weights)
    with pytest.raises(Mismatch, match=r"has no captions.json|has no tokenizer.json"):
        convert.write_layout("transformers", weights, tmp_path, {}, tmp_path / "release")
    with pytest.raises(Mismatch, match=r"package.generation is set"):
        convert.write_layout("transformers", weights, encoder.folder, {"top_p": 1}, tmp_path / "release")
    whole = load_file(weights / "model.safetensors")
    kept = {name: each for name, each in whole.items() if "attention" not in name}
    save_file(kept, weights / "model.safetensors", {"format": "pt"})
    with pytest.raises(Mismatch, match=r"lacks text_model.encoder.* others, expected every tensor"):
        convert.load(weights)
    for config in ("", "{}", '{"model_type": "foo"}'):
        (weights / "config.json").write_text(config)
        with pytest.raises(Mismatch):
            convert.load(weights)
    (weights / "model.safetensors").rename(weights / "pytorch_model.bin")
    with pytest.raises(Mismatch, match=r"holds pytorch_model.bin, expected model.safetensors"):
        convert.take_in(weights, "clip", tmp_path / "taken")
