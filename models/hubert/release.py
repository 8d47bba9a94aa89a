"""How a released HuBERT is used and proven equal to its weights; transformers alone reads a release.

Probes are recordings, told by what they are made of. Answers are named tensors: hidden states [frames, width], or of a
recogniser logits [frames, symbols], and the ids of its phonemes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.frames import SAMPLE_RATE_HZ
from models.hubert.schema import LAYOUTS
from models.packaging import layout_problems, useless_keys

if TYPE_CHECKING:
    import torch

RESONANCES_HZ = {"a": (800, 1200), "i": (300, 2300), "u": (350, 1300), "e": (500, 1900), "o": (500, 800)}
"""The first two of Japanese vowels, about."""
PITCH_HZ = 125
BANDWIDTH_HZ = 90.0

# The shortest recording, vowels, noise, a long one, silence.
PROBES = (
    {"kind": "noise", "num_samples": 400},
    {"kind": "vowels", "text": "aiueo", "seconds": 0.3},
    {"kind": "noise", "num_samples": 16_000},
    {"kind": "noise", "num_samples": 48_321},
    {"kind": "silence", "num_samples": 8_000},
)


def check_package(package: Any) -> list[str]:
    """What this family cannot release as the section `package` asks, in words; empty if it can."""
    why = "a model of speech takes recordings, no text"
    return layout_problems(package, LAYOUTS) + useless_keys(package, ("generation", "example_prompt"), why)


def vowels(text: str, seconds: float) -> np.ndarray:
    """A synthetic voice: a row of pulses through two resonances a vowel (Klatt 1980, equation 1).

    Args:
        text: of the letters of RESONANCES_HZ.
        seconds: how long each lasts.

    Returns:
        16-bit samples at 16 kHz.
    """
    count = round(seconds * SAMPLE_RATE_HZ)
    parts = []
    for letter in text:
        sound = np.zeros(count)
        sound[:: SAMPLE_RATE_HZ // PITCH_HZ] = 1.0
        for centre in RESONANCES_HZ[letter]:
            sound = _resonated(sound, centre)
        parts.append(sound / np.abs(sound).max())
    return np.round(np.concatenate(parts) * 0.5 * np.iinfo(np.int16).max).astype("<i2")


def _resonated(sound: np.ndarray, centre_hz: float) -> np.ndarray:
    radius = float(np.exp(-np.pi * BANDWIDTH_HZ / SAMPLE_RATE_HZ))
    first, second = 2 * radius * float(np.cos(2 * np.pi * centre_hz / SAMPLE_RATE_HZ)), -radius * radius
    found, before, earlier = np.empty_like(sound), 0.0, 0.0
    for place, value in enumerate(sound):
        found[place] = value + first * before + second * earlier
        before, earlier = found[place], before
    return found


def waveform(probe: dict[str, Any]) -> np.ndarray:
    """The recording that a probe tells of: float32, between -1 and 1."""
    if probe["kind"] == "vowels":
        samples = vowels(probe["text"], probe["seconds"])
    elif probe["kind"] == "noise":
        samples = np.random.default_rng(probe["num_samples"]).integers(-3000, 3000, probe["num_samples"])
    else:
        samples = np.zeros(probe["num_samples"], dtype=np.int16)
    return samples.astype(np.float32) / 32_768


def probes(example: str | None) -> list[dict[str, Any]]:  # noqa: ARG001 - a prompt is of text
    """What a model is asked."""
    return [dict(each) for each in PROBES]


def answer(network: Any, encoder: Any, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What trained weights compute, and the ids of the encoder's phonemes."""
    import torch

    from models.hubert.convert import released_part

    waveforms = [torch.from_numpy(waveform(probe))[None] for probe in asked]
    found = _answer(released_part(network), asked, [{"input_values": each} for each in waveforms])
    if hasattr(network, "lm_head"):
        found["the ids of the phonemes"] = torch.arange(len(encoder.facts["symbols"]))
    return found


