"""The encoder of captions: token ids of every caption of a picture, in the layout of BERT or CLIP, each with its kind.

`fit` leaves a folder that `AutoTokenizer` loads, whose ids are held against SentencePiece's on every caption of the
encoder's corpora. The pieces are those of a text tokenizer; its symbols [CLS], [SEP] and [MASK] become special ones, so
a caption that holds the characters `[SEP]` does not end there.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components import tokenizer_json
from components.devices import num_threads
from components.manifest import file_hash
from components.modalities.image.captions import pairs_of
from components.modalities.image.cutting import Resample
from components.modalities.image.encoder_schema import CLS, MASK, SEP, Captions
from components.modalities.image.shards import DIGEST, Parts, digest_of
from components.outcomes import Refused
from components.tokenizer_json import MODEL_NAME, SPECIALS
from components.tokenizer_parity import Parity, compare
from models.pixels import MEAN, STD

NAME = "captions.json"
IDS, SIZES, KINDS = "ids", "sizes", "kinds"
"""Of a record: the ids of its captions one after another, how many each has, and the number of its kind."""


@dataclass(frozen=True)
class Preparation:
    """How pictures are given to the tower that goes with captions."""

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    resample: Resample = "bilinear"


class CaptionEncoder:
    """A fitted tokenizer of captions. SentencePiece encodes, as its equal `tokenizer.json` would."""

    kind = "captions"
    preparation = Preparation()

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        import sentencepiece

        self.folder, self.is_lower = folder, bool(content["lower_case"])
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_NAME))
        self.facts: dict[str, Any] = {
            "vocab_size": self._processor.get_piece_size(),
            **{role: self._processor.piece_to_id(name) for role, name in SPECIALS.items()},
            "max_tokens": content["max_tokens"],
            "lower_case": self.is_lower,
        }
        self.before, self.behind = [self._processor.piece_to_id(CLS)], list[int]()
        if content.get("layout") == "clip":
            self.before, self.behind = [self.facts["bos"]], [self.facts["eos"]]
            self.facts |= {"layout": "clip", "pieces": file_hash(folder / MODEL_NAME)}
        else:
            self.facts["cls"] = self.before[0]
        self.dtype = np.dtype("<u2" if self.facts["vocab_size"] <= 1 << 16 else "<i4")
        self.names: list[str] = []
        """The kinds of captions encoded so far, by the numbers that stand for them."""
        self.counts: dict[str, int | float] = {"captions": 0, "tokens": 0, "cut_captions": 0}

    def encode(self, values: list[str]) -> list[Parts]:
        """Of each record's captions the ids, how many each has, its kind and a digest of its ids."""
        captions = [pairs_of(value) for value in values]
        rows = iter(self.ids_of([text for pairs in captions for _, text in pairs]))
        found: list[Parts] = []
        for pairs in captions:
            ids = [next(rows) for _ in pairs]
            self.counts["captions"] += len(ids)
            self.counts["tokens"] += sum(map(len, ids))
            found.append(
                {
                    IDS: np.concatenate(ids) if ids else np.empty(0, self.dtype),
                    SIZES: np.array([len(each) for each in ids], "<u2"),
                    KINDS: np.array([self._number_of(kind) for kind, _ in pairs], "u1"),
                    DIGEST: np.concatenate([digest_of(each.tobytes()) for each in ids] or [np.empty(0, "<u8")]),
                }
            )
        return found

    def _number_of(self, kind: str) -> int:
        if kind not in self.names:
            self.names.append(kind)
        return self.names.index(kind)

    def ids_of(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of texts, with what stands around them at most `max_tokens` of each; what is cut is counted."""
        given = [tokenizer_json.lowered(text) for text in texts] if self.is_lower else texts
        found, room = [], self.facts["max_tokens"] - len(self.before) - len(self.behind)
        for ids in self._processor.encode(given, return_type="numpy", num_threads=num_threads()) if given else []:
            self.counts["cut_captions"] += len(ids) > room
            found.append(np.concatenate([self.before, ids[:room], self.behind]).astype(self.dtype))
        return found

    def padded(self, rows: list[np.ndarray]) -> np.ndarray:
        """int64 [texts, max_tokens] of the ids of texts."""
        return padded(rows, self.facts["max_tokens"], self.facts["pad"])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens have none."""
        return str(self._processor.decode([int(each) for each in ids]))

    def vocabulary(self) -> dict[int, str]:
        """The piece of each id."""
        return {number: self._processor.id_to_piece(number) for number in range(self.facts["vocab_size"])}


def padded(rows: list[np.ndarray], size: int, pad: int) -> np.ndarray:
    """int64 [rows, size]: each row with padding behind it."""
    found = np.full((len(rows), size), pad, np.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found


def fit(
    encoder: Captions, values: Iterable[str], held_out: Iterable[str], parents: dict[str, Path], folder: Path
) -> dict[str, Any]:
    """Make a tokenizer of captions in a folder that `AutoTokenizer` loads, and prove that it gives SentencePiece's ids.

    Raises:
        Refused: the text tokenizer lacks a symbol; there is no caption; with BPE, one caption gets other ids.
    """
    source = parents[encoder.tokenizer] / MODEL_NAME
    if not source.is_file():
        raise Refused(
            f"The encoder '{encoder.tokenizer}' is no SentencePiece tokenizer ({source} is not there), and captions "
            "have the pieces of one. Change the key 'tokenizer'."
        )
    symbols = [CLS, SEP, MASK] if encoder.layout == "bert" else []
    try:
        model = tokenizer_json.reserved(source.read_bytes(), symbols)
    except ValueError as error:
        raise Refused(
            f"Encoder '{encoder.tokenizer}': {error}. A text tower needs {CLS}, {SEP} and {MASK}: give it the key "
            f'symbols: ["{CLS}", "{SEP}", "{MASK}"], or name another one under \'tokenizer\'.'
        ) from None
    _write(encoder, model, folder)
    kinds: dict[str, int] = {}
    found = {
        part: compare(folder, _texts(each, kinds), encoder.lower_case)
        for part, each in (("train", values), ("held_out", held_out))
    }
    is_bpe = tokenizer_json.is_bpe(model)
    for part, each in found.items():
        _require_equal(part.replace("_", "-"), each, is_bpe)
    if not found["train"].num_documents:
        raise Refused("The corpora have no caption to fit on. Change the key 'corpora', or raise its shares.")
    opened = open_encoder(folder)
    return {
        "algorithm": "bpe" if is_bpe else "unigram",
        "vocab_size": opened.facts["vocab_size"],
        "max_tokens": encoder.max_tokens,
        "kinds": kinds,
        **{part: each.report() for part, each in found.items()},
    }


def _write(encoder: Captions, model: bytes, folder: Path) -> None:
    """The files of the tokenizer, also for users of transformers 4, where T5Tokenizer reads `spiece.model`."""
    is_bert = encoder.layout == "bert"
    more: dict[str, Any] = {"cls_token": CLS, "sep_token": SEP, "mask_token": MASK} if is_bert else {}
    more |= {"padding_side": "right", "do_lower_case": encoder.lower_case, "extra_ids": 0}
    around = (CLS, "") if is_bert else (SPECIALS["bos"], SPECIALS["eos"])
    tokenizer_json.write(model, folder, encoder.lower_case, *around, **more, model_max_length=encoder.max_tokens)
    content: dict[str, Any] = {"max_tokens": encoder.max_tokens, "lower_case": encoder.lower_case}
    content |= {} if is_bert else {"layout": encoder.layout}
    (folder / NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _texts(values: Iterable[str], kinds: dict[str, int]) -> Iterator[str]:
    """Every caption of clean values, whose kinds are counted."""
    for value in values:
        for kind, text in pairs_of(value):
            kinds[kind] = kinds.get(kind, 0) + 1
            yield text


def _require_equal(part: str, found: Parity, is_bpe: bool) -> None:
    # Unigram models differ on about 1 text in 1,000, by ties and by float32 sums; the report counts them.
    if found.num_differing and is_bpe:
        raise Refused(
            f"tokenizer.json gives other ids than SentencePiece on {found.num_differing} of {found.num_documents} "
            f"{part} captions, expected none with BPE; first {found.first_difference}. Change the tokenizer's "
            "'vocab_size' or 'symbols'."
        )


def open_encoder(folder: Path) -> CaptionEncoder:
    """What `fit` left, or a release has of it."""
    return CaptionEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))


# ---- other people's --------------------------------------------------------------------------------------------------

FOREIGN_NAMES = ("tokenizer.json", "vocab.json")
"""Somebody else's tokenizer has one of them: transformers' own form, or that of OpenAI's CLIP."""
PREPARATION_NAME = "preprocessor_config.json"
MOST_TOKENS = 512
"""Where a tokenizer says no limit."""


class ForeignCaptions:
    """The tokenizer of somebody else's pair of towers, as `AutoTokenizer` reads it, and how its pictures are prepared.

    Raises:
        Refused: it pads with no token.
    """

    kind = "captions"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if self._tokenizer.pad_token_id is None:
            raise Refused(f"The tokenizer in {folder} has no token to pad with, so captions cannot stand in a batch.")
        limit = min(int(self._tokenizer.model_max_length), MOST_TOKENS)
        self.facts: dict[str, Any] = {
            "vocab_size": len(self._tokenizer),
            "pad": self._tokenizer.pad_token_id,
            "max_tokens": limit,
        }
        self.preparation = _preparation(folder / PREPARATION_NAME)

    def ids_of(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of texts with the special tokens that it puts around them."""
        rows = self._tokenizer(texts, truncation=True, max_length=self.facts["max_tokens"])["input_ids"]
        return [np.array(row, np.int64) for row in rows]

    def vocabulary(self) -> dict[int, str]:
        """The piece of each id."""
        return {number: piece for piece, number in self._tokenizer.get_vocab().items()}


def _preparation(path: Path) -> Preparation:
    """What a file of transformers says of mean, deviation and scaling; without one, OpenAI's."""
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # The numbers of PIL.Image.Resampling; CLIP's own default is bicubic.
    resample: Resample = "bicubic" if said.get("resample", 2) == 3 else "bilinear"
    return Preparation(tuple(said.get("image_mean", MEAN)), tuple(said.get("image_std", STD)), resample)
