"""The encoder of plain waveforms."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.speech.recordings import decoded
from models.frames import SAMPLE_RATE_HZ

NAME = "waveform.json"


class WaveformEncoder:
    """FLAC to samples."""

    kind = "waveform"
    dtype = np.dtype("<i2")

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def encode(self, values: list[bytes]) -> list[np.ndarray]:
        """int16 [samples] of each."""
        return [decoded(value) for value in values]

    def vocabulary(self) -> dict[int, str]:
        """Samples stand for nothing."""
        return {}


def fit(folder: Path) -> dict[str, Any]:
    """Write down what samples are."""
    facts = {"sample_rate_hz": SAMPLE_RATE_HZ}
    (folder / NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return dict(facts)


def open_encoder(folder: Path) -> WaveformEncoder:
    """What `fit` left."""
    return WaveformEncoder(json.loads((folder / NAME).read_text(encoding="utf-8")))
