"""Folders of weights and releases, as transformers' own Auto classes read them."""

import json
import shutil
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCTC, AutoTokenizer

from components.loadback import difference, load_back
from models.hubert import convert, release
from models.hubert.network import HubertForUnits, begin
from models.hubert.schema import LAYOUTS, Ctc, MaskedUnits, Network
from models.objective import Mismatch, Setting
from tests.models.hubert_small import PHONEMES, SHAPE, SYMBOLS, UNITS, small

LAYOUT = "transformers"


@pytest.fixture
def phonemes(tmp_path: Path) -> Path:
    folder = tmp_path / "phonemes"
    folder.mkdir()
    (folder / "phonemes.json").write_text(json.dumps({"symbols": SYMBOLS}))
    return folder


@pytest.fixture
def units(tmp_path: Path) -> Path:
    folder = tmp_path / "units"
    folder.mkdir()
    np.save(folder / "centroids.npy", np.zeros((10, 39), dtype=np.float32))
    (folder / "units.json").write_text("{}")
    return folder


def released(network: Any, layout: str, encoder: Path, tmp_path: Path) -> Path:
    convert.save(network, tmp_path / "weights")
    convert.write_layout(layout, tmp_path / "weights", encoder, {}, tmp_path / "release")
    found = tmp_path / "release"
    assert {file.relative_to(found).as_posix() for file in found.rglob("*") if file.is_file()} == set(LAYOUTS[layout])
    return found


def test_a_network_of_units_comes_back_with_its_head(tmp_path: Path) -> None:
    network = small()
    convert.save(network, tmp_path)
    found = convert.load(tmp_path)
    assert isinstance(found, HubertForUnits)
    assert not found.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    model = AutoModel.from_pretrained(tmp_path)
    assert type(model).__name__ == "HubertModel"
    assert sorted(model.state_dict()) == sorted(network.hubert.state_dict())


def test_the_example_of_the_encoder_goes_out_with_a_recogniser(phonemes: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    shutil.copytree(phonemes, encoder)
    convert.write_example(encoder / "example.wav")
    (encoder / "example.wav").write_bytes((encoder / "example.wav").read_bytes()[:-2])
    folder = released(small(PHONEMES), "ctc", encoder, tmp_path / "out")
    assert (folder / "example.wav").read_bytes() == (encoder / "example.wav").read_bytes()


def test_auto_classes_read_a_recogniser_and_a_recording_becomes_phonemes(phonemes: Path, tmp_path: Path) -> None:
    network = small(PHONEMES).eval()
    folder = released(network, "ctc", phonemes, tmp_path)
    model, extractor = AutoModelForCTC.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    assert (extractor.do_normalize, extractor.return_attention_mask, extractor.sampling_rate) == (False, False, 16_000)
    sound, rate = soundfile.read(folder / "example.wav")
    assert (rate, sound.ndim) == (16_000, 1)
    assert 0.1 < np.abs(sound).max() <= 0.5
    given = extractor(sound, sampling_rate=rate, return_tensors="pt")
    expected = network(torch.from_numpy(sound.astype(np.float32))[None]).logits
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    # But for rounding, as MKL adds in an order that depends on where weights lie.
    torch.testing.assert_close(model(**given).logits, expected, rtol=0, atol=1e-6)
    assert model.config.pad_token_id == 0
    assert model.config.ctc_zero_infinity


def test_the_tokenizer_keeps_phonemes_of_several_letters_whole(phonemes: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(released(small(PHONEMES), "ctc", phonemes, tmp_path))
    ids = tokenizer("a ky o: | q N")["input_ids"]
    assert ids == [2, 3, 4, 1, 5, 6]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "ky", "o:", "|", "q", "N"]


@pytest.mark.parametrize("layout", ["transformers", "ctc"])
def test_a_fresh_process_computes_what_the_weights_do_and_runs_the_example_of_the_card(
    layout: str, phonemes: Path, units: Path, tmp_path: Path
) -> None:
    is_ctc = layout == "ctc"
    network = small(PHONEMES if is_ctc else UNITS)
    folder = released(network, layout, phonemes if is_ctc else units, tmp_path)
    encoder = SimpleNamespace(facts=PHONEMES if is_ctc else UNITS)
    asked = release.probes(None)
    expected = release.answer(convert.load(tmp_path / "weights"), encoder, asked)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "small").symlink_to(folder)
    program = release.example("small", Network(**SHAPE), SimpleNamespace(layouts=[layout]), encoder.facts)
    found, printed = load_back("hubert", folder, asked, workspace, program)
    assert difference(expected, found) is None
    assert len(found) == len(asked) + is_ctc
    if is_ctc:
        assert set(printed.split()) <= set(SYMBOLS[1:])
    else:
        assert printed == "torch.Size([1, 49, 32])\n"
    # Other weights show.
    other = release.answer(small(PHONEMES if is_ctc else UNITS, seed=1), encoder, asked)
    assert difference(other, found) is not None


