"""The network, against torchaudio's and transformers' own ways through the same weights."""

from typing import Any

import pytest
import torch
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from models.hubert import features
from models.hubert.front import front_end
from models.hubert.network import frame_lengths, hidden_states, logits, num_parameters
from models.hubert.schema import Network
from models.hubert.schema import num_parameters as counted
from tests.models.hubert_small import PHONEMES, SHAPE, small, utterances

VARIANTS = [{}, {"conv_norm": "layer", "norm_first": True, "conv_bias": True}]


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    found = utterances()
    return found["waveforms"], found["lengths"]


def test_the_base_model_has_as_many_parameters_as_the_released_one() -> None:
    assert num_parameters(Network()) == counted(Network()) == 94_371_712


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_by_arithmetic_are_those_of_the_network(variant: dict[str, Any]) -> None:
    section = Network(**SHAPE, **variant)
    assert counted(section) == num_parameters(section)
    assert counted(section) == sum(each.numel() for each in small(**variant).hubert.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_computes_what_torchaudio_computes_with_the_same_weights(variant: dict[str, Any]) -> None:
    hubert = small(**variant).hubert.eval()
    theirs = import_huggingface_model(hubert).eval()
    waveforms = padded()[0]
    with torch.inference_mode():
        ours = hidden_states(hubert, waveforms)
        expected, _ = theirs(waveforms)
        layers, _ = theirs.extract_features(waveforms)
        found = features.layer(small(**variant), waveforms, torch.full((3,), 16_000), 1)
    for mine, other in ((ours, expected), (found, layers[0])):
        assert (mine - other).abs().max() < 1e-5 * max(1.0, float(other.abs().max()))


def test_an_offset_in_a_recording_changes_as_little_in_bf16_as_in_fp32() -> None:
    hubert, (waveforms, lengths) = small().hubert.eval(), padded()
    there = torch.arange(waveforms.shape[1]) < lengths[:, None]
    moved = (waveforms + 0.5) * there
    for given in (None, lengths):
        rows = slice(0, 1) if given is None else slice(None)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found, expected = (
                front_end(hubert, each[rows], None if given is None else given) for each in (moved, waveforms)
            )
        frames = frame_lengths(lengths)
        for row in range(len(found)):
            ours, theirs = (each[row, : frames[row]].float() for each in (found, expected))
            assert (ours - theirs).norm() < 0.005 * theirs.norm()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_front_end_has_the_values_and_gradients_of_transformers_own(variant: dict[str, Any]) -> None:
    hubert = small(**variant).hubert
    waveforms = padded()[0]
    found = []
    for way in (
        lambda: front_end(hubert, waveforms, None),
        lambda: hubert.feature_extractor(waveforms).transpose(1, 2),
    ):
        hubert.zero_grad()
        way().square().sum().backward()
        tensors = dict(hubert.feature_extractor.named_parameters())
        found.append({"values": way().detach()} | {name: each.grad.clone() for name, each in tensors.items()})
    for name, theirs in found[1].items():
        torch.testing.assert_close(found[0][name], theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()), msg=name)


def test_without_padding_it_computes_what_transformers_computes() -> None:
    network = small(PHONEMES).eval()
    waveforms = padded()[0]
    with torch.inference_mode():
        assert (logits(network, waveforms) - network(waveforms).logits).abs().max() < 1e-5
        hidden = network.hubert(waveforms, output_hidden_states=True).hidden_states
        for number in (1, 2):
            found = features.layer(network, waveforms, torch.full((3,), 16_000), number)
            assert (found - hidden[number]).abs().max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_recording_gives_the_same_numbers_padded_as_alone(variant: dict[str, Any]) -> None:
    network = small(PHONEMES, **variant).eval()
    waveforms, lengths = padded()
    with torch.inference_mode():
        together = logits(network, waveforms, lengths)
        layer = features.layer(network, waveforms, lengths, 1)
        for row, length in enumerate(lengths.tolist()):
            frames = int(frame_lengths(torch.tensor(length)))
            alone = network(waveforms[row : row + 1, :length]).logits[0]
            assert (together[row, :frames] - alone).abs().max() < 1e-5
            own = features.layer(network, waveforms[row : row + 1, :length], lengths[row : row + 1], 1)[0]
            assert (layer[row, :frames] - own).abs().max() < 1e-5
            assert not layer[row, frames:].any()


def test_a_long_recording_is_heard_in_pieces_that_lose_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small().eval()
    waveforms, lengths = padded()
    monkeypatch.setattr(features, "CHUNK_FRAMES", 20)
    found = features.layer(network, waveforms, lengths, 2)
    assert found.shape == (3, 49, 32)
    second = waveforms[:1, 20 * 320 : 39 * 320 + 400]
    expected = network.hubert(second, output_hidden_states=True).hidden_states[2][0]
    assert (found[0, 20:40] - expected).abs().max() < 1e-5
    # 9,000 samples are 27 frames, of which the second piece has seven.
    assert found[1, 26].any()
    assert not found[1, 27:].any()


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="layer is 3, expected 1 to 2"):
        features.layer(small(), torch.zeros(1, 400), torch.tensor([400]), 3)


def test_layers_are_left_out_in_training_only() -> None:
    network = small(PHONEMES, layerdrop=0.999, dropout=0.0, attention_dropout=0.0, projection_dropout=0.0)
    waveforms = padded()[0]
    network.train()
    torch.manual_seed(0)
    dropped = logits(network, waveforms)
    network.hubert.encoder.layers = torch.nn.ModuleList()
    assert torch.equal(dropped, logits(network.eval(), waveforms))
