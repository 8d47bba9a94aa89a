"""Two processes share the groups of recordings of a step, over gloo, and train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from components import paths
from components.fit import fit
from components.shard import shard
from tests.components.speech.small_speech import small_records, write_project, write_yaml
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SHAPE: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "conv_dims": [8] * 7,
    "position_kernel": 16, "position_groups": 4, "head_size": 8,
}  # fmt: skip
NO_CHANCE = dict.fromkeys(
    ("dropout", "attention_dropout", "activation_dropout", "projection_dropout", "head_dropout", "layerdrop"), 0.0
)
"""Ranks draw from generators of their own."""
STEPS = 6


def write_recipe(strategy: str) -> None:
    recipe = {
        "family": "hubert",
        "description": "what ranks share",
        "language": "ja",
        "licence": "CC0-1.0",
        "network": SHAPE | NO_CHANCE,
        "encoder": "phones",
        "pretrain": {
            "shards": [{"shards": "tones+phones"}],
            "objective": {"kind": "ctc", "time_mask_share": 0, "channel_mask_share": 0, "freeze_front_end": False},
            "samples": {
                "form": "utterances",
                "waveforms": ["tones+wave"],
                "batch_seconds": 4,
                "batches_per_step": 2,
                "max_seconds": 2,
            },
            "num_steps": STEPS,
            "optimizer": {"learning_rate": 0.001},
            "learning_rate": {"kind": "constant"},
            "guard": {"spike_ratio": None},
            "log_every_steps": 1,
            "strategy": strategy,
        },
        "evaluate": {"tasks": ["errors"]},
        "package": {"layouts": ["ctc"], "title": "t", "summary": "s", "limits": "l"},
    }
    task = {"kind": "phoneme-error-rate", "speaker": "speaker", "corpus": "tones"}
    write_yaml(paths.RECIPES / "tasks" / "errors.yaml", task)
    write_yaml(paths.RECIPES / "shared.yaml", recipe)


def train(root: Path, strategy: str, num_devices: int) -> dict[int, float]:
    """Losses by step."""
    root.mkdir()
    os.chdir(root)
    write_project(small_records())
    write_recipe(strategy)
    for name in ("phones", "wave"):
        fit(name)
        shard(f"tones+{name}")
    environment = os.environ | {
        "HIRAKU_NUM_DEVICES": str(num_devices),
        "HIRAKU_NUM_THREADS": "1",
        "HIRAKU_ACCELERATOR": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "components", "pretrain", "shared"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((paths.state("pretrain", "shared") / "curve.json").read_text())
    return {row["step"]: row["metrics"]["pretrain/loss"] for row in rows if "pretrain/loss" in row["metrics"]}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_train_a_recogniser_as_one_does(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone, together = (train(tmp_path / str(number), strategy, number) for number in (1, 2))
    assert sorted(alone) == list(range(1, STEPS + 1))
    assert together == pytest.approx(alone, rel=1e-5)
    files = [tmp_path / number / paths.payload("pretrain", "shared") / "model.safetensors" for number in "12"]
    ours, theirs = map(load_file, files)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_close(ours[name], theirs[name], rtol=1e-4, atol=2e-5, msg=name)
