"""A project whose only stage left to run is a tiny `pretrain`, and processes that run and kill it."""

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECIPE = """
family: gpt
description: The smallest network that trains.
language: ja
licence: CC0-1.0
network:
  {{architecture: {architecture}, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 32,
    max_positions: 16, dropout: {dropout}}}
encoder: letters
pretrain:
  shards: [{{shards: stories+letters}}]
  objective: {{kind: next-token}}
  samples: {{window_tokens: 8, batch_tokens: 64, micro_batch_tokens: {micro_tokens}}}
  num_steps: {num_steps}
  strategy: {strategy}
  # The bias of the keys has no gradient but rounding, which a smaller epsilon would blow up to a whole step.
  optimizer: {{learning_rate: 0.01, epsilon: 0.001}}
  learning_rate: {{kind: cosine, warmup_steps: 3}}
  validate_every_steps: {validate_every}
  ema_decay: {ema_decay}
  valid_samples: 10
  preview: {{prompts: [むかし], new_tokens: 4}}
evaluate: {{tasks: [none]}}
package: {{title: Tiny, summary: Tiny., limits: All., example_prompt: むかし}}
"""


def write_project(
    root: Path, num_steps: int = 30, architecture: str = "gpt2", name: str = "tiny", strategy: str = "single",
    dropout: float = 0.1, micro_tokens: int = 32, validate_every: int = 7, ema_decay: float | None = None,
) -> None:  # fmt: skip
    """Write recipe, tokenizer and shards below a folder, which becomes the current one."""
    import sentencepiece

    from components import paths
    from components.manifest import Manifest, writing
    from components.modalities.text import shards
    from components.modalities.text.tokenizers import SPECIALS, open_encoder

    os.chdir(root)
    (root / "recipes").mkdir(exist_ok=True)
    values = {"num_steps": num_steps, "architecture": architecture, "strategy": strategy, "dropout": dropout}
    values |= {"micro_tokens": micro_tokens, "validate_every": validate_every, "ema_decay": ema_decay or "null"}
    recipe = RECIPE.format(**values)
    (root / "recipes" / f"{name}.yaml").write_text(recipe, encoding="utf-8")
    chance = random.Random(0)
    letters = "むかしあるところにおじいさんとおばあさんがいました。"
    texts = ["".join(chance.choices(letters, k=chance.randint(5, 30))) for _ in range(60)]
    with writing(Manifest("fit", "letters", revisions={})) as folder:
        encoder_folder = folder / "encoder"
        encoder_folder.mkdir()
        with (encoder_folder / "spiece.model").open("wb") as model:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=300,
                model_type="bpe",
                byte_fallback=True,
                hard_vocab_limit=False,
                add_dummy_prefix=False,
                unk_id=0,
                bos_id=1,
                eos_id=2,
                pad_id=3,
                **{f"{role}_piece": piece for role, piece in SPECIALS.items()},
            )
    place = paths.payload("fit", "letters")
    encoder = open_encoder(place)
    from components.manifest import read_manifest

    parents = {place.as_posix(): read_manifest("fit", "letters").payload_hash}
    with writing(Manifest("shard", "stories+letters", revisions={}, parents=parents)) as folder:
        encoded = [("valid" if i % 5 == 0 else "train", ids) for i, ids in enumerate(encoder.encode(texts))]
        shards.write_shards(iter(encoded), encoder, folder / "shards")


def death_at(number: int) -> Callable[[Any, str, Any], None]:
    """A profile function that kills this process at the call or return of this number."""
    count = [0]

    def counted(_frame: Any, _event: str, _argument: Any) -> None:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return counted


def around_save(before: Any, after: Any) -> None:
    """Set these profile functions when a checkpoint is begun and when it is done."""
    from components.checkpoints import Checkpoints

    original = Checkpoints.save

    def wrapped(self: Any, step: int, state: Any) -> Path:
        sys.setprofile(before)
        place = original(self, step, state)
        sys.setprofile(after)
        return place

    Checkpoints.save = wrapped  # type: ignore[method-assign]


def kill_at_event(number: int) -> None:
    """Die anywhere but in a save, by calls and returns: in a pass, Lightning, the optimiser, a validation, a log.

    A save has ten times the events of all the rest of a step, and would take nearly every kill.
    """
    from models.gpt.objectives import NextTokenLoss

    death, original = death_at(number), NextTokenLoss.forward

    def first(self: Any, batch: Any) -> Any:
        NextTokenLoss.forward = original  # type: ignore[method-assign]
        sys.setprofile(death)
        return original(self, batch)

    NextTokenLoss.forward = first  # type: ignore[method-assign]
    around_save(None, death)


def kill_in_save(number: int) -> None:
    """Die anywhere in a save, counted in calls and returns within saves."""
    around_save(death_at(number), None)


def kill_at_save(number: int) -> None:
    """Die within the writing of the checkpoint of this number: its bytes are there, its name is not."""
    count, original = [0], os.fsync

    def counted(descriptor: int) -> None:
        count[0] += 1
        if count[0] == 2 * number - 1:  # a save flushes its file, then its folder
            os.kill(os.getpid(), signal.SIGKILL)
        original(descriptor)

    os.fsync = counted


def run_pretrain(
    root: str, checkpoint_root: str, num_workers: int, every_seconds: float, arm: Callable[[int], None] | None, at: int
) -> None:
    """The body of a process: one run of the verb, which may be killed on the way. Its lines go to `said.log`."""
    os.chdir(root)
    sys.stderr = Path("said.log").open("a", encoding="utf-8")  # noqa: SIM115 - until the process ends
    os.environ |= {
        "HIRAKU_CHECKPOINT_ROOT": checkpoint_root,
        "HIRAKU_CHECKPOINT_EVERY_SECONDS": str(every_seconds),
        "HIRAKU_NUM_WORKERS": str(num_workers),
        "HIRAKU_NUM_THREADS": "1",
        "HIRAKU_PROGRESS": "lines",
    }
    from components.pretrain import pretrain
    from components.settings import settings

    settings.cache_clear()
    if arm is not None:
        arm(at)
    pretrain("tiny")


def weights_of(root: Path) -> bytes:
    """The bytes of what a finished run left."""
    return (root / "artifacts" / "pretrained" / "tiny" / "weights" / "model.safetensors").read_bytes()


def points_of(root: Path) -> list[Any]:
    """(step, metrics) of the curve that is part of the state."""
    return json.loads((root / "artifacts" / "pretrained" / "tiny" / "curve.json").read_text(encoding="utf-8"))


class Windows:
    """Samples of random tokens, the same ones for the same number and epoch."""

    def __init__(self, num_samples: int, window_tokens: int, vocab_size: int) -> None:
        self.num_samples, self.shape, self.vocab_size = num_samples, window_tokens + 1, vocab_size

    def __len__(self) -> int:
        return self.num_samples

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        import torch

        rows = [np.random.default_rng([int(i), epoch]).integers(4, self.vocab_size, self.shape) for i in indices]
        return {"input_ids": torch.from_numpy(np.stack(rows))}
