"""A project in which only an `align` is left to run, and the same work as files that a peer can read.

The network that alignment starts from is random, but never says a special id: whoever samples from it until its answer
ends gets answers of the greatest length, the same on both sides.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.project import ENCODER, PRECISIONS, SEED, Schedule, Shape, inside, recipe_of, write_encoder
from models.conversation import CHOSEN, PROMPT

START, REWARD = "start", "judge"
CONVERSATIONS, QUESTIONS = f"conversations+{ENCODER}", f"questions+{ENCODER}"
SFT_STEM, PPO_STEM = "sft", "ppo"
CRITICS = ("shared", "separate")
PROMPT_TOKENS = (8, 24)
"""Of a prompt, the least and the most."""
CONVERSATION_TOKENS = ((10, 60), (10, 110))
"""Of a prompt and of its answer, likewise."""
LEAST_USED_SHARE = 0.9
"""Of the places of all windows; what a packing of so short sequences must reach for sides to have as many windows."""


@dataclass(frozen=True)
class Rounds:
    """What a round of PPO does, on both sides."""

    num_prompts: int
    mini_batch_samples: int
    answer_tokens: int
    num_epochs: int
    learning_rate: float = 3e-6
    value_weight: float = 0.1
    kl_coefficient: float = 0.05
    discount: float = 1.0
    trace: float = 0.95


def write_alignment(folder: Path, shape: Shape, schedule: Schedule, rounds: Rounds, micro_windows: int) -> int:
    """Write recipes, encoder, shards, the networks they start from; for peers `work.json`, networks and two `.json`.

    Args:
        folder: the project's.
        shape: of network and batch.
        schedule: of both sides.
        rounds: of PPO.
        micro_windows: windows of fine-tuning that pass through the network at a time.

    Returns:
        Tokens of the conversations that a step of fine-tuning reads.
    """
    from components import paths
    from components.modalities.text import open_encoder

    recipes = {START: recipe_of(shape, schedule, "fp32"), REWARD: _reward_recipe(shape, schedule)}
    for precision in PRECISIONS:
        recipes[f"{SFT_STEM}-{precision}"] = sft_recipe(shape, schedule, precision, micro_windows)
        for critic in CRITICS:
            recipes[f"{PPO_STEM}-{critic}-{precision}"] = ppo_recipe(shape, schedule, rounds, critic, precision)
    (folder / "recipes").mkdir(parents=True)
    for name, recipe in recipes.items():
        text = json.dumps(recipe, indent=1)  # every JSON is YAML
        (folder / "recipes" / f"{name}.yaml").write_text(text + "\n", encoding="utf-8")
    with inside(folder):
        write_encoder(shape.num_ids)
        encoder = open_encoder(paths.payload("fit", ENCODER))
        _write_networks(encoder.facts)
        chance = np.random.default_rng(SEED)
        rows = list(_filling(shape, chance, encoder.facts["eos"]))
        _write_shards(CONVERSATIONS, {"train": rows, "valid": rows[:1]}, encoder)
        questions = [_conversation(shape, chance, encoder.facts["eos"], (PROMPT_TOKENS, (1, 1))) for _ in range(256)]
        _write_shards(QUESTIONS, {"train": questions, "valid": questions[: rounds.mini_batch_samples]}, encoder)
        _write_for_peers(shape, schedule, rounds, rows, questions, encoder.facts, micro_windows)
    return sum(map(len, rows))


# ---- recipes ---------------------------------------------------------------------------------------------------------


def sft_recipe(shape: Shape, schedule: Schedule, precision: str, micro_windows: int) -> dict[str, Any]:
    """Supervised fine-tuning on every conversation in each step."""
    samples = {
        "form": "conversations",
        "window_tokens": shape.window_tokens,
        "batch_tokens": shape.batch_tokens,
        "micro_batch_tokens": micro_windows * shape.window_tokens,
    }
    recipe = _aligned(shape, schedule, precision, {"kind": "sft"}, samples, CONVERSATIONS)
    rate = {"kind": "cosine", "warmup_steps": schedule.num_steps // 3}
    recipe["align"] |= {"optimizer": {"learning_rate": schedule.learning_rate}, "learning_rate": rate}
    return recipe


def ppo_recipe(shape: Shape, schedule: Schedule, rounds: Rounds, critic: str, precision: str) -> dict[str, Any]:
    """PPO as TRL does it: the plain reward, no penalty for answers that do not end."""
    objective = {
        "kind": "ppo",
        "reward": REWARD,
        "critic": critic,
        "num_epochs": rounds.num_epochs,
        "mini_batch_samples": rounds.mini_batch_samples,
        "max_answer_tokens": rounds.answer_tokens,
        "kl_coefficient": rounds.kl_coefficient,
        "discount": rounds.discount,
        "trace": rounds.trace,
        "value_weight": rounds.value_weight,
        "normalise_rewards": False,
        "missing_end_penalty": 0.0,
        "max_token_share": 1.0,
    }
    samples = {
        "form": "prompts",
        "batch_samples": rounds.num_prompts,
        "micro_batch_samples": rounds.mini_batch_samples,
        "max_tokens": PROMPT_TOKENS[1],
    }
    recipe = _aligned(shape, schedule, precision, objective, samples, QUESTIONS)
    recipe["align"] |= {
        "optimizer": {"learning_rate": rounds.learning_rate, "weight_decay": 0.0},
        "learning_rate": {"kind": "constant"},
        "guard": {"spike_ratio": None},
    }
    return recipe


def _reward_recipe(shape: Shape, schedule: Schedule) -> dict[str, Any]:
    samples = {"form": "preferences", "batch_samples": 1, "micro_batch_samples": 1, "max_tokens": shape.window_tokens}
    recipe = _aligned(shape, schedule, "fp32", {"kind": "reward"}, samples, CONVERSATIONS)
    recipe["align"] |= {"optimizer": {"learning_rate": schedule.learning_rate}}
    recipe["package"]["layouts"] = ["reward"]
    return recipe


def _aligned(
    shape: Shape, schedule: Schedule, precision: str, objective: dict[str, Any], samples: dict[str, Any], shards: str
) -> dict[str, Any]:
    """What all aligned recipes share."""
    recipe = recipe_of(shape, schedule, precision)
    del recipe["pretrain"]
    align = {
        "shards": [{"shards": shards}],
        "objective": objective,
        "samples": samples,
        "num_steps": schedule.num_steps,
        "precision": precision,
        "seed": SEED,
        "validate_every_steps": schedule.num_steps,
        "valid_samples": schedule.valid_windows,
        "log_every_steps": 1,  # Trainer logs means over the steps since it last did
    }
    return {**recipe, "starts_from": START, "align": align}


# ---- states ----------------------------------------------------------------------------------------------------------


def _write_networks(facts: dict[str, Any]) -> None:
    """What alignment starts from, and a reward model: random ones."""
    import torch

    from components import paths, randomness
    from components.manifest import Manifest, writing
    from components.recipes import Library
    from models.gpt import convert, network

    randomness.seed_everything(SEED)
    start: Any = network.build(Library().read("recipe", START).network, facts)
    base = start.base_model
    special = sorted({facts[role] for role in ("unk", "bos", "eos", "pad")})
    with torch.no_grad():
        base.ln_f.bias[0] = 10.0  # more than the norm can take away, so the first column decides who is never said
        base.wte.weight[special, 0] = -5.0
    judge = network.with_scalar_head(network.build(Library().read("recipe", START).network, facts))
    for verb, name, made in (("pretrain", START, start), ("align", REWARD, judge)):
        with writing(Manifest(verb, name, revisions={})) as folder:
            convert.save(made, folder / paths.PAYLOAD[verb])


def _conversation(
    shape: Shape, chance: np.random.Generator, eos: int, bounds: tuple[tuple[int, int], tuple[int, int]]
) -> np.ndarray:
    """A prompt and its answer of random lengths: rows of (id, part)."""
    from components.tokenizer_json import SPECIALS

    asked, answered = (int(chance.integers(low, high + 1)) for low, high in bounds)
    shares = 1 / np.arange(1, shape.num_ids - len(SPECIALS) + 1)
    ids = chance.choice(len(shares), asked + answered, p=shares / shares.sum()) + len(SPECIALS)
    parts = np.repeat([PROMPT, CHOSEN], [asked, answered + 1])
    return np.stack([np.append(ids, eos), parts], axis=1)


def _filling(shape: Shape, chance: np.random.Generator, eos: int) -> Iterator[np.ndarray]:
    """As many conversations as fill the windows of one batch, and no more."""
    from components.modalities.text.packing import packed

    rows: list[np.ndarray] = []
    while True:
        row = _conversation(shape, chance, eos, CONVERSATION_TOKENS)
        lengths = np.array([len(each) for each in [*rows, row]])
        if len(packed(lengths, shape.window_tokens + 1)) > shape.batch_windows:
            break
        rows.append(row)
    share = sum(map(len, rows)) / (shape.batch_windows * (shape.window_tokens + 1))
    if share < LEAST_USED_SHARE:
        raise AssertionError(f"the conversations fill {share:.0%} of their windows, expected {LEAST_USED_SHARE:.0%}")
    yield from rows


def _write_shards(name: str, rows: dict[str, list[np.ndarray]], encoder: Any) -> None:
    from components import paths
    from components.manifest import Manifest, read_manifest, writing
    from components.modalities.text import write_shards

    parents = {paths.payload("fit", ENCODER).as_posix(): read_manifest("fit", ENCODER).payload_hash}
    encoded = ((split, row) for split, each in rows.items() for row in each)
    with writing(Manifest("shard", name, revisions={}, parents=parents)) as folder:
        write_shards(encoded, encoder, folder / paths.PAYLOAD["shard"])


def _write_for_peers(
    shape: Shape, schedule: Schedule, rounds: Rounds, rows: list[np.ndarray], questions: list[np.ndarray],
    facts: dict[str, Any], micro_windows: int,
) -> None:  # fmt: skip
    """The work of the recipes, as plain files."""
    from components import paths
    from components.optimizers import learning_rate
    from components.recipes import Library

    training = Library().read("recipe", f"{SFT_STEM}-fp32").align
    work = {
        "num_steps": schedule.num_steps,
        "warmup_steps": schedule.warmup_steps,
        "batch_windows": shape.batch_windows,
        "window_tokens": shape.window_tokens,
        "optimizer": training.optimizer.model_dump(),
        "learning_rates": [learning_rate(training, step) for step in range(1, schedule.num_steps + 1)],
        "micro_windows": micro_windows,
        "rounds": vars(rounds),
        "eos": facts["eos"],
        "pad": facts["pad"],
        "num_ids": shape.num_ids,
        "start": paths.payload("pretrain", START).as_posix(),
        "judge": paths.payload("align", REWARD).as_posix(),
    }
    Path("work.json").write_text(json.dumps(work), encoding="utf-8")
    conversations = [
        {"input_ids": row[:, 0].tolist(), "completion_mask": (row[:, 1] == CHOSEN).astype(int).tolist()} for row in rows
    ]
    Path("conversations.json").write_text(json.dumps(conversations), encoding="utf-8")
    asked = [{"input_ids": row[row[:, 1] == PROMPT, 0].tolist()} for row in questions]
    Path("questions.json").write_text(json.dumps(asked), encoding="utf-8")
