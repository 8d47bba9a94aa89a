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
NORMAL, USER_DEFINED = 1, 4

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


def build(model: bytes) -> "Tokenizer":
    """The equal of a SentencePiece model in the tokenizers library.

    Args:
        model: a model trained with identity normalisation, no dummy prefix and no removal of white space.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

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
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIALS.values()])
    # One character needs no matching of its own: nothing merges with it.
    symbols = [p.piece for p in proto.pieces if p.type == USER_DEFINED and len(p.piece) > 1]
    tokenizer.add_tokens([AddedToken(symbol, normalized=False, special=False) for symbol in symbols])
    return tokenizer


def write(model: bytes, folder: Path) -> None:
    """Write `spiece.model`, `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads."""
    config = {
        # transformers 5 would write TokenizersBackend, which version 4 does not know; both load this.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": name for role, name in SPECIALS.items()},
        "clean_up_tokenization_spaces": False,
        # The default adds token_type_ids, which GPT-2 would embed as tokens and GPT-NeoX refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        # A text is continued at its right end.
        "padding_side": "left",
    }
    (folder / MODEL_NAME).write_bytes(model)
    build(model).save(str(folder / JSON_NAME), pretty=True)
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
