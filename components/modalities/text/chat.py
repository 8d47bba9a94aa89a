"""A prompt format: turns of a conversation to ids, the same as the released tokenizer's `apply_chat_template` gives.

A turn is its speaker's prefix and what is said, and the separator stands between turns; a prompt ends with the
assistant's prefix, the last answer with the end-of-text token. Nothing stands before the first turn. SFT, reward
models, PPO, evaluation and the card take the format from here.

A prompt is encoded whole and its answer apart from it, as at generation. So a conversation of several answers becomes
as many sequences, each the prompt that stood before an answer and that answer: what is trained is what is asked.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.text.schema import Chat
from components.modalities.text.tokenizers import TextEncoder
from components.outcomes import Refused
from components.tokenizer_json import CONFIG_NAME, JSON_NAME, MODEL_NAME
from models.conversation import CHOSEN, PROMPT, REJECTED

FORMAT_KEY = "chat_format"
"""Of `tokenizer_config.json`; transformers keeps and ignores it."""

PROOF = (
    [{"role": "user", "content": "日本の首都はどこですか。"}],
    [{"role": "user", "content": "一行目\n二行目\n\n"}],
    [
        {"role": "user", "content": "ユーザー: と書いて </s> と<unk>も"},
        {"role": "assistant", "content": "  前後に空白  "},
        {"role": "user", "content": "𠮷野家 👨‍👩‍👧 ｶﾞ"},
    ],
    [
        {"role": "user", "content": "The first question"},
        {"role": "assistant", "content": "- one\n- two"},
        {"role": "user", "content": "{{ messages }} {% raw %} 'quoted' \"twice\""},
    ],
)
"""Conversations whose ids go wrong first: line feeds, the format's own words, special tokens, white space."""


