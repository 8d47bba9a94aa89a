"""Baseline of language models: a character n-gram model with interpolated modified Kneser-Ney smoothing.

    python -m benchmarks ngram CORPUS --order 5 8 --recipe RECIPE   a validated corpus, beside what a recipe scored
    python -m benchmarks ngram A.jsonl.gz B.jsonl --order 2 6       plain files, split by content hash

Trains on the split `train`, prints bits per character and per byte on `test` for each order asked for. The convention
is that of the task `held-out-bits`: of each document, all characters and one end-of-document symbol are predicted; bits
are summed over both and divided by the characters (or UTF-8 bytes) of the text alone. Nothing is predicted across
documents. The last level backs off to a uniform distribution over all Unicode scalar values and the end symbol, so
every text has a probability, as it has for a tokenizer with byte fallback; what unknown characters cost is printed.
"""

import gzip
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cyclopts

from benchmarks.figures import Row, Spread
from benchmarks.kneser_ney import KneserNey
from benchmarks.machine import describe
from benchmarks.report import Result, save
from components import paths
from components.meters import peak_process_memory
from components.modalities.text.scoring import first_by_hash
from components.outcomes import Refused
from components.recipes import Library
from components.records import content_digest, iterate_records, split_of

NAME = "ngram"
TEST_SHARE = 0.03


@dataclass(frozen=True)
class Score:
    """One order's result on the held-out documents; bits include the end of each document."""

    order: int
    bits_per_character: float
    bits_per_byte: float
    bits: float
    bits_of_unknown: float
    """Bits spent on characters that the train split never has."""
    num_unknown: int
    num_grams: list[int]
    """Distinct n-grams of each order in train."""
    fit_seconds: float
    score_seconds: float


def read_files(paths: Iterable[Path], share: float) -> dict[str, list[str]]:
    """Texts of JSON Lines files by split, exact copies dropped.

    Args:
        paths: `.jsonl` or `.jsonl.gz` with a field `text`.
        share: of documents to keep, chosen by their content.
    """
    splits: dict[str, list[str]] = {"train": [], "test": []}
    seen: set[bytes] = set()
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                digest = content_digest({"text": text})
                if not text or digest in seen:
                    continue
                seen.add(digest)
                if int.from_bytes(digest[8:], "big") < share * 2**64:
                    splits[split_of(digest, 0.0, TEST_SHARE)].append(text)
    return splits


def read_corpus(corpus: str, column: str, max_documents: int | None) -> dict[str, list[str]]:
    """Accepted records of a corpus: train, and of test the sample that a task with `max_documents` is scored on."""
    train = [row[column] for row in iterate_records(corpus, [column], {"train"})]
    test = first_by_hash(iterate_records(corpus, [column], {"test"}), max_documents)
    return {"train": train, "test": [row[column] for row in test]}


def measure(splits: dict[str, list[str]], orders: Iterable[int]) -> Iterator[Score]:
    """Fit on train and score on test, one order after another."""
    test = splits["test"]
    num_characters, num_bytes = sum(map(len, test)), sum(len(text.encode("utf-8")) for text in test)
    for order in orders:
        start = time.perf_counter()
        model = KneserNey.fit(splits["train"], order)
        fitted = time.perf_counter()
        bits, known = model.bits(test)
        yield Score(
            order=order,
            bits_per_character=float(bits.sum()) / num_characters,
            bits_per_byte=float(bits.sum()) / num_bytes,
            bits=float(bits.sum()),
            bits_of_unknown=float(bits[~known].sum()),
            num_unknown=int((~known).sum()),
            num_grams=[len(level.codes) for level in model.levels],
            fit_seconds=round(fitted - start, 2),
            score_seconds=round(time.perf_counter() - fitted, 2),
        )


def _sizes(texts: list[str]) -> dict[str, int]:
    return {
        "num_documents": len(texts),
        "num_characters": sum(map(len, texts)),
        "num_bytes": sum(len(text.encode("utf-8")) for text in texts),
    }