def answer_of_folder(folder: Path, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What a release computes, loaded the way its card says."""
    import torch
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCTC, AutoTokenizer

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    is_recogniser = "HubertForCTC" in (AutoConfig.from_pretrained(folder).architectures or [])
    kind: Any = AutoModelForCTC if is_recogniser else AutoModel
    network = kind.from_pretrained(folder, use_safetensors=True)
    inputs = [extractor(waveform(each), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt") for each in asked]
    found = _answer(network, asked, inputs)
    if is_recogniser and (folder / "phonemes.json").is_file():
        from models.hubert.convert import symbols_of

        symbols = symbols_of(folder)
        # Everything after the blank goes the way of a user's text.
        ids = AutoTokenizer.from_pretrained(folder)(" ".join(symbols[1:]))["input_ids"]
        blank = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(symbols[0])
        found["the ids of the phonemes"] = torch.tensor([blank, *ids])
    return found


def _answer(network: Any, asked: list[dict[str, Any]], inputs: list[Any]) -> dict[str, "torch.Tensor"]:
    """Pass recordings through a network one at a time."""
    import torch

    network.eval()
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for number, (probe, each) in enumerate(zip(asked, inputs, strict=True)):
            given = network(**each)
            tensor = given.logits if hasattr(given, "logits") else given.last_hidden_state
            found[f"what it computes of {number} {probe['kind']}"] = tensor[0].clone()
    return found


def example(name: str, network: Any, package: Any, facts: dict[str, Any]) -> str:  # noqa: ARG001 - as every family has it
    """The program on a card: a recording's phonemes, or its hidden states.

    Args:
        name: what the release is called; the program finds its folder under this name.
        network: the recipe's section of the network.
        package: the recipe's section of the package.
        facts: the encoder's.
    """
    return "\n".join(_recognising(name) if package.layouts[0] == "ctc" else _hearing(name)) + "\n"


def limits(network: Any, layout: str) -> str:
    """What a card says of a layout beside what its recipe knows.

    Args:
        network: the recipe's section of the network.
        layout: a key of `schema.LAYOUTS`.
    """
    told = []
    if layout == "transformers":
        told.append(
            "`units/` holds the centroids of the units that this model has learnt to predict. They were found among "
            "features that were there before it, MFCC or states of another network, as `units/units.json` says: its "
            "own states have no place among them."
        )
    if network.conv_norm == "group":
        told.append(
            "In transformers the norm of the first convolution counts padding too, and the feature extractor gives no "
            "mask of it, so a recording gives other numbers in a padded batch than alone: pass recordings one by one, "
            "or cut to one length."
        )
    return "\n\n".join(told)


def _recognising(name: str) -> list[str]:
    """From ids, since the tokenizer's `decode` leaves word boundaries out."""
    return [
        "import soundfile",
        "from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer",
        "from transformers.utils import cached_file",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "extractor, tokenizer = AutoFeatureExtractor.from_pretrained(name), AutoTokenizer.from_pretrained(name)",
        "model = AutoModelForCTC.from_pretrained(name)",
        'wave, rate = soundfile.read(cached_file(name, "example.wav"))  # 16 kHz, mono; or a recording of yours',
        'logits = model(**extractor(wave, sampling_rate=rate, return_tensors="pt")).logits[0]',
        "ids = logits.argmax(1).unique_consecutive()",
        "print(*tokenizer.convert_ids_to_tokens(ids[ids > 0].tolist()))  # id 0 is the blank",
    ]


def _hearing(name: str) -> list[str]:
    return [
        "import numpy",
        "from transformers import AutoFeatureExtractor, AutoModel",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "extractor, model = AutoFeatureExtractor.from_pretrained(name), AutoModel.from_pretrained(name)",
        "wave = numpy.sin(numpy.arange(16_000) / 20)  # one second at 16 kHz; of a file: soundfile.read(PATH)[0]",
        'inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")',
        "print(model(**inputs).last_hidden_state.shape)  # recordings, frames of 20 ms, width",
    ]
