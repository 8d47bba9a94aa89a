"""Planted near duplicates beside datatrove's own example: recall by the share of edits, and precision.

datatrove's example (examples/minhash_deduplication.py) has 14 bands of 8 hashes over 5-grams of words. Its tokenizer of
Japanese is spaCy's, which needs a model; here words are those of fugashi with unidic-lite, which does it no harm.
"""

import gzip
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.report import Result
from components.outcomes import Refused

NAME = "near-duplicates"
PEER = "datatrove 0.10, its example's settings"
EDITS = (0.02, 0.05, 0.1, 0.2)
WAYS = ("here and there", "in one piece")
WIDE = {"ngram_chars": 3, "num_bands": 42, "band_rows": 3, "min_similarity": 0.28}
"""Settings of ours for more edits: more pairs become candidates, so they take longer on a large corpus."""
LENGTHS = (300, 3000)
"""Characters of a text that takes part."""


@dataclass(frozen=True)
class Source:
    """Texts as datatrove's documents."""

    texts: tuple[str, ...]

    def __call__(self, _data: Any, _rank: int, _world_size: int) -> Iterator[Any]:
        """All of them."""
        from datatrove.data import Document

        for number, text in enumerate(self.texts):
            yield Document(text=text, id=str(number), metadata={"split": "train"})


def edited(text: str, share: float, way: str, other: str, chance: random.Random) -> str:
    """The same text with a share of its characters replaced: single ones, or a piece by a piece of another text."""
    count = round(share * len(text))
    if way == WAYS[1]:
        start = chance.randint(0, len(text) - count)
        return text[:start] + other[:count] + text[start + count :]
    changed = list(text)
    for place in chance.sample(range(len(text)), count):
        changed[place] = chance.choice(other)
    return "".join(changed)


def ours(texts: tuple[str, ...], folder: Path, changed: dict[str, Any] | None = None) -> set[int]:
    """The numbers of texts that go, by our defaults or other settings."""
    from components.cleaning_schema import NearDuplicates
    from components.executor_schema import Local
    from components.executors import run_parts
    from components.near_duplicates import Signatures, compare

    settings = NearDuplicates.model_validate(changed or {})
    run_parts("signatures", [Source(texts), Signatures(folder / "own", settings)], 1, folder / "own", Local())
    compare(folder / "run", [folder / "own"], [(0, 0)], settings, Local(), lambda _words: None)
    return {int(row["record"]) for row in np.load(folder / "run" / "removed" / "00000.npy")}


def theirs(texts: tuple[str, ...], folder: Path) -> set[int]:
    """The numbers of texts that go, by datatrove's example."""
    import fugashi
    from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    from components.executor_schema import Local
    from components.executors import run_parts

    tagger = fugashi.Tagger("-Owakati")

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return str(tagger.parse(text)).split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    hashes = HashConfig(precision=64, hash_fc="sha1")  # its xxhash does not run with xxhash 4: a string is no bytes
    config = MinhashConfig(hash_config=hashes, num_buckets=14, hashes_per_bucket=8)
    places = {key: (folder / key).as_posix() for key in ("signatures", "buckets", "removed")}
    signature = MinhashDedupSignature(places["signatures"], config, language=Words())
    run_parts("signatures", [Source(texts), signature], 1, folder / "logs-1", Local())
    bands = MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)
    run_parts("buckets", [bands], config.num_buckets, folder / "logs-2", Local())
    cluster = MinhashDedupCluster(places["buckets"], places["removed"], config=config)
    run_parts("clusters", [cluster], 1, folder / "logs-3", Local())
    found = folder / "removed" / "000000.remove"
    return set(np.fromfile(found, "<u4").tolist()) if found.exists() else set()


def judged(gone: set[int], cases: list[tuple[float, str]], num_single: int) -> dict[str, float]:
    """Recall by edits and way, and precision, in per cent.

    Args:
        gone: numbers of texts that went; 2n and 2n + 1 are the pair n, and single texts follow.
        cases: of each pair, its edits.
        num_single: texts without a copy.
    """
    found: dict[str, list[bool]] = {}
    for number, (share, way) in enumerate(cases):
        hit = 2 * number in gone or 2 * number + 1 in gone
        found.setdefault(f"recall, {share:.0%} edited {way}", []).append(hit)
    rows = {key: 100 * sum(each) / len(each) for key, each in found.items()}
    right = sum(number // 2 < len(cases) and number ^ 1 not in gone for number in gone)
    rows["precision"] = 100 * right / len(gone) if gone else 100.0
    wrong = sum(number >= 2 * len(cases) for number in gone)
    rows["single texts that went"] = 100 * wrong / max(num_single, 1)
    return rows


def measure(folder: Path, *, pairs: int = 50, singles: int = 400, seed: int = 0) -> Result:
    """Recall and precision of both.

    Args:
        folder: texts, `*.jsonl.gz` with a key `text`.
        pairs: pairs of a text and its copy for each share of edits and each way.
        singles: texts without a copy.
        seed: of which texts take part, and of the edits.
    """
    chance, known = random.Random(seed), []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            known += [text[: LENGTHS[1]] for line in file if len(text := json.loads(line)["text"]) >= LENGTHS[0]]
    cases = [(share, way) for share in EDITS for way in WAYS for _ in range(pairs)]
    wanted = len(cases) + singles + 1
    if len(known) < wanted:
        raise Refused(f"{folder} has {len(known):,} texts of {LENGTHS[0]} characters, expected {wanted:,}.")
    chosen = chance.sample(known, wanted)
    texts = []
    for text, (share, way) in zip(chosen, cases, strict=False):
        texts += [text, edited(text, share, way, chosen[-1] * 10, chance)]
    texts += chosen[len(cases) : -1]
    found: dict[str, Any] = {}
    for side, remove in (("ours", ours), ("wide", partial(ours, changed=WIDE)), ("theirs", theirs)):
        with TemporaryDirectory() as place:
            remove(tuple(texts[:2]), Path(place) / "imports")
            began = time.process_time()
            gone = remove(tuple(texts), Path(place) / "all")
            seconds = time.process_time() - began
        found[side] = judged(gone, cases, singles) | {"MB per CPU second": _megabytes(texts) / seconds}
    rows = [
        _row(f"{key}{words}", found[side][key], found["theirs"][key])
        for side, words in (("ours", ""), ("wide", "; wide"))
        for key in found["ours"]
    ]
    notes = [
        (
            f"{len(cases):,} pairs of a real text and its edited copy, {singles:,} real texts without one, "
            f"{LENGTHS[0]} to {LENGTHS[1]:,} characters. Recall and precision in per cent; a pair is found when one of "
            "it went, and right when the other stayed."
        ),
        f"Wide are these settings of ours: {', '.join(f'{key} {value}' for key, value in WIDE.items())}.",
        "Single texts that went may be real near duplicates: the texts are what they are.",
    ]
    command = f"python -m benchmarks {NAME} {folder.name} --pairs {pairs} --singles {singles}"
    return Result(NAME, command, rows, notes, describe(), found)


def _megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def _row(figure: str, own: float, other: float) -> Row:
    return (
        Row.compare(figure, PEER, [own], [other]) if other else Row(figure, PEER, Spread.of([other]), Spread.of([own]))
    )