def test_a_recogniser_starts_from_a_network_of_units_and_from_another_recogniser(tmp_path: Path) -> None:
    first, other = small(seed=1), small({**PHONEMES, "vocab_size": 9}, seed=2)
    for number, given in enumerate((first, other)):
        convert.save(given, tmp_path / str(number))
        network: Any = begin(Network(**SHAPE), Ctc(kind="ctc"), Setting(PHONEMES, tmp_path / str(number)))
        assert network.lm_head.weight.shape == (7, 32)
        for name, tensor in given.hubert.state_dict().items():
            assert torch.equal(network.hubert.state_dict()[name], tensor)


def test_what_does_not_fit_is_refused_with_what_to_change(tmp_path: Path, phonemes: Path) -> None:
    convert.save(small(), tmp_path / "weights")
    with pytest.raises(Mismatch, match=r"another network, .*: network.num_layers is 3 here and 2 there. Copy"):
        begin(Network(**(SHAPE | {"num_layers": 3})), Ctc(kind="ctc"), Setting(PHONEMES, tmp_path / "weights"))
    with pytest.raises(Mismatch, match=r"expected num_units. Change the objective or the key 'encoder'"):
        begin(Network(**SHAPE), MaskedUnits(kind="masked-units"), Setting(PHONEMES))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(Mismatch, match=r"has no model.safetensors"):
        convert.load(tmp_path / "empty")
    with pytest.raises(Mismatch, match=r"has no centroids.npy, expected the folder of an encoder of kind 'kmeans'"):
        convert.write_layout("transformers", tmp_path / "weights", phonemes, {}, tmp_path / "release")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("num_heads", 4, "network.num_heads is 4 here and 2 there"),
        ("norm_first", True, "network.norm_first is True here and False there"),
        ("layer_norm_eps", 1e-12, "network.layer_norm_eps is 1e-12 here and 1e-05 there"),
    ],
)
def test_a_network_whose_tensors_fit_but_that_computes_something_else_is_no_start(
    key: str, value: Any, told: str, tmp_path: Path
) -> None:
    convert.save(small(), tmp_path)
    with pytest.raises(Mismatch, match=told):
        begin(Network(**(SHAPE | {key: value})), Ctc(kind="ctc"), Setting(PHONEMES, tmp_path))
    begin(Network(**SHAPE, dropout=0.0, layerdrop=0.5), Ctc(kind="ctc"), Setting(PHONEMES, tmp_path))


@pytest.mark.parametrize("config", ["", "{}", '{"model_type": "foo"}', '{"model_type": "hubert", "hidden_size": "x"}'])
def test_a_config_that_says_no_network_is_refused(config: str, tmp_path: Path) -> None:
    convert.save(small(), tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(Mismatch, match=r"cannot be read .*Copy or make that folder again"):
        convert.load(tmp_path)


def test_weights_that_are_cut_short_or_another_networks_are_refused(tmp_path: Path, units: Path) -> None:
    source, weights = released(small(), "transformers", units, tmp_path), tmp_path / "weights" / "model.safetensors"
    (source / "model.safetensors").write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Mismatch, match=r"'source: path:.*': .*SafetensorError"):
        convert.take_in(source, "model", tmp_path / "taken")
    tensors = load_file(weights)
    save_file({name: tensors[name] for name in tensors if "attention" not in name}, weights, {"format": "pt"})
    with pytest.raises(Mismatch, match=r"lacks encoder.layers.0.attention.* and 13 others, expected every tensor"):
        convert.load(tmp_path / "weights")
    save_file({name: tensors[name] for name in tensors if name != "masked_spec_embed"}, weights, {"format": "pt"})
    convert.load(tmp_path / "weights")


def test_a_card_says_whose_units_it_holds_and_what_padding_does() -> None:
    told = {
        (layout, norm): release.limits(Network(conv_norm=norm), layout)
        for layout in (LAYOUT, "ctc")
        for norm in ("group", "layer")
    }
    assert {key for key, text in told.items() if "`units/`" in text} == {(LAYOUT, n) for n in ("group", "layer")}
    assert {key for key, text in told.items() if "padding" in text} == {(n, "group") for n in (LAYOUT, "ctc")}


def test_somebody_elses_model_is_taken_in_without_units(tmp_path: Path, units: Path) -> None:
    source = released(small(), "transformers", units, tmp_path)
    convert.take_in(source, "model", tmp_path / "taken")
    assert {file.name for file in (tmp_path / "taken").iterdir()} == set(LAYOUTS["model"])
    (source / "preprocessor_config.json").unlink()
    with pytest.raises(Mismatch, match=r"holds no preprocessor_config.json; the layout 'model' has"):
        convert.take_in(source, "model", tmp_path / "again")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(Mismatch, match=r"holds pytorch_model.bin, expected model.safetensors"):
        convert.take_in(source, "model", tmp_path / "again")


def test_the_synthetic_vowels_have_their_resonances(tmp_path: Path) -> None:
    convert.write_example(tmp_path / "example.wav")
    with wave.open(str(tmp_path / "example.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.getnframes() == 5 * 6_400
    for letter, (first, second) in release.RESONANCES_HZ.items():
        power = np.abs(np.fft.rfft(release.vowels(letter, 1.0).astype(float)))
        for centre in (first, second):
            near, far = power[centre - 100 : centre + 100].max(), power[6_000:7_000].max()
            assert near > 10 * far
