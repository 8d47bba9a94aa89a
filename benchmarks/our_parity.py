"""Ids of SentencePiece and of what `AutoTokenizer` loads, on every document of a corpus."""

import json
import sys
from pathlib import Path

from components import paths
from components import tokenizer_parity as parity
from components.records import iterate_records
from components.settings import set_quiet_environment


def main(corpus: str, encoder: str, outcome: str) -> None:
    """Compare in the project in the current folder."""
    set_quiet_environment()
    texts = (record["text"] for record in iterate_records(corpus, ["text"]))
    found = parity.compare(paths.payload("fit", encoder), texts)
    Path(outcome).write_text(json.dumps(found.report(), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
