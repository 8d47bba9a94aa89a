"""How well a tokenizer fits: tokens by source, kanji with pieces of their own, and a report that a person can read."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from components.markdown import number, table
from components.modalities.text.released_tokenizers import beside
from components.tokenizer_json import MODEL_NAME
from components.tokenizer_parity import batches

BATCH_DOCUMENTS = 256
MOST_SOURCES = 40
OTHERS = "(others)"


def by_source(folder: Path, values: Iterable[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Counts of texts by their source, and how many characters and bytes a token holds there.

    Args:
        folder: of the fitted tokenizer.
        values: pairs of a source and a text, read once; sources after the fortieth are counted together.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_NAME))
    is_byte = np.array([processor.is_byte(each) for each in range(processor.get_piece_size())])
    found: dict[str, dict[str, float]] = {}
    for batch in batches(values, BATCH_DOCUMENTS):
        encoded = processor.encode([text for _, text in batch], return_type="numpy", num_threads=1)
        for (source, text), ids in zip(batch, encoded, strict=True):
            name = source if source in found or len(found) < MOST_SOURCES else OTHERS
            counts = found.setdefault(
                name, dict.fromkeys(("documents", "characters", "bytes", "tokens", "as_bytes"), 0)
            )
            sizes = (1, len(text), len(text.encode()), len(ids), int(is_byte[ids].sum()))
            for key, size in zip(list(counts), sizes, strict=True):
                counts[key] += size
    for counts in found.values():
        tokens = max(1, counts["tokens"])
        counts["characters_per_token"] = round(counts["characters"] / tokens, 4)
        counts["bytes_per_token"] = round(counts["bytes"] / tokens, 4)
        counts["byte_token_share"] = round(counts.pop("as_bytes") / tokens, 5)
    return found


@cache
def kanji_sets() -> dict[str, str]:
    """Kanji by how common they are: the levels of JIS X 0208 by their rows, and of JIS X 0213 those beyond it."""
    first: list[str] = []
    second: list[str] = []
    beyond: list[str] = []
    for row in range(16, 85):
        for cell in range(1, 95):
            try:
                kanji = bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp")
            except UnicodeDecodeError:
                continue
            (first if row < 48 else second).append(kanji)
    known = set(first + second)
    for point in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x2A6E0)):
        kanji = chr(point)
        try:
            kanji.encode("shift_jis_2004")  # EUC has room for JIS X 0212 besides
        except UnicodeEncodeError:
            continue
        if kanji not in known:
            beyond.append(kanji)
    return {
        "JIS X 0208 level 1": "".join(first),
        "JIS X 0208 level 2": "".join(second),
        "JIS X 0213 levels 3 and 4": "".join(beyond),
    }


def kanji_coverage(folder: Path) -> dict[str, dict[str, int]]:
    """Of each set of kanji: how many there are, how many have a piece of their own, and how many are unknown.

    What has neither a piece nor is unknown becomes bytes, three or four tokens a kanji.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_NAME))
    unknown, found = processor.unk_id(), {}
    for name, kanji in kanji_sets().items():
        own = sum(processor.piece_to_id(each) != unknown for each in kanji)
        lost = sum(unknown in processor.encode(each) for each in kanji)
        found[name] = {"kanji": len(kanji), "with_a_piece": own, "unknown": lost}
    return found


def words(encoder: Any, report: dict[str, Any]) -> str:
    """The report of a fit in Markdown.

    Args:
        encoder: its section.
        report: of `tokenizers.fit`, with `by_source` and `kanji`.
    """
    held_out, train = report["held_out"], report["train"]
    overview = (
        f"Trained on {number(train['chars'])} characters of {number(train['documents'])} documents. On "
        f"{number(held_out['documents'])} held-out documents a token holds {held_out['characters_per_token']:.3f} "
        f"characters or {held_out['bytes_per_token']:.3f} bytes; {held_out['byte_token_share']:.3%} of the tokens are "
        f"single bytes, {number(held_out['unknown_tokens'])} are unknown, and {held_out['vocabulary_use']:.1%} of the "
        f"pieces occur. Of these documents {number(held_out['differing'])} have other ids in tokenizer.json."
    )
    parts = [f"# {encoder.algorithm} of {encoder.vocab_size:,} pieces", overview]
    rows = [
        (
            name,
            *(number(each[key]) for key in ("documents", "characters")),
            f"{each['characters_per_token']:.3f}",
            f"{each['bytes_per_token']:.3f}",
            f"{each['byte_token_share']:.3%}",
        )
        for name, each in report["by_source"].items()
    ]
    heads = ("held-out text of", "documents", "characters", "characters per token", "bytes per token", "single bytes")
    parts.append(table(heads, rows))
    rows = [
        (
            name,
            number(each["kanji"]),
            number(each["with_a_piece"]),
            number(each["kanji"] - each["with_a_piece"] - each["unknown"]),
            number(each["unknown"]),
        )
        for name, each in report["kanji"].items()
    ]
    parts.append(table(("kanji", "of these there are", "with a piece", "as bytes", "unknown"), rows))
    if encoder.released_as is not None:
        parts.append(
            f"The tokenizer that {encoder.released_as} was released with, as far as it is public, beside this:"
        )
        parts.append(table(("setting", "released", "here"), beside(encoder.released_as, encoder)))
    return "\n\n".join(parts) + "\n"
