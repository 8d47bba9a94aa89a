"""Encoders of pictures and captions, and the shards that they fill."""

import io
import json
import tarfile

import numpy as np
import pytest
import sentencepiece
import torch
import webdataset
import yaml
from PIL import Image
from transformers import AutoTokenizer, ViTModel

from components import paths
from components.fit import fit
from components.manifest import read_manifest, tree_hash
from components.modalities import modality
from components.modalities.image.cutting import cut, normalised, pixels_of
from components.modalities.image.shards import Arrays
from components.outcomes import Refused
from components.shard import shard
from models.pixels import MEAN, STD
from tests.components.image.small_squares import ENCODERS, png, small_records, square, write_project, write_tower
from tests.components.sharded import sharded
from tests.components.speech.small_speech import write_yaml

NAMES = ("squares+pixels", "squares+tower", "squares+half", "squares+captions", "squares+labels", "squares+marks")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A corpus under six encoders, made by the verbs."""
    return sharded(tmp_path_factory.mktemp("pictures"), small_records(), write_project, NAMES)


@pytest.fixture(autouse=True)
def _inside(project, monkeypatch):
    monkeypatch.chdir(project.root)


def of_split(project, split):
    return [record for record in project.records if record["split"] == split]


def arrays(name, split="train"):
    return Arrays(paths.payload("shard", name), split)


def encoder(name):
    return modality("image").open_encoder(paths.payload("fit", name))


def rewritten(name, **keys):
    write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", ENCODERS[name] | keys)


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(40, 32), (32, 41), (33, 65), (24, 24), (100, 37), (12, 15)])
def test_a_picture_is_scaled_and_cut_as_by_hand(width, height):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    size, short = 24, min(width, height)
    wide, tall = (size, int(size * height / width)) if width == short else (int(size * width / height), size)
    scaled = np.asarray(image.resize((wide, tall), Image.Resampling.BILINEAR))
    # torchvision.transforms.functional.center_crop: int(round((height - crop) / 2)).
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    assert np.array_equal(np.asarray(cut(image, size, "bilinear")), scaled[top : top + size, left : left + size])


def test_pixels_are_normalised_as_the_formula_says():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    wanted = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255 - torch.tensor(MEAN).view(3, 1, 1)
    found = normalised(pixels, MEAN, STD)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted / torch.tensor(STD).view(3, 1, 1), atol=1e-6)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_tars_are_read_by_the_webdataset_library_and_by_number(project, split):
    records, found = of_split(project, split), arrays("squares+pixels", split)
    folder = paths.payload("shard", "squares+pixels") / split
    rows = list(webdataset.WebDataset([str(folder / "pictures-000000.tar")], shardshuffle=False))
    assert [row["__key__"] for row in rows] == [f"{number:09d}" for number in range(len(records))]
    assert [json.loads(row["json"]) for row in rows] == [{"id": each["id"], "split": split} for each in records]
    expected = pixels_of([each["picture"] for each in records], 24, "bilinear")
    for number, row in enumerate(rows):
        assert row["png"] == found.pictures[number]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["png"]))), expected[number])


def test_the_same_records_give_the_same_tars(project):
    before = tree_hash(paths.payload("shard", "squares+pixels"))
    shard("squares+pixels")
    assert tree_hash(paths.payload("shard", "squares+pixels")) == before


def test_a_tar_that_is_full_is_followed_by_another(monkeypatch, tmp_path):
    from components.modalities.image import tars

    monkeypatch.setattr(tars, "TAR_BYTES", 4096)
    writer = tars.TarWriter(tmp_path, "png")
    pictures = [png(square("赤", "青", place)) for place in ("左上", "右上", "左下", "右下")]
    for number, picture in enumerate(pictures):
        writer.add(number, picture, {})
    files = writer.close()
    assert len(files) > 1
    found = tars.Pictures(tmp_path, files, "a+b")
    assert [found[number] for number in (2, 0, 3, 1)] == [pictures[number] for number in (2, 0, 3, 1)]
    with tarfile.open(tmp_path / files[1]["name"]) as members:
        assert members.getnames()[0].endswith(".json")


def test_a_jpeg_can_be_asked_for(project):
    rewritten("pixels", format="jpg", quality=90)
    fit("pixels")
    value = encoder("pixels").file_of(project.records[0]["picture"])
    assert Image.open(io.BytesIO(value)).format == "JPEG"
    rewritten("pixels")
    fit("pixels")


def test_quality_belongs_to_jpeg():
    rewritten("pixels", quality=90)
    with pytest.raises(Refused, match="'quality' belongs to 'format: jpg'"):
        fit("pixels")
    rewritten("pixels")


# ---- towers ----------------------------------------------------------------------------------------------------------


def test_features_are_the_first_state_of_transformers_own_network(project):
    network = ViTModel.from_pretrained(paths.payload("pretrain", "small-vit"), add_pooling_layer=False).eval()
    records = of_split(project, "train")
    pixels = normalised(pixels_of([each["picture"] for each in records], 24, "bilinear"), MEAN, STD)
    with torch.no_grad():
        wanted = network(pixel_values=pixels).last_hidden_state[:, 0].numpy()
    found, half = arrays("squares+tower").rows("feature"), arrays("squares+half").rows("feature")
    assert found.dtype == np.float32
    assert np.allclose(found, wanted, atol=1e-5)
    assert half.dtype == np.float16
    assert np.array_equal(half, found.astype(np.float16))
    assert arrays("squares+tower").facts["width"] == 16


def test_a_tower_of_another_size_names_the_key():
    rewritten("tower", size_px=32)
    with pytest.raises(Refused, match=r"sees pictures of 24 pixels, but the encoder cuts them to 32"):
        fit("tower")
    rewritten("tower")


def test_features_that_fp16_cannot_hold_are_refused(project):
    opened = encoder("half")
    opened.extract = lambda values: {"feature": np.full((len(values), 16), 1e5, np.float32)}
    with pytest.raises(Refused, match=r"up to 100000, which fp16 cannot hold. Set the key 'dtype' to fp32"):
        opened.encode([project.records[0]["picture"]])


def test_weights_that_changed_since_the_fit_are_refused(project):
    weights = paths.payload("pretrain", "small-vit") / "config.json"
    text = weights.read_text()
    weights.write_text(text + " ")
    with pytest.raises(Refused, match=r"others are there. Make them again with: hiraku release small-vit"):
        encoder("tower").encode([project.records[0]["picture"]])
    weights.write_text(text)


# ---- captions --------------------------------------------------------------------------------------------------------


def test_captions_have_sentencepiece_ids_and_those_of_the_released_tokenizer(project):
    folder = paths.payload("fit", "captions")
    theirs = AutoTokenizer.from_pretrained(folder)
    plain = sentencepiece.SentencePieceProcessor(model_file=str(paths.payload("fit", "spm") / "spiece.model"))
    opened = encoder("captions")
    texts = [text for record in project.records for _, text in json.loads(record["captions"])]
    texts += ["ABC と xyz", "改行\nと\tタブ", "犬🐕 ÅΣ", "", " 前後 "]
    for text, ids in zip(texts, opened.ids_of(texts), strict=True):
        lowered = "".join(map(str.lower, text))
        assert ids.tolist() == [4, *plain.encode(lowered)]
        assert ids.tolist() == theirs(text)["input_ids"]
    assert theirs.cls_token_id == opened.facts["cls"] == 4
    assert theirs(["長い", "もっと長い文"], padding=True)["attention_mask"][0][-1] == 0


def test_special_pieces_are_not_found_in_captions():
    opened = encoder("captions")
    theirs = AutoTokenizer.from_pretrained(paths.payload("fit", "captions"))
    text = "[SEP]と</s>と<pad>"
    ids = opened.ids_of([text])[0].tolist()
    assert not set(ids[1:]) & set(range(7))
    assert theirs(text, split_special_tokens=True)["input_ids"] == ids


def test_shards_hold_every_caption_with_its_kind(project):
    found, opened = arrays("squares+captions"), encoder("captions")
    records, starts = of_split(project, "train"), found.starts("kinds")
    ends = np.concatenate([[0], np.cumsum(found.arrays["sizes"], dtype=np.int64)])
    for number, record in enumerate(records):
        pairs = json.loads(record["captions"])
        places = range(int(starts[number]), int(starts[number + 1]))
        assert [found.names[found.arrays["kinds"][place]] for place in places] == [kind for kind, _ in pairs]
        for place, (_, text) in zip(places, pairs, strict=True):
            assert found.arrays["ids"][ends[place] : ends[place + 1]].tolist() == opened.ids_of([text])[0].tolist()
    digests = found.arrays["digest"]
    texts = [text for record in records for _, text in json.loads(record["captions"])]
    assert len(np.unique(digests)) == len(set(texts))


def test_captions_that_are_too_long_are_cut_and_counted():
    rewritten("captions", max_tokens=3)
    fit("captions")
    shard("squares+captions")
    counts = read_manifest("shard", "squares+captions").counts
    assert counts["cut_captions"] > 0
    assert max(arrays("squares+captions").arrays["sizes"]) == 3
    report = json.loads((paths.state("fit", "captions") / "report.json").read_text())
    assert report["kinds"] == {"web": 42, "generated": 84}  # train and valid
    assert report["train"]["differing"] == report["held_out"]["differing"] == 0
    rewritten("captions")
    fit("captions")
    shard("squares+captions")
    assert read_manifest("shard", "squares+captions").counts["cut_captions"] == 0


def test_the_captions_of_a_unigram_tokenizer_are_its_own_and_what_differs_is_counted(project):
    """SentencePiece's ids are what is sharded; `tokenizer.json` may break a tie in another way, and none is refused."""
    write_yaml(paths.RECIPES / "encoders" / "odds.yaml", ENCODERS["spm"] | {"algorithm": "unigram"})
    fit("odds")
    write_yaml(paths.RECIPES / "encoders" / "by-odds.yaml", ENCODERS["captions"] | {"tokenizer": "odds"})
    fit("by-odds")
    opened, theirs = encoder("by-odds"), AutoTokenizer.from_pretrained(paths.payload("fit", "by-odds"))
    plain = sentencepiece.SentencePieceProcessor(model_file=str(paths.payload("fit", "odds") / "spiece.model"))
    differing = 0
    held_in = [record for record in project.records if record["split"] != "test"]
    texts = [text for record in held_in for _, text in json.loads(record["captions"])]
    for text, ids in zip(texts, opened.ids_of(texts), strict=True):
        assert ids.tolist() == [opened.facts["cls"], *plain.encode("".join(map(str.lower, text)))]
        differing += ids.tolist() != theirs(text)["input_ids"]
    report = json.loads((paths.state("fit", "by-odds") / "report.json").read_text())
    assert report["algorithm"] == "unigram"
    assert report["train"]["documents"] + report["held_out"]["documents"] == len(texts)
    assert report["train"]["differing"] + report["held_out"]["differing"] == differing


