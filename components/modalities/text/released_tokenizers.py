"""What is public of the tokenizers that the paper's language models were released with, beside the settings of ours.

Sources: cards, config.json and tokenizer_config.json on the Hugging Face Hub (rinna/<name>); the SentencePiece model
google_sp.model of rinnakk/japanese-pretrained-models for the first one. What they do not state is left out here.
"""

from typing import Any

from components.markdown import number
from components.tokenizer_json import SPECIALS

NOT_PUBLIC = "not public"

RELEASED: dict[str, dict[str, Any]] = {
    "japanese-gpt2": {
        "algorithm": "unigram",
        "vocab_size": 32_000,
        "trained on": "Japanese Wikipedia",
        "normalisation": "nmt_nfkc",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": True,
        "byte_fallback": False,
        "line feed": "lost by the normalisation",
        "special ids": "<unk> 0, <s> 1, </s> 2, [PAD] 3, [CLS] 4, [SEP] 5, [MASK] 6",
    },
    "japanese-gpt-1b": {
        "vocab_size": 44_928,
        "trained on": "a part of Japanese C4, CC-100 and Wikipedia, then emoji and symbols added",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": True,
        "special ids": "<s> 2, </s> 3",
    },
    "japanese-gpt-neox-small": {"vocab_size": 44_416, "special ids": "<s> 2, </s> 3"},
    "japanese-gpt-neox-3.6b": {
        "vocab_size": 32_000,
        "trained on": "Japanese corpora",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "line feed": "the symbol <NL>",
        "special ids": "<s> 2, </s> 3",
    },
    "bilingual-gpt-neox-4b": {
        "vocab_size": 65_536,
        "trained on": "a mixture of Japanese and English",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "line feed": "a piece",
        "blanks": "each a piece of its own; no piece begins with one",
        "special ids": "<s> 2, </s> 3",
    },
}
"""Model, or models of one tokenizer -> what its sources state."""


def beside(name: str, encoder: Any) -> list[tuple[str, str, str]]:
    """(setting, of the released tokenizer, of ours) for all that either states.

    Args:
        name: of `RELEASED`.
        encoder: the section of our encoder.
    """
    ours = {
        "algorithm": encoder.algorithm,
        "vocab_size": encoder.vocab_size,
        "trained on": ", ".join(part.corpus for part in encoder.corpora),
        "normalisation": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "byte_fallback": encoder.byte_fallback,
        "split_digits": encoder.split_digits,
        "character_coverage": encoder.character_coverage,
        "max_piece_chars": encoder.max_piece_chars,
        "line feed": "a piece" if "\n" in encoder.symbols else "a byte",
        "blanks": "pieces; a piece may begin with one",
        "special ids": ", ".join(f"{piece} {number}" for number, piece in enumerate(SPECIALS.values())),
    }
    theirs = RELEASED[name]
    return [(key, _words(theirs.get(key, NOT_PUBLIC)), _words(value)) for key, value in ours.items()]


def _words(value: Any) -> str:
    return number(value)
