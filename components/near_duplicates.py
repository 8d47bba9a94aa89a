"""Near duplicates by MinHash: signatures and bands by datatrove, what belongs together by ours.

datatrove compares n-grams of words, which Japanese does not part; here they are of characters (`modality.shingles`). It
takes whatever shares a band for a duplicate, and of a chain of such pairs keeps any one; here a pair counts when enough
of all its hashes agree, and a record goes only when it is near to the one that stays.

Signatures lie under the checkpoint root, by the content of a corpus: another corpus that is cleaned against it takes
them from there. On disk a record takes 12 bytes a hash and 4 a band; in memory, about 60 bytes for each that is near to
another, and one part's.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer

from components.cleaning_schema import NearDuplicates
from components.executor_schema import Executor
from components.executors import run_parts
from components.kept import kept_folder
from components.manifest import read_manifest
from components.modalities import modality
from components.records import SPLITS, Parts

REVISION = 1
"""Of what is found, here and in `components.decontaminating`."""
MODALITY = "text"
BLOCK = 4096
"""Stretches that are hashed together: 4 MB for 128 hashes."""
PAIRS_AT_ONCE = 50_000
MOST_KEEPERS = 1_000
"""Records of one heap that may stay and be compared with the others; what is left of a greater heap stays too."""
HELD_OUT_FIRST = {"test": 0, "valid": 1, "train": 2}
REMOVED = np.dtype([("record", "<u4"), ("keeper", "<u8"), ("similarity", "<f4")])


# ---- signatures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartReader:
    """The texts of one part's records, as datatrove's documents.

    Args:
        parts: of the corpus.
        columns: name -> section, of text.
        root: the folder of the project, which a worker elsewhere may not stand in.
    """

    parts: Parts
    columns: dict[str, Any]
    root: str

    def __call__(self, _data: Any, rank: int, _world_size: int) -> Iterator[Document]:
        """Documents of the part `rank`."""
        os.chdir(self.root)
        own = modality(MODALITY)
        for record in self.parts.records(rank, list(self.columns)):
            texts = [text for name, section in self.columns.items() for text in own.texts_of(record[name], section)]
            yield Document(text="\0".join(texts), id=record["id"], metadata={"split": record["split"]})


class _NoWords(WordTokenizer):
    """datatrove's step wants words; ours has none."""

    def word_tokenize(self, text: str) -> list[str]:
        return [text]

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def minima(shingles: Iterator[np.ndarray], factors: np.ndarray, offsets: np.ndarray) -> np.ndarray | None:
    """The least of each hash function over a set of stretches, uint64 [hashes]; None of none.

    The functions are a x + b modulo 2^64, of which the upper 61 bits stay (Dietzfelbinger et al. 1997).
    """
    found: np.ndarray | None = None
    for piece in shingles:
        for start in range(0, len(piece), BLOCK):
            least = (piece[start : start + BLOCK, None] * factors + offsets).min(axis=0)
            found = least if found is None else np.minimum(found, least)
    return None if found is None else found >> np.uint64(3)


class Signatures(MinhashDedupSignature):
    """Bands of each part's signatures, and beside them the signatures themselves in the order of records.

    Args:
        folder: where they go.
        settings: how records are compared.
    """

    name = "signatures of stretches of characters"

    def __init__(self, folder: Path, settings: NearDuplicates) -> None:
        super().__init__(folder.as_posix(), config_of(settings), language=_NoWords())
        self.rows = folder / "rows"
        self.num_chars = settings.ngram_chars
        generator = np.random.default_rng(settings.seed)
        shape = (2, settings.num_bands * settings.band_rows)
        drawn = generator.integers(0, 2**64, shape, dtype=np.uint64, endpoint=False)
        self.factors, self.offsets = drawn[0] | np.uint64(1), drawn[1]
        self.whole: np.ndarray = np.empty(0, np.uint64)
        self.file: Any = None

    def get_shingles(self, text: str) -> np.ndarray:
        """The signature, made here since a text is hashed piece by piece; nothing where there is no letter."""
        pieces = modality(MODALITY).shingles(text, self.num_chars)  # type: ignore[attr-defined]
        found = minima(pieces, self.factors, self.offsets)
        self.whole = np.empty(0, np.uint64) if found is None else found
        row = np.zeros(len(self.factors), "<u4") if found is None else self.whole.astype("<u4")
        self.file.write(row.tobytes())
        return self.whole

    def get_signature(self, _shingles: np.ndarray) -> list[list[int]]:
        """The signature in bands."""
        return [band.tolist() for band in np.split(self.whole, self.config.num_buckets)]

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> None:
        """Write one part."""
        splits = bytearray()

        def noted() -> Iterator[Document]:
            for document in data:
                splits.append(SPLITS.index(document.metadata["split"]))
                yield document

        self.rows.mkdir(parents=True, exist_ok=True)
        with (self.rows / f"{rank:05d}.bin").open("wb") as self.file:
            super().run(noted(), rank, world_size)
        self.file = None
        (self.rows / f"{rank:05d}.splits").write_bytes(splits)