def neural_score(recipe: str, corpus: str) -> tuple[float, int | None]:
    """What `evaluate` found for a recipe: bits per character, and how many documents its task takes of a corpus.

    Raises:
        Refused: the recipe has no such task, or was not evaluated.
    """
    library = Library()
    for name in library.read("recipe", recipe).evaluate.tasks:
        task = library.read("task", name)
        if task.kind == "held-out-bits" and (task.corpus, task.split) == (corpus, "test"):
            path = paths.payload("evaluate", recipe) / "scores.json"
            if not path.is_file():
                raise Refused(f"{path} is not there, so there is no score. Run: hiraku evaluate {recipe}")
            scores = json.loads(path.read_text(encoding="utf-8"))["tasks"]
            return float(scores[name]["bits_per_character"]), task.max_documents
    raise Refused(f"Recipe '{recipe}' has no task of kind 'held-out-bits' on the split test of '{corpus}'.")


def _splits_of(sources: tuple[str, ...], column: str, max_documents: int | None, share: float) -> dict[str, list[str]]:
    files = [Path(source) for source in sources if ".jsonl" in source]
    if not sources or (len(files) not in (0, len(sources))) or (not files and len(sources) > 1):
        raise Refused(f"Found sources {list(sources)}, expected one corpus or JSON Lines files.")
    splits = read_files(files, share) if files else read_corpus(sources[0], column, max_documents)
    empty = [split for split, texts in splits.items() if not texts]
    if empty:
        raise Refused(f"Found no document in {', '.join(empty)}, expected some in train and test. Give more text.")
    return splits


def _row(corpus: str, score: Score, ours: float | None) -> Row:
    figure, peer = f"{corpus}: held-out bits per character", f"character {score.order}-gram, modified Kneser-Ney"
    if ours is None:
        return Row(figure, peer, Spread.of([score.bits_per_character]))
    return Row.compare(figure, peer, [ours], [score.bits_per_character], at_most=1.0)


def main(
    *sources: str,
    order: Annotated[list[int], cyclopts.Parameter(consume_multiple=True)] = [5],  # noqa: B006 - never changed
    column: str = "text",
    max_documents: int | None = None,
    share: float = 1.0,
    recipe: str | None = None,
    save_as: str | None = None,
) -> None:
    """Bits per character of n-gram models on held-out documents.

    Args:
        sources: one corpus, or JSON Lines files.
        order: lengths of the n-grams; each is a model of its own.
        column: of the corpus.
        max_documents: so many test documents only, as the key of the same name in a task (corpus only).
        share: of the documents to keep, chosen by their content (files only).
        recipe: compare with what this evaluated recipe reached, on the documents of its task (corpus only).
        save_as: also write `benchmarks/results/<save_as>.json`.
    """
    ours = None
    if recipe:
        ours, max_documents = neural_score(recipe, sources[0] if len(sources) == 1 else "")
    splits = _splits_of(sources, column, max_documents, share)
    sizes = {split: _sizes(texts) for split, texts in splits.items()}
    for split, counts in sizes.items():
        print(split, *(f"{value:,} {name.removeprefix('num_')}" for name, value in counts.items()))
    print(
        "| order | bits per character | bits per byte | unknown characters | their bits | n-grams | fit s | score s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    scores = []
    for score in measure(splits, order):
        scores.append(score)
        print(
            f"| {score.order} | {score.bits_per_character:.4f} | {score.bits_per_byte:.4f} | {score.num_unknown} "
            f"| {score.bits_of_unknown:.0f} | {sum(score.num_grams):,} | {score.fit_seconds} | {score.score_seconds} |",
            flush=True,
        )
    if save_as:
        chosen = {"column": column if column != "text" else None, "share": share if share < 1 else None}
        chosen |= {"recipe": recipe, "max-documents": None if recipe else max_documents, "save-as": save_as}
        words = [*sources, "--order", *map(str, order)]
        words += [word for key, value in chosen.items() if value is not None for word in (f"--{key}", str(value))]
        command = f"python -m benchmarks {NAME} {' '.join(words)}"
        measured = {"sizes": sizes, "scores": list(map(asdict, scores)), "peak_memory_bytes": peak_process_memory()}
        rows = [_row(", ".join(sources), score, ours) for score in scores]
        save(Result(save_as, command, rows, [_note(sizes)], describe(), measured))


def _note(sizes: dict[str, dict[str, int]]) -> str:
    told = (
        f"{counts['num_documents']:,} documents, {counts['num_characters']:,} characters" for counts in sizes.values()
    )
    return "; ".join(f"{split}: {words}" for split, words in zip(sizes, told, strict=True)) + "."
