"""`shard` and SentencePiece alone on the same records, by turns, in one process: CPU seconds of each.

SentencePiece encodes the accepted texts in one list, read before the clock begins; `shard` reads records, encodes,
hashes and writes.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import sentencepiece

from components import paths
from components.manifest import read_manifest
from components.modalities.text.windows import Source, TokenSamples, TokenStream
from components.records import iterate_records
from components.settings import set_quiet_environment
from components.shard import shard
from components.tokenizer_json import MODEL_NAME

WINDOW_TOKENS, BATCH_WINDOWS, NUM_BATCHES = 1024, 8, 400


def main(corpus: str, encoder: str, repeats: str, outcome: str) -> None:
    """Measure both in the project in the current folder, and then the loader on what `shard` left."""
    set_quiet_environment()
    texts = [record["text"] for record in iterate_records(corpus, ["text"])]
    model = paths.payload("fit", encoder) / MODEL_NAME
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    name = f"{corpus}+{encoder}"
    ours, theirs = [], []
    for _ in range(int(repeats)):
        began = time.process_time()
        processor.encode(texts, return_type="numpy", num_threads=1)
        theirs.append(time.process_time() - began)
        began = time.process_time()
        shard(name)
        ours.append(time.process_time() - began)
    found = {
        "ours": ours,
        "theirs": theirs,
        "num_bytes": sum(len(text.encode()) for text in texts),
        "counts": read_manifest("shard", name).counts,
        "tokens_per_second": [loaded(name, seed) for seed in range(int(repeats))],
    }
    Path(outcome).write_text(json.dumps(found), encoding="utf-8")


def loaded(name: str, seed: int) -> float:
    """Tokens a CPU second that windows in a random order give as batches."""
    stream = TokenStream(paths.payload("shard", name), "train", WINDOW_TOKENS + 1)
    samples = TokenSamples([Source(stream, 1.0, WINDOW_TOKENS, moves=True)])
    chance = np.random.default_rng(seed)
    batches = chance.integers(0, len(samples), (NUM_BATCHES, BATCH_WINDOWS))
    began = time.process_time()
    for indices in batches:
        samples.batch(indices, seed)
    return NUM_BATCHES * BATCH_WINDOWS * WINDOW_TOKENS / (time.process_time() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