def config_of(settings: NearDuplicates) -> MinhashConfig:
    """The same in datatrove's words."""
    return MinhashConfig(
        n_grams=settings.ngram_chars,
        num_buckets=settings.num_bands,
        hashes_per_bucket=settings.band_rows,
        hash_config=HashConfig(precision=64, hash_fc="sha1"),  # no hash of its own is used
    )


# ---- what belongs together -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A corpus whose records are compared."""

    parts: Parts
    columns: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """What decides its texts."""
        return {
            "text": modality(MODALITY).REVISION,
            "corpus": [read_manifest(verb, self.parts.corpus).payload_hash for verb in ("ingest", "validate")],
            "columns": sorted(self.columns),
        }

    def facts(self, settings: NearDuplicates) -> dict[str, Any]:
        """What decides its signatures."""
        return {
            "revision": REVISION,
            **self.content(),
            "settings": settings.model_dump(exclude={"against", "min_similarity"}),
        }


def find(
    corpora: list[Compared], settings: NearDuplicates, executor: Executor, tell: Callable[[str], None]
) -> tuple[Path, list[tuple[int, int]]]:
    """Find which records of the last of some corpora are near to others.

    Args:
        corpora: those whose records stay, in their order, then the one that is cleaned.
        settings: how they are compared.
        executor: where the work runs.
        tell: receives words about it.

    Returns:
        The folder with `removed/00000.npy` of each part of the last one, of type `REMOVED` in the order of records; and
        (corpus, part) by the number of a file, which is what a keeper's upper 32 bits say; the lower are its record.
    """
    facts = [each.facts(settings) for each in corpora]
    run = folder_of({"signatures": facts, "min_similarity": settings.min_similarity})
    files = [(number, part) for number, each in enumerate(corpora) for part in range(len(each.parts.files))]
    done = run / "done"
    if done.exists():
        return run, files
    signatures = []
    for each, own in zip(corpora, facts, strict=True):
        tell(f"signatures of {each.parts.corpus}")
        folder = folder_of(own)
        reader = PartReader(each.parts, each.columns, Path.cwd().as_posix())
        work = f"signatures of {each.parts.corpus}"
        run_parts(work, [reader, Signatures(folder.resolve(), settings)], len(each.parts.files), folder, executor)
        signatures.append(folder)
    compare(run, signatures, files, settings, executor, tell)
    done.touch()
    return run, files


def compare(
    run: Path,
    signatures: list[Path],
    files: list[tuple[int, int]],
    settings: NearDuplicates,
    executor: Executor,
    tell: Callable[[str], None],
) -> None:
    """Write which records of the last corpus go, from the signatures of all; see `find`.

    Args:
        run: where it goes.
        signatures: the folder of each corpus.
        files: (corpus, part) by the number of a file.
        settings: how records are compared.
        executor: where the work runs.
        tell: receives words about it.
    """
    _link(run, signatures, files, settings.num_bands)
    tell("pairs that share a band")
    pairs = MinhashDedupBuckets(
        (run / "bands").resolve().as_posix(), (run / "pairs").resolve().as_posix(), config=config_of(settings)
    )
    run_parts("pairs that share a band", [pairs], settings.num_bands, run, executor)
    tell("heaps of near duplicates")
    rows = [signatures[number] / "rows" / f"{part:05d}.bin" for number, part in files]
    _write_removed(run, rows, files, len(signatures) - 1, settings)


def folder_of(facts: Any) -> Path:
    """Where a work with these facts lies."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = kept_folder("near_duplicates") / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _link(run: Path, signatures: list[Path], files: list[tuple[int, int]], num_bands: int) -> None:
    """All bands in one folder, numbered through."""
    shutil.rmtree(run / "bands", ignore_errors=True)
    for band in range(num_bands):
        folder = run / "bands" / f"bucket_{band:03d}"
        folder.mkdir(parents=True)
        for number, (corpus, part) in enumerate(files):
            source = signatures[corpus] / f"bucket_{band:03d}" / f"{part:05d}.minhash.sig"
            target = folder / f"{number:05d}.minhash.sig"
            try:
                target.hardlink_to(source)
            except OSError:  # a disk without hard links
                shutil.copyfile(source, target)


class _Rows:
    """Signatures by the number of a record: its file in the upper 32 bits, its place in the lower."""

    def __init__(self, paths: list[Path], num_hashes: int) -> None:
        self.files = [
            np.memmap(path, "<u4", "r").reshape(-1, num_hashes)
            if path.stat().st_size
            else np.empty((0, num_hashes), "<u4")
            for path in paths
        ]
        self.num_hashes = num_hashes

    def __getitem__(self, records: np.ndarray) -> np.ndarray:
        found = np.empty((len(records), self.num_hashes), "<u4")
        numbers = (records >> np.uint64(32)).astype(np.int64)
        places = (records & np.uint64(0xFFFFFFFF)).astype(np.int64)
        for number in np.unique(numbers):
            own = numbers == number
            found[own] = self.files[number][places[own]]
        return found

    def similarity(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The share of hashes that agree: an estimate of the similarity of Jaccard, float32 [pairs]."""
        return np.asarray((self[one] == self[other]).mean(axis=1), np.float32)


