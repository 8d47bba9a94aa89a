"""Frames to cluster: MFCC of speech that OpenJTalk makes here, and vectors that are spread like a layer's."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SPEECH_SECONDS = 420.0
"""Of speech that is made; the rest of the frames are copies with noise."""
JITTER = 0.05
"""Of copies, as a share of each number's deviation."""
LAYER_SIZE, LAYER_CENTRES, LAYER_RANK = 768, 2_000, 32
SPEEDS, HALF_TONES = (0.85, 1.0, 1.2), (-6.0, -2.0, 0.0, 2.0)
SPOKEN_RATE_HZ = 48_000


def _sentences() -> Iterator[str]:
    from components.generators import GENERATORS

    with TemporaryDirectory() as place:
        GENERATORS["world"](Path(place))
        lines = [
            line
            for file in sorted((Path(place) / "demo" / "text").iterdir())
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
    for line in itertools.cycle(lines):
        yield from (part for part in json.loads(line)["text"].split("。") if part.strip())


def spoken_frames(num_frames: int) -> np.ndarray:
    """MFCC of generated speech, a row every 10 ms, float32 [num_frames, 39]; the same on every machine."""
    import pyopenjtalk
    import torch
    from torchaudio.functional import resample

    from components.modalities.speech.features import mfcc
    from models.frames import SAMPLE_RATE_HZ

    found: list[np.ndarray] = []
    voices = itertools.cycle(itertools.product(SPEEDS, HALF_TONES))
    for sentence, (speed, half_tone) in zip(_sentences(), voices, strict=False):
        wave, _ = pyopenjtalk.tts(sentence, speed=speed, half_tone=half_tone)
        scaled = torch.from_numpy(wave).float() / max(32_768.0, float(np.abs(wave).max()))
        found.append(mfcc(resample(scaled, SPOKEN_RATE_HZ, SAMPLE_RATE_HZ)).numpy())
        if sum(map(len, found)) >= min(num_frames, SPEECH_SECONDS * 100):
            break
    frames = np.concatenate(found)
    copies = np.tile(frames, (-(-num_frames // len(frames)), 1))[:num_frames]
    noise = np.random.default_rng(0).standard_normal(copies.shape, dtype=np.float32)
    noise[: len(frames)] = 0
    return copies + noise * (JITTER * frames.std(axis=0))


def layer_like_frames(num_frames: int) -> np.ndarray:
    """Clusters of unequal size with noise along few directions, float32 [num_frames, 768], as a layer's states are."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((LAYER_CENTRES, LAYER_SIZE), dtype=np.float32)
    directions = generator.standard_normal((LAYER_RANK, LAYER_SIZE), dtype=np.float32)
    shares = generator.dirichlet(np.full(LAYER_CENTRES, 0.7))
    frames = np.empty((num_frames, LAYER_SIZE), np.float32)
    for start in range(0, num_frames, 50_000):
        part = frames[start : start + 50_000]
        along = generator.standard_normal((len(part), LAYER_RANK), dtype=np.float32)
        part[:] = centres[generator.choice(LAYER_CENTRES, len(part), p=shares)] + 0.15 * along @ directions
        part += 0.3 * generator.standard_normal(part.shape, dtype=np.float32)
    return frames
