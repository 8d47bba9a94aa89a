"""A small translator of English to Japanese, trained from pairs of sentences in minutes on a CPU.

Far below what is of use: it proves that a corpus can be translated by a model of the project's own, without a network.
"""

import gzip
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components.outcomes import Refused

SEED = 0
MAX_TOKENS = 64
BATCH_TOKENS = 768
WARMUP_SHARE = 0.1
PEAK_RATE = 1e-3
BOS, EOS, PAD = 1, 2, 3
"""Ids that every tokenizer of this project gives its special pieces."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder and the decoder."""

    num_layers: int = 2
    hidden_size: int = 128
    vocab_size: int = 3000


def read_pairs(path: Path) -> list[list[tuple[str, str]]]:
    """(English, Japanese) pairs, a list for each record, from JSON lines whose `text` has the two by turns.

    Raises:
        Refused: the file is not there, or has no pairs.
    """
    if not path.is_file():
        raise Refused(f"{path} is not there. Name a file of JSON lines whose 'text' has a sentence of each language.")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = [list(_pairs(json.loads(line)["text"])) for line in content.decode("utf-8").split("\n") if line.strip()]
    if not any(found):
        raise Refused(f"{path} has no pairs: expected lines of English and Japanese by turns in 'text'.")
    return [pairs for pairs in found if pairs]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    lines = text.split("\n")
    for first, second in zip(lines[::2], lines[1::2], strict=False):
        yield (first, second) if _ascii_share(first) > _ascii_share(second) else (second, first)


def _ascii_share(text: str) -> float:
    return sum(each.isascii() for each in text) / max(len(text), 1)


def train(pairs: list[tuple[str, str]], shape: Shape, num_steps: int, folder: Path) -> dict[str, float]:
    """Train a tokenizer and a network (Marian's: Vaswani et al. 2017 with shared embeddings), and save both.

    Args:
        pairs: (source, target).
        shape: of the network.
        num_steps: of the optimiser.
        folder: receives what `save_pretrained` writes.

    Returns:
        `steps`, `epochs`, `parameters`, `cpu_seconds`, and `loss` in nats per token over the last 100 steps.
    """
    import torch
    from transformers import MarianConfig, MarianMTModel

    from components.devices import bf16_instructions, set_threads

    set_threads()
    torch.manual_seed(SEED)
    tokenizer = _tokenizer(pairs, shape.vocab_size, folder)
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=shape.hidden_size, max_position_embeddings=2 * MAX_TOKENS,
        encoder_layers=shape.num_layers, decoder_layers=shape.num_layers, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=4 * shape.hidden_size, decoder_ffn_dim=4 * shape.hidden_size,
        activation_function="relu", scale_embedding=True, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=BOS,
        decoder_start_token_id=PAD, forced_eos_token_id=None, dropout=0.1,
    )  # fmt: skip
    network = MarianMTModel(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    ids = [tuple(tokenizer(side, verbose=False)["input_ids"] for side in pair) for pair in pairs]
    ids = [each for each in ids if max(map(len, each)) <= MAX_TOKENS]
    is_fast = bool(bf16_instructions())
    losses: list[float] = []
    began, epochs, warmup = time.process_time(), 0.0, max(1, int(WARMUP_SHARE * num_steps))
    for part, sources, targets in islice(_batches(ids), num_steps):
        decay = 0.5 * (1 + math.cos(math.pi * len(losses) / num_steps))
        optimizer.param_groups[0]["lr"] = PEAK_RATE * min(1.0, (len(losses) + 1) / warmup) * decay
        begun = torch.nn.functional.pad(targets[:, :-1], (1, 0), value=PAD)  # the decoder starts from the padding
        labels = targets.masked_fill(targets == PAD, -100)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
            logits = network(sources, attention_mask=sources != PAD, decoder_input_ids=begun).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        epochs += part
    network.eval().save_pretrained(folder)
    total = sum(parameter.numel() for parameter in network.parameters())
    told = {"steps": len(losses), "epochs": epochs, "parameters": total, "loss": float(np.mean(losses[-100:]))}
    return told | {"cpu_seconds": time.process_time() - began}


def _tokenizer(pairs: list[tuple[str, str]], vocab_size: int, folder: Path) -> Any:
    """The project's own tokenizer over both languages, which ends a text as the network wants."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from components.modalities.text import tokenizers
    from components.modalities.text.schema import SentencePiece
    from components.tokenizer_json import MODEL_NAME
    from models.schema import CorpusShare

    texts = [text for pair in pairs for text in pair]
    section = SentencePiece(kind="sentencepiece", corpora=[CorpusShare(corpus="pairs")], vocab_size=vocab_size)
    tokenizers.fit(section, texts, texts[:200], folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, EOS)]
    )
    tokenizer.model_max_length = MAX_TOKENS
    (folder / MODEL_NAME).unlink()
    tokenizer.save_pretrained(folder)
    return tokenizer


def _batches(ids: list[tuple[list[int], list[int]]]) -> Iterator[tuple[float, Any, Any]]:
    """Share of an epoch, and padded sources and targets of like length, without an end."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    chance = np.random.default_rng(SEED)
    while True:
        lengths = np.array([len(source) + len(target) for source, target in ids])
        order = np.argsort(lengths + chance.uniform(0, 4, len(ids)))
        cuts = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // BATCH_TOKENS)) + 1
        groups = np.split(order, cuts)
        for place in chance.permutation(len(groups)):
            group = groups[place]
            sides = [[torch.tensor(ids[each][side]) for each in group] for side in (0, 1)]
            sources, targets = (pad_sequence(side, batch_first=True, padding_value=PAD) for side in sides)
            yield len(group) / len(ids), sources, targets
