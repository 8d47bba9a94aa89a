"""Japanese read aloud by OpenJTalk and the HTS engine (pyopenjtalk-plus), with the voice that it bundles.

A speaker is that voice at another pitch and speed and with another vocal tract: the all-pass constant of its spectra
(ALPHA in the header of the voice file) is changed in a copy.
"""

import re
import tempfile
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from components.openjtalk import openjtalk
from components.outcomes import Refused
from models.frames import SAMPLE_RATE_HZ

REVISION = 1
FULL_SCALE = 32_768.0
GAIN = 0.5
"""The engine reaches 1.7 times full scale; with this, no utterance needs to be made softer than others."""
MOST = 0.98
"""A sound that would be louder is made softer as a whole: clipping would be heard."""
ALPHA = re.compile(rb"(OPTION\[MCP\]:ALPHA=)(\d\.\d\d)")


class OpenJTalk:
    """The bundled voice, at any speaker's pitch, speed and warp."""

    def __init__(self, name: str) -> None:
        self.voice = _voice_bytes(name)
        self.facts: dict[str, Any] = {
            "kind": "openjtalk",
            "voice": name,
            "pyopenjtalk-plus": version("pyopenjtalk-plus"),
            "revision": REVISION,
        }
        self.engines: dict[float, Any] = {}

    def say(self, text: str, speaker: Any) -> np.ndarray:
        """float32 [samples] at 16 kHz, within [-1, 1]; empty if nothing in the text can be spoken."""
        labels = openjtalk().extract_fullcontext(text)
        engine = self._engine(speaker.warp)
        engine.set_speed(speaker.speed)
        engine.add_half_tone(speaker.half_tone)
        wave = engine.synthesize(labels) / FULL_SCALE * GAIN
        if not len(wave) or not np.abs(wave).max() > 0:
            return np.zeros(0, np.float32)
        return _resampled(wave * min(1.0, MOST / np.abs(wave).max()), engine.get_sampling_frequency())

    def _engine(self, warp: float) -> Any:
        """The engine with one warp; it reads the voice when it is made, from a file."""
        from pyopenjtalk.htsengine import HTSEngine

        warp = round(warp, 2)
        if warp not in self.engines:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "warped.htsvoice"
                path.write_bytes(warped(self.voice, warp))
                self.engines[warp] = HTSEngine(str(path).encode())
        return self.engines[warp]


def warped(voice: bytes, warp: float) -> bytes:
    """A voice file with another all-pass constant; the offsets in its header stay true, since no byte moves."""
    changed, count = ALPHA.subn(lambda found: found[1] + f"{warp:.2f}".encode(), voice)
    if count != 1:
        raise Refused(
            f"The voice file names its ALPHA {count} times, expected once as in mei_normal.htsvoice. Install the "
            "version of pyopenjtalk-plus that requirements.lock names."
        )
    return changed


@cache
def _voice_bytes(name: str) -> bytes:
    return resources.files(openjtalk()).joinpath("htsvoice", f"{name}.htsvoice").read_bytes()


def _resampled(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    import torch
    from torchaudio.functional import resample

    with torch.inference_mode():  # in double precision: what is then rounded to 16 bits is the same everywhere
        found: np.ndarray = resample(torch.from_numpy(wave), rate_hz, SAMPLE_RATE_HZ).numpy().astype(np.float32)
    return found


def open_engine(section: Any) -> OpenJTalk:
    """The engine of a section: `components.voices.schema.Voice`."""
    return OpenJTalk(section.name)