def template(section: Chat) -> str:
    """The Jinja template of `tokenizer_config.json`; `add_generation_prompt` asks for an answer."""

    def literal(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    is_user = "message['role'] == 'user'"
    content = "message['content']"
    if section.newline != "\n":
        content += f" | replace({literal(chr(10))}, {literal(section.newline)})"
    prefixes = f"({literal(section.user_prefix)} if {is_user} else {literal(section.assistant_prefix)})"
    return (
        "{% for message in messages %}"
        f"{{{{ {prefixes} + ({content}) }}}}"
        f"{{{{ eos_token if loop.last and not ({is_user}) else {literal(section.separator)} }}}}"
        "{% endfor %}"
        f"{{{{ {literal(section.assistant_prefix)} if add_generation_prompt else '' }}}}"
    )


def fit(section: Chat, tokenizer: Path, folder: Path) -> dict[str, Any]:
    """Copy a fitted tokenizer, give it the format as its chat template, and prove both give the same ids.

    Args:
        section: the encoder's.
        tokenizer: the folder of a fitted SentencePiece tokenizer.
        folder: receives its files; `tokenizer_config.json` has the format besides, for `open_encoder`.

    Raises:
        Refused: a part of the format is unknown to the tokenizer, or transformers encodes a conversation otherwise.
    """
    if not (tokenizer / MODEL_NAME).is_file():
        raise Refused(f"{tokenizer} has no {MODEL_NAME}. Run: hiraku fit {section.tokenizer}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL_NAME, JSON_NAME, CONFIG_NAME):
        shutil.copyfile(tokenizer / name, folder / name)
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    parts = section.model_dump(include={"user_prefix", "assistant_prefix", "separator", "newline"})
    config |= {"chat_template": template(section), FORMAT_KEY: parts}
    (folder / CONFIG_NAME).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    encoder = ChatEncoder(folder)
    _check_known(encoder, section)
    _prove(encoder, folder)
    return {"vocab_size": encoder.facts["vocab_size"], "num_proven": len(PROOF)}


def _check_known(encoder: "ChatEncoder", section: Chat) -> None:
    for key in ("user_prefix", "assistant_prefix", "separator", "newline"):
        [ids] = encoder.text.encode([getattr(section, key)])
        if encoder.facts["unk"] in ids.tolist():
            raise Refused(
                f"The tokenizer '{section.tokenizer}' does not know all of {key} ({getattr(section, key)!r}), so a "
                "prompt could not be told from another. Change the key, or fit the tokenizer with 'byte_fallback'."
            )


def _prove(encoder: "ChatEncoder", folder: Path) -> None:
    from transformers import AutoTokenizer

    released = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for messages in PROOF:
        found = released.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False, tokenizer_kwargs={"split_special_tokens": True}
        )
        expected = encoder.prompt(messages).tolist()
        if list(found) != expected:
            raise Refused(
                f"transformers' chat template gives {len(found)} ids for the prompt {messages!r}, expected the "
                f"{len(expected)} that training sees. Change the encoder's 'separator', 'newline' or prefixes."
            )


class ChatEncoder:
    """A tokenizer with a prompt format. Ids of a value stand in rows of (id, part): see `models.conversation`."""

    def __init__(self, folder: Path) -> None:
        self.text = TextEncoder(folder)
        self.format: dict[str, str] = _config(folder)[FORMAT_KEY]
        self.facts: dict[str, Any] = {**self.text.facts, "chat": self.format}

    @property
    def num_chars(self) -> int:
        """Characters encoded so far, the format's own among them."""
        return self.text.num_chars

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens have none, and what stands for a line feed becomes one."""
        text = self.text.decode(ids)
        newline = self.format["newline"]
        return text.replace(newline, "\n") if newline != "\n" else text

    def encode_texts(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids (int32, shape [num_tokens]) of plain texts, without the format."""
        return self.text.encode(texts)

    def encode(self, values: list[str]) -> list[np.ndarray]:
        """Conversations and preferences, as JSON, to int32 [num_tokens, 2]: id, and the part that it belongs to."""
        pieces = [self._pieces(json.loads(value)) for value in values]
        encoded = iter(self.text.encode([text for row in pieces for text, _ in row]))
        return [np.concatenate([self._rows(next(encoded), part) for _, part in row]) for row in pieces]

    def _pieces(self, value: dict[str, Any]) -> list[tuple[str, int]]:
        """Text and part of what is encoded for itself."""
        messages = value["messages"]
        if "chosen" in value:
            answers = [(value["chosen"], CHOSEN), (value["rejected"], REJECTED)]
            return [(self.prompt_text(messages), PROMPT), *((self._content(text), part) for text, part in answers)]
        return [
            piece
            for place, message in enumerate(messages)
            if message["role"] == "assistant"
            for piece in ((self.prompt_text(messages[:place]), PROMPT), (self._content(message["content"]), CHOSEN))
        ]

    def _rows(self, ids: np.ndarray, part: int) -> np.ndarray:
        """Ids beside their part; an answer ends the text."""
        ended = ids.astype(np.int32) if part == PROMPT else np.append(ids, self.facts["eos"]).astype(np.int32)
        return np.stack([ended, np.full_like(ended, part)], axis=1)

    def prompt(self, messages: list[dict[str, str]]) -> np.ndarray:
        """int32 [num_tokens]: a conversation up to the point where the assistant answers."""
        return self.text.encode([self.prompt_text(messages)])[0].astype(np.int32)

    def prompt_text(self, messages: list[dict[str, str]]) -> str:
        """The same in words."""
        text = ""
        for message in messages:
            speaker = "user_prefix" if message["role"] == "user" else "assistant_prefix"
            text += self.format[speaker] + self._content(message["content"]) + self.format["separator"]
        return text + self.format["assistant_prefix"]

    def _content(self, text: str) -> str:
        return text.replace("\n", self.format["newline"])


def is_chat(folder: Path) -> bool:
    """Whether a folder, of a fitted encoder or of a release, holds a tokenizer with a prompt format."""
    return (folder / CONFIG_NAME).is_file() and FORMAT_KEY in _config(folder)


def _config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")))


def open_encoder(folder: Path) -> ChatEncoder:
    """The encoder in a folder that `fit` filled."""
    return ChatEncoder(folder)
