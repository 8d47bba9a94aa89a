"""A project whose only stage left to run is a `pretrain`, and the same work as files that a peer can read.

Its text is made: characters whose frequencies fall as 1 / rank (Zipf's law), so that a loss has something to learn, and
each is one token of a vocabulary of any size.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ENCODER, SHARDS = "characters", "zipf+characters"
SEED = 0
DOCUMENT_TOKENS = 500
"""Of a document, the end of its text included."""
MAX_TRAIN_TOKENS = 4_000_000
"""Longer trainings read them again."""
LETTERS = [*range(0x4E00, 0xA000), *range(0xAC00, 0xD7A4)]
"""Code points that a token can be: CJK ideographs and Hangul syllables of Unicode 1.1 and 2.0."""
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Shape:
    """A GPT-2 network and its batch."""

    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    window_tokens: int
    batch_windows: int
    encoder_size: int | None = None
    """Ids that tokens have, where the embedding has more rows than that."""
    activation: str = "gelu_new"

    @property
    def num_ids(self) -> int:
        """Ids that tokens have."""
        return self.encoder_size or self.vocab_size

    @property
    def batch_tokens(self) -> int:
        """Tokens that one step predicts."""
        return self.batch_windows * self.window_tokens

    def step_flops(self) -> float:
        """Model FLOPs of one step, forward and backward (Chowdhery et al. 2022, PaLM, appendix B).

        Of each token 6 for each weight that it is multiplied with, and 12 * layers * width * window for attention, as
        if every position saw the whole window. What is computed twice counts once.
        """
        layer = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        weights = self.num_layers * layer + self.vocab_size * self.hidden_size
        attention = 12 * self.num_layers * self.hidden_size * self.window_tokens
        return float(self.batch_tokens * (6 * weights + attention))


@dataclass(frozen=True)
class Schedule:
    """How long both sides train, and what they do beside."""

    num_steps: int
    warmup_steps: int
    """Steps that are not measured."""
    valid_windows: int
    learning_rate: float = 1e-3


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """A project is read from the current folder."""
    kept = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(kept)


def write_project(folder: Path, shape: Shape, schedule: Schedule) -> None:
    """Write recipes for each precision, an encoder and shards; for a peer `work.json`, `initial/` and two `.npy`."""
    (folder / "recipes").mkdir(parents=True)
    for precision in PRECISIONS:
        recipe = json.dumps(recipe_of(shape, schedule, precision), indent=1)  # every JSON is YAML
        (folder / "recipes" / f"{precision}.yaml").write_text(recipe + "\n", encoding="utf-8")
    with inside(folder):
        write_encoder(shape.num_ids)
        _write_shards(shape, schedule)
        _write_for_peer(shape, schedule)


def recipe_of(shape: Shape, schedule: Schedule, precision: str) -> dict[str, Any]:
    """What stands in a recipe's YAML."""
    return {
        "family": "gpt",
        "description": "What a benchmark trains.",
        "language": "ja",
        "licence": "CC0-1.0",
        "network": {
            "architecture": "gpt2",
            "num_layers": shape.num_layers,
            "hidden_size": shape.hidden_size,
            "num_heads": shape.num_heads,
            "intermediate_size": shape.intermediate_size,
            "max_positions": shape.window_tokens,
            "vocab_size": shape.vocab_size,
            "activation": shape.activation,
        },
        "encoder": ENCODER,
        "pretrain": {
            "shards": [{"shards": SHARDS}],
            "objective": {"kind": "next-token"},
            "samples": {
                "window_tokens": shape.window_tokens,
                "batch_tokens": shape.batch_tokens,
                "micro_batch_tokens": shape.batch_tokens,
            },
            "num_steps": schedule.num_steps,
            "optimizer": {"learning_rate": schedule.learning_rate},
            "learning_rate": {"kind": "cosine", "warmup_steps": schedule.num_steps // 3},
            "precision": precision,
            "seed": SEED,
            # Once, after the last step; its share of a long training is added by arithmetic.
            "validate_every_steps": schedule.num_steps,
            "valid_samples": schedule.valid_windows,
        },
        "evaluate": {"tasks": ["none"]},
        "package": {"title": "None", "summary": "None.", "limits": "All.", "example_prompt": chr(LETTERS[0])},
    }


def write_encoder(num_ids: int) -> None:
    """A SentencePiece model whose pieces are single characters."""
    import sentencepiece

    from components import paths
    from components.manifest import Manifest, writing
    from components.tokenizer_json import MODEL_NAME, SPECIALS

    letters = "".join(map(chr, LETTERS[: num_ids - len(SPECIALS)]))
    options: dict[str, Any] = {f"{role}_id": number for number, role in enumerate(SPECIALS)}
    options |= {f"{role}_piece": piece for role, piece in SPECIALS.items()}
    lines = [letters[start : start + DOCUMENT_TOKENS] for start in range(0, len(letters), DOCUMENT_TOKENS)]
    with writing(Manifest("fit", ENCODER, revisions={})) as folder:
        place = folder / paths.PAYLOAD["fit"]
        place.mkdir()
        with (place / MODEL_NAME).open("wb") as model:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type="char",
                vocab_size=num_ids,
                character_coverage=1.0,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                minloglevel=2,
                **options,
            )