def _near_pairs(run: Path, rows: _Rows, least: float) -> np.ndarray:
    """Pairs that share a band and are near, each once, uint64 [pairs, 2]."""
    near = [np.empty((0, 2), np.uint64)]
    for path in sorted((run / "pairs").glob("*.dups")):
        raw = np.fromfile(path, "<u4").reshape(-1, 4).astype(np.uint64)
        both = np.stack([raw[:, 0] << np.uint64(32) | raw[:, 1], raw[:, 2] << np.uint64(32) | raw[:, 3]], axis=1)
        for start in range(0, len(both), PAIRS_AT_ONCE):
            part = both[start : start + PAIRS_AT_ONCE]
            near.append(part[rows.similarity(part[:, 0], part[:, 1]) >= least])
    return np.unique(np.concatenate(near), axis=0)


def _write_removed(
    run: Path, paths: list[Path], files: list[tuple[int, int]], cleaned: int, settings: NearDuplicates
) -> None:
    rows = _Rows(paths, settings.num_bands * settings.band_rows)
    pairs = _near_pairs(run, rows, settings.min_similarity)
    removed = heaps(pairs, rows, _order(paths, files, cleaned), settings.min_similarity)
    numbers = removed[:, 0] >> np.uint64(32)
    folder = run / "removed"
    folder.mkdir(exist_ok=True)
    for number, (corpus, part) in enumerate(files):
        if corpus != cleaned:
            continue
        own = removed[numbers == number]
        table = np.empty(len(own), REMOVED)
        table["record"], table["keeper"] = own[:, 0] & np.uint64(0xFFFFFFFF), own[:, 1]
        table["similarity"] = rows.similarity(own[:, 0], own[:, 1])
        np.save(folder / f"{part:05d}.npy", np.sort(table, order="record"), allow_pickle=False)


def _order(paths: list[Path], files: list[tuple[int, int]], cleaned: int) -> Callable[[np.ndarray], np.ndarray]:
    """Who stays: what stays in any case, then what is held out, then what was read first; indices that sort so."""
    splits = [np.frombuffer(path.with_suffix(".splits").read_bytes(), np.uint8) for path in paths]
    rank = np.array([HELD_OUT_FIRST[split] for split in SPLITS])
    is_cleaned = np.array([corpus == cleaned for corpus, _ in files])

    def sorted_by(records: np.ndarray) -> np.ndarray:
        numbers, places = (records >> np.uint64(32)).astype(np.int64), records & np.uint64(0xFFFFFFFF)
        split = np.array([rank[splits[n][int(p)]] for n, p in zip(numbers, places, strict=True)])
        return np.lexsort((records, split, is_cleaned[numbers]))

    return sorted_by


def heaps(pairs: np.ndarray, rows: Any, sorted_by: Callable[[np.ndarray], np.ndarray], least: float) -> np.ndarray:
    """Of each heap of records that pairs connect, the first stays and what is near to it goes, and so on.

    Args:
        pairs: numbers of records, uint64 [pairs, 2].
        rows: their `similarity`.
        sorted_by: indices that sort records by who stays.
        least: the similarity from which on two are near.

    Returns:
        (record that goes, record that stays), uint64 [removed, 2].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    records, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(records), len(records)))
    _, labels = connected_components(graph, directed=False)
    removed = [np.empty((0, 2), np.uint64)]
    order = np.argsort(labels, kind="stable")
    for heap in np.split(records[order], np.flatnonzero(np.diff(labels[order])) + 1) if len(records) else ():
        left = heap[sorted_by(heap)]
        for _ in range(MOST_KEEPERS):
            if len(left) < 2:
                break
            keeper, left = left[0], left[1:]
            near = np.concatenate(
                [
                    rows.similarity(part, np.full(len(part), keeper)) >= least
                    for part in np.split(left, range(PAIRS_AT_ONCE, len(left), PAIRS_AT_ONCE))
                ]
            )
            removed.append(np.stack([left[near], np.full(near.sum(), keeper)], axis=1))
            left = left[~near]
    return np.concatenate(removed)
