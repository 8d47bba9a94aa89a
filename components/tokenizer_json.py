"""A SentencePiece model as `tokenizer.json`, the form that `AutoTokenizer` loads with the same ids.

transformers' own conversions are not used: some hard-code ids, drop the byte fallback or split at white space, all
silently. The recipe here (no pre-tokenizer, byte fallback, one replacement as normaliser) was measured equal on
240,028 lines for BPE.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_NAME = "spiece.model"
JSON_NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"

SPECIALS = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}
"""Roles and pieces in the order of their ids, 0 to 3."""

SPACE = "\u2581"
"""SentencePiece writes a space as this character, so a text that holds it decodes to a space."""

# Kinds of pieces in sentencepiece_model.proto.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4

# A piece that must not be matched in text still needs a score; the proto says 0, which would beat every real piece.
NEVER = -1e4


def parse(model: bytes) -> Any:
    """The protocol buffer of a `spiece.model`."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model)
    return proto


def merges(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, best piece first, shorter left half first.

    Args:
        pieces: text and score of the normal pieces; SentencePiece merges the pair whose union scores highest.
    """
    known = {piece for piece, _ in pieces}
    return [
        (piece[:cut], piece[cut:])
        for piece, _ in sorted(pieces, key=lambda each: -each[1])
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]


def reserved(model: bytes, pieces: list[str]) -> bytes:
    """The model with some user-defined pieces made special ones, which are never found in a text.

    Raises:
        ValueError: it has no such user-defined piece.
    """
    proto = parse(model)
    known = {piece.piece: piece for piece in proto.pieces if piece.type == USER_DEFINED}
    for name in pieces:
        if name not in known:
            raise ValueError(f"the model has no user-defined piece {name!r}, only {list(known)}")
        known[name].type = CONTROL
    return bytes(proto.SerializeToString(deterministic=True))


def is_bpe(model: bytes) -> bool:
    """Whether a model merges pairs (BPE); else it is a unigram model."""
    proto = parse(model)
    return bool(proto.trainer_spec.model_type == proto.trainer_spec.BPE)


def lowered(text: str) -> str:
    """A text in lower case as the tokenizers library has it: each character by itself, a final sigma too."""
    return "".join(map(str.lower, text))


def build(model: bytes, lower_case: bool = False, first: str = "", last: str = "") -> "Tokenizer":
    """The equal of a SentencePiece model in the tokenizers library.

    Args:
        model: a model trained with identity normalisation, no dummy prefix and no removal of white space.
        lower_case: whether texts are put into lower case before.
        first: a special piece that begins every text; empty for none.
        last: one that ends every text, also one that is cut; empty for none.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    proto = parse(model)
    byte_fallback = proto.trainer_spec.byte_fallback
    network: Any
    if proto.trainer_spec.model_type == proto.trainer_spec.BPE:
        normal = [(piece.piece, piece.score) for piece in proto.pieces if piece.type == NORMAL]
        network = models.BPE(
            vocab={piece.piece: number for number, piece in enumerate(proto.pieces)},
            merges=merges(normal),
            unk_token=SPECIALS["unk"],
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    else:
        network = models.Unigram(
            [(p.piece, p.score if p.type in (NORMAL, USER_DEFINED) else NEVER) for p in proto.pieces],
            unk_id=proto.trainer_spec.unk_id,
            byte_fallback=byte_fallback,
        )
    tokenizer = Tokenizer(network)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), spaces]) if lower_case else spaces
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    names = [*SPECIALS.values(), *(p.piece for p in proto.pieces if p.type == CONTROL)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in dict.fromkeys(names)])
    # One character needs no matching of its own: nothing merges with it.
    symbols = [p.piece for p in proto.pieces if p.type == USER_DEFINED and len(p.piece) > 1]
    tokenizer.add_tokens([AddedToken(symbol, normalized=False, special=False) for symbol in symbols])
    if around := [piece for piece in (first, last) if piece]:
        ids = [(piece, tokenizer.token_to_id(piece)) for piece in around]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}".strip(), special_tokens=ids
        )
    return tokenizer


def write(model: bytes, folder: Path, lower_case: bool = False, first: str = "", last: str = "", **more: Any) -> None:
    """Write `spiece.model`, `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads.

    Args:
        model: see `build`, also for `lower_case`, `first` and `last`.
        folder: receives the files.
        lower_case: see there.
        first: see there.
        last: see there.
        more: keys of `tokenizer_config.json`, in place of those of a text that is continued.
    """
    config = {
        # transformers 5 would write TokenizersBackend, which version 4 does not know; both load this.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": name for role, name in SPECIALS.items()},
        "clean_up_tokenization_spaces": False,
        # The default adds token_type_ids, which GPT-2 would embed as tokens and GPT-NeoX refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        # A text is continued at its right end.
        "padding_side": "left",
        **more,
    }
    (folder / MODEL_NAME).write_bytes(model)
    build(model, lower_case, first, last).save(str(folder / JSON_NAME), pretty=True)
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
