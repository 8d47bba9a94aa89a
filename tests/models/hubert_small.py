"""A HuBERT of a few thousand parameters, and recordings of chance for it."""

from typing import Any

import torch

from models.frames import num_frames
from models.hubert.network import build
from models.hubert.schema import Network

SHAPE: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "conv_dims": [8] * 7,
    "position_kernel": 16, "position_groups": 4, "head_size": 8,
}  # fmt: skip
UNITS = {"num_units": 10, "frame_samples": 320}
SYMBOLS = ["<pad>", "|", "a", "ky", "o:", "q", "N"]
PHONEMES = {"vocab_size": 7, "blank": 0, "boundary": 1, "symbols": SYMBOLS}


def small(facts: dict[str, Any] = UNITS, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build(Network(**(SHAPE | changes)), facts)


def crops(rows: int = 3, num_samples: int = 16_000, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "waveforms": 0.1 * torch.randn(rows, num_samples, generator=generator),
        "lengths": torch.full((rows,), num_samples),
        "targets": torch.randint(0, 10, (rows, num_frames(num_samples)), generator=generator),
    }


def utterances(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    waveforms, lengths = 0.1 * torch.randn(3, 16_000, generator=generator), torch.tensor([16_000, 9_000, 5_123])
    waveforms[torch.arange(16_000) >= lengths[:, None]] = 0.0
    targets = torch.randint(1, 7, (3, 5), generator=generator)
    return {"waveforms": waveforms, "lengths": lengths, "targets": targets, "target_lengths": torch.tensor([5, 4, 2])}
