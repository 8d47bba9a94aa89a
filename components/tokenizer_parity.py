"""The gate of a tokenizer: what `AutoTokenizer` loads gives the ids of SentencePiece, and decodes to the same text.

Both encode literal special names (`</s>` in a web page) as ordinary characters: SentencePiece always,
transformers when called with `split_special_tokens=True`, as here and as untrusted text must be. Without it,
transformers takes the four names in a text for the special tokens, as it does for every model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from components.tokenizer_json import MODEL_NAME, SPACE, SPECIALS, lowered
from components.wording import one_line

Value = TypeVar("Value")

BATCH_DOCUMENTS = 256

# Strings on which conversions of tokenizers are known to part ways.
EDGES: tuple[str, ...] = (
    "", " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\n\r", "\x0b", "\x0c",
    "\x85", "\u2028", "\u2029", "\u3000", "\u3000\u3000", "\u00a0", "\u2003",
    " 先頭の空白", "末尾の空白 ", "  二つ  ずつ  ", "\u3000全角の字下げ\u3000", "行1\n行2", "行1\r\n行2\r\n", "\n行\n",
    "if x:\n    return  1\n", "列1\t列2\t\t列4", " \n \n", "a b  c   d    e",
    "\U00020bb7野家", "\U0002a6d6\U0003106c", "𠮷𠮟𩸽", "龘靐齉", "😀", "👩‍👩‍👧‍👦", "👍🏽🇯🇵", "☺️", "❤️‍🔥",
    "ﾊﾝｶｸｶﾞﾅﾊﾟ", "ｱﾞｲﾟ", "か\u3099は\u309a", "が", "e\u0301", "é", "①㈱㍻", "ＡＢＣ１２３", "ﬁ",
    "\0", "あ\0い", "\ufeff", "\ufeff先頭", "\u200b", "ゼロ\u200b幅\u200c\u200d", "\u2060", "\u00ad", "\u202eabc",
    "\U0010ffff", "\ufffd", "\ufffe", "\ue000", "\u007f", "\x1b[0m", "\u2585", "\u2581", "a\u2581b", "\u2581 \u2581",
    "<s>", "</s>", "<unk>", "<pad>", "<s></s>", "本文</s>本文", "<0x0A>", "<0x00>", "<0xE3><0x81><0x82>",
    "<|endoftext|>", "0123456789", "１２３", "3.14159", "1,000,000円", "2024年1月2日", "٣٤٥",
    "aaaaaaaaaaaaaaaa", "ーーーーーーーー", "wwwwwwww", "。。。。。。", "ＡａAａ", "東京TOKYOとうきょう",
    "https://example.jp/?q=%E3%81%82&r=1#a", "「『（［｛〈《【〔", "ヴァイオリン・コンチェルト",
    "mixed かな カナ 漢字 ABC 123",
)  # fmt: skip


@dataclass
class Parity:
    """What a comparison of the two forms found, and how well the tokenizer fits the text."""

    num_documents: int = 0
    num_chars: int = 0
    num_bytes: int = 0
    num_tokens: int = 0
    num_byte_tokens: int = 0
    num_unknown: int = 0
    num_differing: int = 0
    num_not_restored: int = 0
    """Documents that one of the two forms does not decode to their text, those with U+2581 or unknowns left out."""
    num_with_space_mark: int = 0
    """Documents with a literal U+2581, which both decode to a space."""
    first_difference: str = ""
    uses: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """How often each id occurs."""

    def report(self) -> dict[str, Any]:
        """The numbers for `report.json`."""
        used = int(np.count_nonzero(self.uses))
        return {
            "documents": self.num_documents,
            "characters": self.num_chars,
            "bytes": self.num_bytes,
            "tokens": self.num_tokens,
            "characters_per_token": _ratio(self.num_chars, self.num_tokens),
            "bytes_per_token": _ratio(self.num_bytes, self.num_tokens),
            "fertility": _ratio(self.num_tokens, self.num_chars),  # tokens per character: Japanese has no words
            "byte_token_share": _ratio(self.num_byte_tokens, self.num_tokens),
            "unknown_tokens": self.num_unknown,
            "pieces_used": used,
            "vocabulary_use": _ratio(used, len(self.uses)),
            "differing": self.num_differing,
            "first_difference": self.first_difference,
            "not_restored": self.num_not_restored,
            "with_space_mark": self.num_with_space_mark,
        }


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 5) if whole else 0.0


def batches(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """Lists of up to `size` values."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


def compare(folder: Path, texts: Iterable[str], lower_case: bool = False) -> Parity:
    """Encode every text with `spiece.model` and with what `AutoTokenizer` loads from the same folder, and decode it.

    Args:
        folder: holds `spiece.model`, `tokenizer.json`, `tokenizer_config.json`.
        texts: read once, in batches.
        lower_case: whether `tokenizer.json` puts texts into lower case, which `spiece.model` does not.
    """
    import sentencepiece
    from transformers import AutoTokenizer

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_NAME))
    ours = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    num_pieces = theirs.get_piece_size()
    is_byte = np.array([theirs.is_byte(number) for number in range(num_pieces)])
    found = Parity(uses=np.zeros(num_pieces, dtype=np.int64))
    for batch in batches(texts, BATCH_DOCUMENTS):
        given = batch
        batch = [lowered(text) for text in given] if lower_case else given
        expected = theirs.encode(batch, out_type=int)
        encoded = ours(given, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)
        for text, wanted, got in zip(batch, expected, encoded["input_ids"], strict=True):
            _count(found, text, wanted, is_byte)
            if wanted != got:
                found.num_differing += 1
                found.first_difference = found.first_difference or _difference(text, wanted, got, theirs)
            if SPACE in text:
                found.num_with_space_mark += 1
            elif theirs.unk_id() not in wanted and not theirs.decode(wanted) == ours.decode(got) == text:
                found.num_not_restored += 1
    return found


def _count(found: Parity, text: str, ids: list[int], is_byte: np.ndarray) -> None:
    uses = np.bincount(np.array(ids, dtype=np.int64), minlength=len(found.uses))
    found.uses += uses
    found.num_documents += 1
    found.num_chars += len(text)
    found.num_bytes += len(text.encode())
    found.num_tokens += len(ids)
    found.num_byte_tokens += int(uses[is_byte].sum())
    found.num_unknown += int(uses[list(SPECIALS).index("unk")])


def _difference(text: str, wanted: list[int], got: list[int], processor: Any) -> str:
    """The first place where two encodings part, for a person to read."""
    place = next((n for n, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), min(len(wanted), len(got)))
    pieces = [processor.id_to_piece(ids[place : place + 6]) for ids in (wanted, got)]
    return f"in {one_line(text, 60)!r} from token {place} on: SentencePiece {pieces[0]}, tokenizer.json {pieces[1]}"
