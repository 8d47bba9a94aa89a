"""Random generators: a function of (seed, step, rank), so a checkpoint needs none of their states."""

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed torch (every device), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def states(device: torch.device) -> list[torch.Tensor]:
    """What torch's generators of the CPU and of a device stand at."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore(device: torch.device, before: list[torch.Tensor]) -> None:
    """Set torch's generators back to what `states` gave."""
    torch.set_rng_state(before[0])
    if len(before) > 1:
        torch.cuda.set_rng_state(before[1], device)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed for one optimiser step of one process: dropout falls alike however often the training was stopped."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    seed_everything(int.from_bytes(digest, "little") >> 1)  # torch takes what fits int64