def test_a_tokenizer_without_the_symbols_names_the_key():
    write_yaml(paths.RECIPES / "encoders" / "plain.yaml", {**ENCODERS["spm"], "symbols": ["\n"]})
    fit("plain")
    rewritten("captions", tokenizer="plain")
    with pytest.raises(Refused, match=r"Encoder 'plain': the model has no user-defined piece '\[CLS\]'"):
        fit("captions")
    rewritten("captions")


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_the_sorted_classes(project):
    opened, records = encoder("labels"), of_split(project, "valid")
    names = sorted({each["label"] for each in of_split(project, "train")})
    assert opened.names == names
    assert [names[each] for each in arrays("squares+labels", "valid").arrays["label"]] == [
        each["label"] for each in records
    ]
    with pytest.raises(Refused, match="1 classes are not among the"):
        opened.encode(["犬"])


def test_a_record_may_be_of_several_classes(project):
    found, records = arrays("squares+marks"), of_split(project, "train")
    starts = found.starts("label")
    names = encoder("marks").names
    for number, record in enumerate(records):
        numbers = found.arrays["label"][starts[number] : starts[number + 1]]
        assert sorted(names[each] for each in numbers) == json.loads(record["marks"])
    rewritten("labels", many=True)
    with pytest.raises(Refused, match=r"holds no lists of classes. Take the key 'many' out"):
        fit("labels")
    rewritten("labels")


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("squares+tower", "feature.bin"),
        ("squares+captions", "ids.bin"),
        ("squares+captions", "ids-offsets.npy"),
        ("squares+pixels", "pictures-000000.tar"),
    ],
)
def test_a_file_that_was_cut_is_named(name, file):
    path = paths.payload("shard", name) / "train" / file
    content = path.read_bytes()
    if file.endswith(".npy"):
        path.unlink()
    else:
        path.write_bytes(content[:-8])
    with pytest.raises(Refused, match=rf"{file}.*then run: hiraku shard {name}".replace("+", r"\+")):
        arrays(name)
    path.write_bytes(content)


def test_a_split_that_is_not_there_is_named():
    with pytest.raises(Refused, match=r"has no split 'other', only test, train, valid"):
        arrays("squares+labels", "other")


def test_a_tower_of_another_recipe_makes_other_features_stale(project):
    before = encoder("tower").facts["weights_hash"]
    write_tower(width=24)
    fit("tower")
    assert encoder("tower").facts["weights_hash"] != before
    assert encoder("tower").facts["width"] == 24
    write_tower()
    fit("tower")
    assert encoder("tower").facts["weights_hash"] == before
    assert yaml.safe_load((paths.RECIPES / "encoders" / "tower.yaml").read_text()) == ENCODERS["tower"]