def _write_shards(shape: Shape, schedule: Schedule) -> None:
    """Enough documents for every step to read its own windows, and for validation."""
    from components import paths
    from components.manifest import Manifest, read_manifest, writing
    from components.modalities.text import open_encoder, write_shards
    from components.tokenizer_json import SPECIALS

    place = paths.payload("fit", ENCODER)
    encoder = open_encoder(place)
    if encoder.facts["vocab_size"] != shape.num_ids:
        raise AssertionError(f"the encoder has {encoder.facts['vocab_size']} ids, expected {shape.num_ids}")
    chance = np.random.default_rng(SEED)
    letters = np.array(LETTERS[: shape.num_ids - len(SPECIALS)])
    shares = 1 / np.arange(1, len(letters) + 1)
    steps_tokens = min(MAX_TRAIN_TOKENS, (schedule.num_steps + 1) * shape.batch_tokens)
    needed = {"train": steps_tokens, "valid": (schedule.valid_windows + 1) * shape.window_tokens}

    def encoded() -> Iterator[tuple[str, np.ndarray]]:
        for split, num_tokens in needed.items():
            for _ in range(num_tokens // DOCUMENT_TOKENS + 1):
                points = chance.choice(letters, DOCUMENT_TOKENS - 1, p=shares / shares.sum())
                yield split, encoder.encode(["".join(map(chr, points))])[0]

    parents = {place.as_posix(): read_manifest("fit", ENCODER).payload_hash}
    with writing(Manifest("shard", SHARDS, revisions={}, parents=parents)) as folder:
        write_shards(encoded(), encoder, folder / paths.PAYLOAD["shard"])


def _write_for_peer(shape: Shape, schedule: Schedule) -> None:
    """The work of the fp32 recipe, which is that of the other: first weights, windows in their order, rates."""
    from components import paths, randomness
    from components.batches import BatchPlan, valid_batches
    from components.modalities.text import open_encoder, open_samples
    from components.optimizers import learning_rate
    from components.recipes import Library
    from models.gpt import convert, network

    recipe = Library().read("recipe", "fp32")
    training = recipe.pretrain
    randomness.seed_everything(training.seed)
    initial = network.build(recipe.network, open_encoder(paths.payload("fit", ENCODER)).facts)
    convert.save(initial, Path("initial"))
    folders = [(paths.payload("shard", SHARDS), 1.0)]
    samples = {split: open_samples(folders, split, training.samples) for split in ("train", "valid")}
    plan = BatchPlan(len(samples["train"]), training.samples.batch_samples, training.seed)
    read = [plan.indices(number) for number in range(schedule.num_steps)]
    windows = [samples["train"].batch(indices, epoch)["input_ids"].numpy() for epoch, indices in read]
    np.save("train.npy", np.concatenate(windows).astype(np.int32))
    held_out = [batch["input_ids"].numpy() for batch in valid_batches(training, samples["valid"])]
    np.save("valid.npy", np.concatenate(held_out).astype(np.int32))
    work = {
        **asdict(schedule),
        "batch_windows": shape.batch_windows,
        "log_every_steps": training.log_every_steps,
        "optimizer": training.optimizer.model_dump(),
        "learning_rates": [learning_rate(training, step) for step in range(1, schedule.num_steps + 1)],
    }
    Path("work.json").write_text(json.dumps(work), encoding="utf-8")
