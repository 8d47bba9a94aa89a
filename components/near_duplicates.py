"""Near duplicates by MinHash: signatures and bands by datatrove, what belongs together by ours.

datatrove compares n-grams of words, which Japanese does not part; here they are of characters (`modality.shingles`). It
takes whatever shares a band for a duplicate, and of a chain of such pairs keeps any one; here a pair counts when enough
of all its hashes agree, and a record goes only when it is near to the one that stays.

Signatures lie under the checkpoint root, by the content of a corpus: another corpus that is cleaned against it takes
them from there. On disk a record takes 12 bytes a hash and 4 a band; in memory, about 100 bytes for each pair of near
ones, and one part's.
"""

import hashlib
import json
import os
import resource
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
from components.executors import room_for, run_parts
from components.heaps import write_removed
from components.kept import kept_folder
from components.locks import held
from components.manifest import read_manifest
from components.modalities import modality
from components.outcomes import Refused
from components.records import SPLITS, Parts

REVISION = 2
"""Of what is found, here and in `components.decontaminating`."""
MODALITY = "text"
BLOCK = 4096
"""Stretches that are hashed together: 4 MB for 128 hashes."""
FILES_BESIDE = 64
"""Open files that a process has besides those that it compares."""


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


class Pairs(MinhashDedupBuckets):
    """Pairs that share a band, from the files of all parts at once, which are more than a shell's usual limit."""

    name = "pairs that share a band"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write one band's."""
        allow_files(len(self.input_folder.list_files(subdirectory=f"bucket_{rank:03d}")))
        super().run(data, rank, world_size)


def allow_files(number: int) -> None:
    """Let this process have so many files open.

    Raises:
        Refused: the system does not allow it.
    """
    needed = number + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Refused(
            f"Near duplicates among {number:,} files of records need {needed:,} open files, and this machine allows a "
            f"process {hard:,}. Raise its hard limit (ulimit -Hn; LimitNOFILE of a service), then run the same command."
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


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
        The folder with `removed/00000.npy` of each part of the last one, see `components.heaps.write_removed`; and
        (corpus, part) by the number of a file, which is what a keeper's upper 32 bits say; the lower are its record.

    Raises:
        Refused: the disk or the limit of open files is too small, or the executor is not there.
        Busy: another process makes the same.
    """
    facts = [each.facts(settings) for each in corpora]
    run = folder_of({"signatures": facts, "min_similarity": settings.min_similarity})
    files = [(number, part) for number, each in enumerate(corpora) for part in range(len(each.parts.files))]
    done = run / "done"
    if done.exists():
        return run, files
    allow_files(len(files))
    signatures = [folder_of(own) for own in facts]
    _require_space(corpora, signatures, settings)
    for each, folder in zip(corpora, signatures, strict=True):
        tell(f"signatures of {each.parts.corpus}")
        reader = PartReader(each.parts, each.columns, Path.cwd().as_posix())
        work = f"signatures of {each.parts.corpus}"
        with held(lock_of(folder)):  # two corpora may be cleaned against one and the same
            run_parts(work, [reader, Signatures(folder.resolve(), settings)], len(each.parts.files), folder, executor)
    with held(lock_of(run)), room_for("near duplicates", run):
        compare(run, signatures, files, settings, executor, tell)
        done.touch()
        for name in ("bands", "pairs"):  # a file for each band of each part
            shutil.rmtree(run / name)
    return run, files


def _require_space(corpora: list[Compared], signatures: list[Path], settings: NearDuplicates) -> None:
    """Refuse before hours of work what the disk could not hold after them."""
    record_bytes = settings.num_bands * (12 * settings.band_rows + 4)
    needed = 0
    for each, folder in zip(corpora, signatures, strict=True):
        num_done = len(list((folder / "completions").glob("*")))
        needed += int(record_bytes * each.parts.starts[-1] * (1 - num_done / max(1, len(each.parts.files))))
    free = shutil.disk_usage(kept_folder("near_duplicates")).free
    if free < needed:
        raise Refused(
            f"Signatures of {', '.join(each.parts.corpus for each in corpora)} take {needed / 1e6:,.0f} MB in "
            f"{kept_folder('near_duplicates')}, and {free / 1e6:,.0f} are free. Free some, set HIRAKU_CHECKPOINT_ROOT "
            "to a larger disk, or lower source.near_duplicates.num_bands."
        )


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
    pairs = Pairs(
        (run / "bands").resolve().as_posix(), (run / "pairs").resolve().as_posix(), config=config_of(settings)
    )
    run_parts("pairs that share a band", [pairs], settings.num_bands, run, executor)
    tell("heaps of near duplicates")
    rows = [signatures[number] / "rows" / f"{part:05d}.bin" for number, part in files]
    write_removed(run, rows, files, len(signatures) - 1, settings)


def folder_of(facts: Any) -> Path:
    """Where a work with these facts lies."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = kept_folder("near_duplicates") / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock_of(folder: Path) -> Path:
    """The file by which a process holds such a folder against all others."""
    return folder.with_name(f"{folder.name}.lock")


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
