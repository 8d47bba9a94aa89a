"""`shard` beside SentencePiece alone, the loader of tokens, and the ids of both forms of a tokenizer on real text."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe, one_core
from benchmarks.project import inside
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, run_side
from benchmarks.text_project import WHOLE, write_encoder, write_text
from components.fit import fit
from components.ingest import ingest
from components.validate import validate

NAME = "text-sharding"
BPE, UNIGRAM = "spm-bpe", "spm-unigram"
SAMPLE_CHARS = 4_000_000
"""What both are fitted on: how a tokenizer came about does not matter to its speed, and unigram is slow to train."""
LEAST_SHARE = 0.75
LEAST_TOKENS_PER_SECOND = 50e6


def measure(
    source: Path,
    language: str = "ja",
    repeats: int = 5,
    size: Literal["whole", "tenth"] = WHOLE,
    vocab_size: int = 32_000,
    unigram: bool = True,
) -> Result:
    """Shard a folder of text, load it, and compare ids.

    Args:
        source: a folder of `*.jsonl.gz`, such as text_ja.
        language: of its text, `ja` or `en`.
        repeats: measurements of each speed.
        size: how much of it.
        vocab_size: of both tokenizers; English text of 4 million characters gives 26,306 pieces at most.
        unigram: also compare the ids of a unigram tokenizer, which takes minutes to train.

    Raises:
        Refused: there is nothing to measure, or a stage fails.
    """
    require_repeats(repeats)
    source = source.resolve()
    corpus, outcome = f"{language}-{size}", Path("out.json")
    parity: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, inside(Path(temporary)), one_core():
        write_text(source, language, Path())
        algorithms = {BPE: "bpe"} | ({UNIGRAM: "unigram"} if unigram else {})
        for name, algorithm in algorithms.items():
            write_encoder(Path(), name, corpus, vocab_size, algorithm=algorithm, sample_chars=SAMPLE_CHARS)
        ingest(corpus)
        validate(corpus)
        for name in algorithms:
            fit(name)
        found = run_side(our_command("benchmarks.our_sharding"), [corpus, BPE, str(repeats)], outcome)
        for name in algorithms:
            parity[name] = run_side(our_command("benchmarks.our_parity"), [corpus, name], outcome)
    setting = (
        f"{source.name}: {found['num_bytes']:,} bytes of accepted text, {found['counts']['train/tokens']:,} tokens of "
        f"{vocab_size:,} pieces in the train split; one thread; medians of {repeats}. Batches are 8 windows of 1,024 "
        "tokens in a random order."
    )
    notes = [
        setting,
        *(f"{name}: first difference: {each['first_difference'] or 'none'}." for name, each in parity.items()),
    ]
    command = f"python -m benchmarks {NAME} {source.name} --language {language} --repeats {repeats} --size {size}"
    command += f" --vocab-size {vocab_size}"
    command += "" if unigram else " --no-unigram"
    return Result(
        f"{NAME}-{language}", command, _rows(found, parity, repeats), notes, describe(), found | {"parity": parity}
    )


def _rows(found: dict[str, Any], parity: dict[str, dict[str, Any]], repeats: int) -> list[Row]:
    megabytes = found["num_bytes"] / 1e6
    ours, theirs = ([megabytes / seconds for seconds in found[side]] for side in ("ours", "theirs"))
    wanted = [LEAST_TOKENS_PER_SECOND] * repeats
    rows = [
        Row.compare("shard: MB of text per CPU second", "SentencePiece alone", ours, theirs, at_least=LEAST_SHARE),
        Row.compare(
            "loader: tokens per CPU second", "what was wanted", found["tokens_per_second"], wanted, at_least=1.0
        ),
    ]
    for name, each in parity.items():
        differing = Spread(each["differing"], each["differing"], each["differing"])
        documents = Spread(each["documents"], each["documents"], each["documents"])
        rows.append(Row(f"{name}: documents with other ids in tokenizer.json", "all documents", documents, differing))
    return rows
