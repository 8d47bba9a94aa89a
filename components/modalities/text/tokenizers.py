"""Tokenizers of text: training by SentencePiece, proof that the released form is equal, and use.

Text is taken as it is (identity normalisation, no dummy prefix, no removal of white space) and characters beyond the
vocabulary become bytes, so every text can be restored from its ids. Special tokens are never matched in text: a page
that holds the characters `</s>` gets the ids of these characters, not the end of a text.
"""

import io
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from components import tokenizer_json
from components import tokenizer_parity as parity
from components.devices import num_threads
from components.modalities.text.schema import SentencePiece
from components.modalities.text.training_text import MAX_LINE_BYTES, Fed, recalled, training_lines
from components.outcomes import Refused
from components.tokenizer_json import MODEL_NAME, SPACE, SPECIALS
from components.wording import one_line

logger = logging.getLogger(__name__)


# ---- training --------------------------------------------------------------------------------------------------------


def train(encoder: SentencePiece, texts: Iterable[str], fed: Fed) -> bytes:
    """Train a SentencePiece model; the same bytes for the same texts, with BPE for any number of threads.

    Args:
        encoder: the section of the recipe.
        texts: documents, read once.
        fed: filled with counts of what was read.

    Raises:
        Refused: there is no text, the vocabulary does not fit it, or SentencePiece left something out.
    """
    import sentencepiece

    _check_symbols(encoder.symbols)
    model = io.BytesIO()
    lines = training_lines(texts, fed)
    broken: list[Exception] = []
    with tempfile.TemporaryFile("w+b") as stream:
        try:
            with _standard_error_to(stream):
                trainer = sentencepiece.SentencePieceTrainer
                trainer.Train(sentence_iterator=recalled(lines, broken), model_writer=model, **_options(encoder))
        except RuntimeError as error:
            # SentencePiece turns whatever its input raises into an error of its own.
            raise (broken[0] if broken else _explained(error, encoder, fed)) from error
        finally:
            stream.seek(0)
            log = stream.read().decode(errors="replace")
            logger.info("SentencePiece:\n%s", log)
    _check_nothing_skipped(log, fed)
    return _portable(model.getvalue())


def _options(encoder: SentencePiece) -> dict[str, Any]:
    """What SentencePiece's trainer is told."""
    return {
        "model_type": encoder.algorithm,
        "vocab_size": encoder.vocab_size,
        "character_coverage": encoder.character_coverage,
        "required_chars": _required_chars(encoder),
        "byte_fallback": encoder.byte_fallback,
        "split_digits": encoder.split_digits,
        "max_sentencepiece_length": encoder.max_piece_chars,
        "user_defined_symbols": encoder.symbols,
        "num_threads": encoder.num_threads,
        # Its log tells what it read. The level is one of the process, which others may have changed.
        "minloglevel": 0,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "max_sentence_length": MAX_LINE_BYTES,
        **{f"{role}_id": number for number, role in enumerate(SPECIALS)},
        **{f"{role}_piece": name for role, name in SPECIALS.items()},
    }


def _required_chars(encoder: SentencePiece) -> str:
    """Characters that get a piece however rare they are."""
    # As bytes of U+2581, a space would be restored as U+2581.
    if encoder.algorithm == "bpe":
        return SPACE
    # An unknown character costs tokenizer.json's unigram more than the piece `<s>`, which it would then find in text.
    names = "".join(SPECIALS.values()) + "<0x0123456789ABCDEF>"
    return SPACE + "".join(sorted(set(names)))


def _check_symbols(symbols: list[str]) -> None:
    bad = [each for each in symbols if not each or " " in each or SPACE in each or each in SPECIALS.values()]
    if bad or len(set(symbols)) < len(symbols):
        raise Refused(
            f"'symbols' holds {bad or 'a piece twice'}, expected different pieces without spaces that are not one of "
            f"{list(SPECIALS.values())}. Change the key 'symbols'."
        )


@contextmanager
def _standard_error_to(stream: IO[bytes]) -> Iterator[None]:
    """Catch what C++ code writes to the process's standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _explained(error: RuntimeError, encoder: SentencePiece, fed: Fed) -> Exception:
    """SentencePiece's error in words that name keys of the recipe; one that no key can cause is given back."""
    if not fed.num_lines:
        return Refused(
            f"The corpora hold no text to fit on ({fed.num_documents} documents without a line), expected at least one "
            "document in the train split. Change the key 'corpora', or raise its shares."
        )
    if high := re.search(r"Vocabulary size too high .*?<= (\d+)", str(error)):
        return Refused(
            f"vocab_size {encoder.vocab_size} is larger than the text can give: {fed.num_chars} characters in "
            f"{fed.num_documents} documents give at most {high[1]}. Set the key 'vocab_size' to {high[1]} or less, "
            "or add corpora."
        )
    if low := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
        return Refused(
            f"vocab_size {encoder.vocab_size} is too small: special tokens, bytes and single characters take {low[1]} "
            f"at character_coverage {encoder.character_coverage}. Set the key 'vocab_size' to {low[1]} or more, "
            "or lower 'character_coverage'."
        )
    return error


