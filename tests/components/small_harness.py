"""Tiny networks with a real tokenizer, and a few items of each of the paper's tasks."""

import json
from pathlib import Path
from typing import Any

import torch

from components.modalities import text
from components.modalities.text import tokenizers
from components.modalities.text.schema import SentencePiece
from components.scoring import Model, open_model
from models.gpt import convert, network
from models.gpt.schema import GPT2, GPTNeoX
from tests.components.small_llama import untrained_llama
from tests.conftest import ROOT

SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "max_positions": 512}
NUM_ITEMS, NUM_EXAMPLES = 7, 6
PLACES = ("駅", "公園", "海", "図書館", "商店街", "学校", "病院")
FOODS = ("うどん", "寿司", "カレー", "そば", "餅")


def items(task: str, first: int, number: int) -> list[dict]:
    """So many items of a task, all different."""
    makers = {
        "jcommonsenseqa": lambda n: {
            "question": f"{n}人で食べるものは何？",
            **{f"choice{i}": f"{FOODS[(n + i) % 5]}" for i in range(5)},
            "label": n % 5,
        },
        "jnli": lambda n: {
            "sentence1": f"{n}人の男性が{PLACES[n % 7]}にいます。",
            "sentence2": f"{n}人が{PLACES[n * 3 % 7]}を見ています。",
            "label": n % 3,
        },
        "jsquad": lambda n: {
            "context": f"町 [SEP] 太郎は{n}月に{PLACES[n % 7]}へ行った。",
            "question": "どこへ行ったか。",
            "answers": {"text": [PLACES[n % 7], f"{PLACES[n % 7]}へ"], "answer_start": [0, 0]},
        },
        "xwinograd-ja": lambda n: {
            "sentence1": f"太郎は{n}回花子を見た。太郎は笑った。",
            "sentence2": f"太郎は{n}回花子を見た。花子は笑った。",
            "answer": str(1 + n % 2),
        },
        "xlsum-ja": lambda n: {"text": f"町で祭りがあった。{n}人が来た。", "summary": f"祭りに{n}人"},
        "mgsm-ja": lambda n: {
            "question": f"りんごが{n}個と3個あります。合わせて何個ですか？",
            "answer": f"{n}+3={n + 3}。答えは{n + 3}です。",
            "answer_number": n + 3,
        },
    }
    return [makers[task](first + each) for each in range(number)]


def write_items(root: Path, tasks: list[str]) -> None:
    """Files of tasks below `data/eval_ja`, and the project's prompts."""
    (root / "recipes").mkdir(exist_ok=True)
    if not (root / "recipes" / "tasks").exists():
        (root / "recipes" / "tasks").symlink_to(ROOT / "recipes" / "tasks")
    for task in tasks:
        place = root / "data" / "eval_ja" / task.replace("-", "_")
        place.mkdir(parents=True, exist_ok=True)
        for split, first, number in (
            ("train", 100, NUM_EXAMPLES),
            ("validation", 1, NUM_ITEMS),
            ("test", 1, NUM_ITEMS),
        ):
            rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in items(task, first, number)]
            (place / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")


def write_jaqket(folder: Path) -> None:
    """Questions with ten passages."""
    folder.mkdir(parents=True)
    rows = [
        {
            "question": f"{number}番の町は。",
            "answers": {"text": ["町"], "answer_start": [0]},
            "ctxs": {"text": [f"{number}月に{each}番の図書館で祭りがあった。" for each in range(10)]},
        }
        for number in range(4)
    ]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fit_tokenizer(folder: Path) -> None:
    """A tokenizer of the items' own text."""
    known = ("jcommonsenseqa", "jnli", "jsquad", "xwinograd-ja", "xlsum-ja", "mgsm-ja")
    texts = [json.dumps(row, ensure_ascii=False) for task in known for row in items(task, 1, 40)]
    section = SentencePiece(kind="sentencepiece", corpora=[{"corpus": "town"}], vocab_size=450, symbols=["\n", "<NL>"])
    tokenizers.fit(section, texts, texts[:20], folder)


def write_model(folder: Path, architecture: str, tokenizer: Path, **shape) -> None:
    """Weights that were never trained, but are sure of what they say, beside a tokenizer."""
    section = (GPT2 if architecture == "gpt2" else GPTNeoX)(architecture=architecture, **(SHAPE | shape))
    torch.manual_seed(0)
    built = network.build(section, tokenizers.open_encoder(tokenizer).facts)
    _make_sure(built, tokenizer)
    convert.save(built, folder)
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


def write_llama(folder: Path, tokenizer: Path) -> None:
    """Somebody else's model, whose tokenizer puts `<s>` before a text."""
    built = untrained_llama(tokenizer, folder, hidden_size=32, max_positions=512, seed=0)
    _make_sure(built, tokenizer)
    built.save_pretrained(folder)


def write_mistral(folder: Path, tokenizer: Path) -> None:
    """The same with layers that see sixteen tokens: fewer than any question has."""
    from transformers import MistralConfig, MistralForCausalLM

    plain = untrained_llama(tokenizer, folder, hidden_size=32, max_positions=512, seed=0).config
    shape = {key: getattr(plain, key) for key in ("vocab_size", "hidden_size", "intermediate_size")}
    tokens = {key: getattr(plain, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = MistralConfig(**shape, **tokens, **layers, max_position_embeddings=512, sliding_window=16)
    torch.manual_seed(0)
    built = MistralForCausalLM(config)
    _make_sure(built, tokenizer)
    built.save_pretrained(folder)


def _make_sure(built: Any, tokenizer: Path) -> None:
    """Add to weights, so that the most likely token is so by more than rounding."""
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        # SentencePiece and tokenizer.json decode bytes that make no character, and <unk>, differently: never say one.
        pieces = text.vocabulary(tokenizer).items()
        silent = [number for number, piece in pieces if piece.startswith("<0x") or piece == "<unk>"]
        built.get_output_embeddings().weight[silent] = 0


def open_small(folder: Path) -> Model:
    """As `evaluate` opens a package."""
    return open_model("gpt", folder, folder)
