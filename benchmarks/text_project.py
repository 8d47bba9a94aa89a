"""Real text as corpora of a project in a folder of its own: whole, a tenth of it, and a few documents."""

import gzip
import json
from pathlib import Path
from typing import Any, Final

import yaml

from components.outcomes import Refused

MANY: Final = "many"
WHOLE: Final = "whole"
TENTH: Final = "tenth"
FEW: Final = "few"
EVERY = {WHOLE: 1, TENTH: 10}
"""Of each file, every so-manieth document."""
NUM_FEW = 300
ENDS = {"ja": "。", "en": ". "}
"""Of sentences, by language."""


def write_text(source: Path, language: str, folder: Path, times: int = 1) -> dict[str, int]:
    """Write `<language>-whole`, `-tenth` and `-few` as raw data and corpora into a project; bytes of each.

    Args:
        source: a folder of `*.jsonl.gz`, rows with `text`, `license`, `source`.
        language: `ja` or `en`.
        folder: the project's.
        times: if it is more than 1, `<language>-many` is so many times the whole: documents of a copy begin at another
            of their sentences and bear its number, so that none is a document of another copy.

    Raises:
        Refused: the folder has no such file.
    """
    files = sorted(source.glob("*.jsonl.gz"))
    if not files:
        raise Refused(f"{source} holds no .jsonl.gz, expected files of real text. Name a folder that has some.")
    num_bytes: dict[str, int] = {}
    for size in (WHOLE, TENTH, FEW, *([MANY] if times > 1 else [])):
        name, place = f"{language}-{size}", folder / "data" / f"{language}-{size}"
        place.mkdir(parents=True)
        copies = {file: place / file.name.removesuffix(".gz") for file in files}
        if size == MANY:
            num_bytes[name] = sum(_repeat(file, copy, times, ENDS[language]) for file, copy in copies.items())
        else:
            num_bytes[name] = sum(_copy(file, copy, size, len(files)) for file, copy in copies.items())
        _write_yaml(folder / "recipes" / "corpora" / f"{name}.yaml", corpus_of(name, language))
    return num_bytes


def _copy(file: Path, place: Path, size: str, num_files: int) -> int:
    total = 0
    with gzip.open(file, "rb") as rows, place.open("wb") as copy:
        for number, row in enumerate(rows):
            if size == FEW and number > NUM_FEW // num_files:
                break
            if number % EVERY.get(size, 1) == 0:
                total += copy.write(row)
    return total


def _repeat(file: Path, place: Path, times: int, end: str) -> int:
    total = 0
    with gzip.open(file, "rt", encoding="utf-8") as rows, place.open("wb") as copies:
        for row in map(json.loads, rows):
            sentences = row["text"].split(end)
            for number in range(times):
                first = number % len(sentences)
                text = end.join([*sentences[first:], *sentences[:first], str(number)])
                told = {**row, "id": f"{row['id']}-{number}", "text": text}
                total += copies.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
    return total


def corpus_of(name: str, language: str) -> dict[str, Any]:
    """The section of such a corpus: the filters of `open-ja`, and nothing that refuses it."""
    filters: dict[str, Any] = {"min_chars": 20, "mask_personal_information": True, "drop_damaged": True}
    if language == "ja":
        filters["min_japanese_share"] = 0.3
    return {
        "description": "Real text.",
        "language": language,
        "licence": "of each record",
        "source": {"kind": "files", "paths": [name], "source_field": "source", "id_field": "id"},
        "columns": {"text": {"modality": "text", "field": "text", "filters": filters}},
        "splits": {"valid": 0.02, "test": 0.02},
        "max_reject_share": 1.0,
    }


def write_encoder(folder: Path, name: str, corpus: str, vocab_size: int, **more: Any) -> None:
    """Write a SentencePiece encoder of a corpus."""
    section = {"kind": "sentencepiece", "corpora": [{"corpus": corpus}], "vocab_size": vocab_size} | more
    _write_yaml(folder / "recipes" / "encoders" / f"{name}.yaml", section)


def _write_yaml(path: Path, section: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(section, allow_unicode=True), encoding="utf-8")