def _check_nothing_skipped(log: str, fed: Fed) -> None:
    """Hold SentencePiece's own count of lines against ours: it drops some without an error."""
    loaded = re.search(r"Loaded all (\d+) sentences", log)
    if loaded is None or int(loaded[1]) != fed.num_lines:
        skipped = [one_line(line) for line in log.splitlines() if re.search(r"skipp|too long", line, re.IGNORECASE)]
        raise Refused(
            f"SentencePiece read {loaded[1] if loaded else 'no'} lines of {fed.num_lines} given, so its vocabulary "
            f"leaves text out: {skipped[:3]}. Look for these lines in the corpora."
        )


def _portable(model: bytes) -> bytes:
    """The model without what depends on the machine that trained it (paths, threads)."""
    proto = tokenizer_json.parse(model)
    for key in ("input", "model_prefix", "num_threads"):
        proto.trainer_spec.ClearField(key)
    return bytes(proto.SerializeToString(deterministic=True))


# ---- the verb's part -------------------------------------------------------------------------------------------------


def fit(encoder: SentencePiece, values: Iterable[str], held_out: Iterable[str], folder: Path) -> dict[str, Any]:
    """Train a tokenizer into a folder that `AutoTokenizer` loads, and prove that it gives SentencePiece's ids.

    Args:
        encoder: the section of the recipe.
        values: documents to train on, read once.
        held_out: documents on which the proof is made and the fit measured, read once.
        folder: receives `spiece.model`, `tokenizer.json`, `tokenizer_config.json`.

    Returns:
        Counts of the training text (`train`), and of the comparison on `held_out` and on `edges`.

    Raises:
        Refused: see `train`; there is no held-out text; with BPE, one document or edge string gets other ids, or with
            either algorithm one is not restored.
    """
    fed = Fed()
    model = train(encoder, values, fed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_json.write(model, folder)
    found = {"held_out": parity.compare(folder, held_out), "edges": parity.compare(folder, parity.EDGES)}
    if not found["held_out"].num_documents:
        raise Refused(
            "The corpora have no document in the valid split, on which the tokenizer must be proven equal to its "
            "released form. Raise the corpus's key 'splits.valid'."
        )
    for where, each in found.items():
        _check_equal(encoder, where.replace("_", "-"), each)
    return {
        "algorithm": encoder.algorithm,
        "vocab_size": encoder.vocab_size,
        "train": fed.report(),
        **{where: each.report() for where, each in found.items()},
    }


def _check_equal(encoder: SentencePiece, where: str, found: parity.Parity) -> None:
    if found.num_not_restored:
        raise Refused(
            f"{found.num_not_restored} of {found.num_documents} {where} texts are not restored from their ids, "
            "expected none. Set the key 'byte_fallback' to true, or change 'vocab_size'."
        )
    # Unigram models differ on about 1 document in 1,000, by ties and by float32 sums; the report counts them.
    if found.num_differing and encoder.algorithm == "bpe":
        raise Refused(
            f"tokenizer.json gives other ids than SentencePiece on {found.num_differing} of {found.num_documents} "
            f"{where} texts, expected none with BPE; first {found.first_difference}. Change the key 'vocab_size' or "
            "'symbols'."
        )


class TextEncoder:
    """A fitted tokenizer. SentencePiece encodes, since it is three times as fast as its equal `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        import sentencepiece

        path = folder / MODEL_NAME
        if not path.is_file():
            raise Refused(f"{path} is not there, so no text can be encoded. Run: hiraku fit {folder.parent.name}")
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.facts: dict[str, int] = {"vocab_size": self._processor.get_piece_size()}
        self.facts |= {role: self._processor.piece_to_id(name) for role, name in SPECIALS.items()}
        self.num_chars = 0
        """Characters encoded so far."""

    def encode(self, values: list[str]) -> list[np.ndarray]:
        """Token ids (int32, shape [num_tokens]) of each text, without special tokens; the order is kept."""
        self.num_chars += sum(map(len, values))
        return list(self._processor.encode(values, return_type="numpy", num_threads=num_threads()))

    encode_texts = encode
    """Of an encoder with a prompt format, the way around it."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens have none."""
        return str(self._processor.decode([int(each) for each in ids]))


def open_encoder(folder: Path) -> TextEncoder:
    """The tokenizer in a folder that `fit` filled.

    Raises:
        Refused: the folder has no model.
    """
    return TextEncoder(folder)
