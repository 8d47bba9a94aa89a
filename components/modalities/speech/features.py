"""What units are clusters of: a row of numbers for every 20 ms of a recording.

MFCC are those of Kaldi, as fairseq's HuBERT takes them: 13 coefficients of 23 mel bands over 25 ms, every 10 ms,
without dither, with two differences over five frames each. Every second row is kept: it begins at the sample where a
frame of HuBERT begins.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.speech.recordings import as_waveform
from components.modalities.speech.schema import LayerFeatures, Mfcc
from components.outcomes import Refused
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

if TYPE_CHECKING:
    from torch import Tensor

SHIFT_SAMPLES = 160
"""From one row of MFCC to the next: 10 ms."""
TRANSFORM_SAMPLES = 512
NUM_BANDS, NUM_CEPSTRA = 23, 13
LOWEST_HZ = 20.0
PREEMPHASIS, LIFTER, WINDOW_POWER = 0.97, 22.0, 0.85
DELTA_FRAMES = 5
MFCC_SIZE = 3 * NUM_CEPSTRA

Extract = Callable[[np.ndarray], np.ndarray]
"""int16 [samples] -> float32 [frames, numbers]."""


def num_frames(num_samples: int | np.ndarray) -> Any:
    """Frames of HuBERT, and so units, of so many samples; none of fewer than 400."""
    return np.maximum((num_samples - WINDOW_SAMPLES) // FRAME_SAMPLES + 1, 0)


@cache
def _tables() -> tuple["Tensor", "Tensor", "Tensor", "Tensor"]:
    """Window [400], mel bands [23, 257], cosines [23, 13], lifter [13]: Kaldi's, computed once."""
    import torch
    from torchaudio.compliance import kaldi
    from torchaudio.functional import create_dct

    # Povey's window: like Hamming's, but zero at its ends.
    window = torch.hann_window(WINDOW_SAMPLES, periodic=False).pow(WINDOW_POWER)
    nyquist = 0.0  # as offset from the highest frequency there is
    bands, _ = kaldi.get_mel_banks(
        NUM_BANDS, TRANSFORM_SAMPLES, float(SAMPLE_RATE_HZ), LOWEST_HZ, nyquist, 100.0, -500.0, 1.0
    )
    bands = torch.nn.functional.pad(bands, (0, 1))
    cosines = create_dct(NUM_BANDS, NUM_BANDS, "ortho")
    cosines[:, 0] = math.sqrt(1 / NUM_BANDS)  # Kaldi's first one differs from the orthonormal one by rounding
    places = torch.arange(NUM_CEPSTRA)
    lifter = 1.0 + 0.5 * LIFTER * torch.sin(math.pi * places / LIFTER)
    return window, bands.T, cosines[:, :NUM_CEPSTRA], lifter


def mfcc(wave: "Tensor") -> "Tensor":
    """float32 [samples] in [-1, 1) -> [rows, 39], a row every 10 ms; equal to torchaudio's in every bit."""
    import torch
    from torchaudio.functional import compute_deltas

    window, bands, cosines, lifter = _tables()
    frames = wave.unfold(0, WINDOW_SAMPLES, SHIFT_SAMPLES)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - PREEMPHASIS * before) * window
    power = torch.fft.rfft(frames, n=TRANSFORM_SAMPLES).abs().pow(2.0)
    energies = (power @ bands).clamp_min(torch.finfo(torch.float32).eps).log()
    cepstra = (energies @ cosines) * lifter
    deltas = compute_deltas(cepstra.T, DELTA_FRAMES)
    return torch.cat([cepstra, deltas.T, compute_deltas(deltas, DELTA_FRAMES).T], dim=1)


def _mfcc_of(samples: np.ndarray) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return mfcc(torch.from_numpy(as_waveform(samples)))[::2].numpy()


def _layer_of(section: LayerFeatures, weights: Path) -> Extract:
    """The hidden states of a network, of one recording at a time, so that nothing is padded.

    Raises:
        Refused: it has no such layer, or these weights are of another family or cannot be read.
    """
    import torch

    from components.devices import set_threads, uses_gpu
    from models import part_of
    from models.objective import Mismatch

    set_threads()
    device = "cuda" if uses_gpu() else "cpu"
    try:
        network = part_of(section.family, "convert").load(weights).to(device).eval()
    except Mismatch as error:
        raise Refused(
            f"Layer {section.layer} of '{section.model}' cannot be computed as family '{section.family}': {error} "
            "Change the keys 'features.model' and 'features.family' of the encoder, or make these weights again."
        ) from error
    if section.layer > (found := len(network.hubert.encoder.layers)):
        raise Refused(
            f"Layer {section.layer} is asked of the network in {weights}, expected 1 to {found}, of which it consists. "
            "Change the key 'features.layer' of the encoder."
        )
    layer = part_of(section.family, "features").layer

    def extract(samples: np.ndarray) -> np.ndarray:
        waves = torch.from_numpy(as_waveform(samples))[None].to(device)
        lengths = torch.tensor([len(samples)], device=device)
        with torch.inference_mode():
            hidden = layer(network, waves, lengths, section.layer)[0]
        return hidden.float().cpu().numpy()

    return extract


def open_features(section: Mfcc | LayerFeatures, weights: Path | None) -> Extract:
    """The function that computes a recording's features.

    Args:
        section: which ones.
        weights: of the network whose layer they are.
    """
    if isinstance(section, Mfcc):
        return _mfcc_of
    if weights is None:
        raise ValueError(f"features of a layer need the weights of '{section.model}'")
    return _layer_of(section, weights)
