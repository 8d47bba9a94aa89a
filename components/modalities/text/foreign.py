"""The tokenizer of somebody else's model: as its own SentencePiece model or AutoTokenizer has it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from components.outcomes import Refused
from components.tokenizer_json import CONFIG_NAME, JSON_NAME, MODEL_NAME

ROLES = ("bos", "eos", "pad", "unk")


class ForeignEncoder:
    """Ids of texts without special tokens, and the ids of those.

    `facts` has besides the usual ones `start`: what stands before the first token of a document. It is the token that
    the tokenizer itself puts there, else the end of the document before.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        self.is_lowered = bool(config.get("do_lower_case"))
        has_json = (folder / JSON_NAME).is_file()
        self._tokens: Any = _auto(folder) if has_json else _pieces(folder)
        self._has_json = has_json
        self.facts: dict[str, int] = (
            _facts_of_auto(self._tokens) if has_json else _facts_of_pieces(self._tokens, config)
        )
        if self.facts.get("eos", -1) < 0:
            raise Refused(
                f"The tokenizer in {folder} has no token for the end of a text (eos_token in {CONFIG_NAME}), expected "
                "one: a language model is scored on where texts end. Name it in the source's tokenizer_config.json."
            )
        self.puts_start = "start" in self.facts
        """Whether the tokenizer itself puts a token before the first one of a text."""
        self.facts.setdefault("pad", self.facts["eos"])
        self.facts.setdefault("start", self.facts["eos"])

    def encode(self, values: list[str]) -> list[np.ndarray]:
        """Token ids (int32, shape [num_tokens]) of each text, without special tokens; the order is kept."""
        if self._has_json:
            rows = (
                self._tokens(values, add_special_tokens=False, return_attention_mask=False)["input_ids"]
                if values
                else []
            )
        else:
            rows = self._tokens.encode([each.lower() for each in values] if self.is_lowered else values)
        return [np.array(row, dtype=np.int32) for row in rows]

    encode_texts = encode

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens have none."""
        plain = [int(each) for each in ids]
        return str(
            self._tokens.decode(plain, skip_special_tokens=True) if self._has_json else self._tokens.decode(plain)
        )


def _auto(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError) as error:
        raise Refused(
            f"transformers cannot load the tokenizer in {folder}: {' '.join(str(error).split())}. Name a source whose "
            f"tokenizer is a {JSON_NAME}."
        ) from error


def _pieces(folder: Path) -> Any:
    import sentencepiece

    if not (folder / MODEL_NAME).is_file():
        raise Refused(
            f"{folder} has no tokenizer: neither {JSON_NAME} nor {MODEL_NAME}. Package the model again from a source "
            "that has one."
        )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_NAME))


def _facts_of_auto(tokenizer: Any) -> dict[str, int]:
    facts = {"vocab_size": len(tokenizer)}
    facts |= {role: found for role in ROLES if (found := getattr(tokenizer, f"{role}_token_id")) is not None}
    before = tokenizer("a")["input_ids"][:1]
    if before and before[0] == facts.get("bos"):
        facts["start"] = before[0]
    return facts


def _facts_of_pieces(processor: Any, config: dict[str, Any]) -> dict[str, int]:
    """Ids by the names of special tokens in the configuration; a name that is no piece has none."""
    facts = {"vocab_size": processor.get_piece_size()}
    for role in ROLES:
        name = config.get(f"{role}_token")
        name = name.get("content") if isinstance(name, dict) else name
        number = processor.piece_to_id(name) if name else -1
        if number >= 0 and processor.id_to_piece(number) == name:
            facts[role] = number
    return facts
