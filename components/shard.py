"""`shard`: accepted records + encoder -> shards that training streams, in the order of the records."""

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components import paths
from components.checkpoints import Checkpoints, fingerprint_of
from components.devices import gpu_held
from components.encoders import models_behind, parents_behind, revisions_behind
from components.journal import Journal
from components.manifest import Manifest, flush, read_manifest, writing
from components.mixtures import demands_on
from components.modalities import MODALITIES, Encoder, modality
from components.outcomes import Refused
from components.progress import Progress
from components.recipes import Corpus, Library
from components.records import column_of, iterate_records

REVISION = 1

FINISHED_NAME = "finished.json"
"""Beside shards that are complete: the counts of them."""
# What is encoded at once: enough for all threads, little enough for memory.
BATCH_RECORDS = 1024
BATCH_SIZE = 4_000_000
"""Characters of a text, bytes of anything else."""


def shard(name: str) -> None:
    """Encode a corpus's accepted records and write them as shards.

    Leaves `artifacts/sharded/<corpus>+<encoder>/`, in memory that does not grow with the corpus.

    Args:
        name: a corpus and an encoder, joined by `+`.

    Raises:
        Refused: the name is not of that form, the encoder's column is not in the corpus, or a split that the corpus
            declares has no accepted record.
    """
    library = Library()
    corpus, encoder_name = _parts(name)
    section = library.read("encoder", encoder_name)
    corpus_section = library.read("corpus", corpus)
    column = column_of(library, corpus, encoder_name)
    parents = [("ingest", corpus), ("validate", corpus), ("fit", encoder_name)]
    manifest = Manifest(
        verb="shard",
        name=name,
        revisions={"components.shard": REVISION, MODALITIES[section.modality]: modality(section.modality).REVISION}
        | revisions_behind(library, encoder_name),
        parents={paths.payload(*parent).as_posix(): read_manifest(*parent).payload_hash for parent in parents}
        | parents_behind(library, encoder_name),
        details={"column": column},
    )
    num_records = _check_splits(corpus, corpus_section)
    own = modality(section.modality)
    encoder = own.open_encoder(paths.payload("fit", encoder_name))
    manifest.details["facts"] = encoder.facts
    journal = Journal("shard", name)
    journal.parameters({"corpus": corpus, "encoder": encoder_name, "column": column})
    started = time.monotonic()
    facts = {"parents": manifest.parents, "revisions": manifest.revisions, "details": manifest.details}
    checkpoints = Checkpoints("shard", name, fingerprint_of(facts))
    with (
        gpu_held() if models_behind(library, encoder_name) else nullcontext(),
        checkpoints.held(),
    ):
        _write(manifest, encoder, checkpoints.folder / "shards", num_records)
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    for demand in demands_on(library, name):
        if demand.is_short:
            sys.stderr.write(f"{demand.words()}\n")
    journal.metrics(0, work_seconds=time.monotonic() - started, **manifest.counts)


def _write(manifest: Manifest, encoder: Encoder, kept: Path, num_records: int) -> None:
    """Write the state; where the modality can go on with what a stopped run has left, by way of a folder that stays."""
    corpus, encoder_name = _parts(manifest.name)
    own = modality(Library().read("encoder", encoder_name).modality)
    goes_on, finished = hasattr(own, "num_written"), kept.with_name(FINISHED_NAME)
    if finished.is_file() and kept.is_dir():  # stopped while the state was hashed and put in its place
        with writing(manifest) as folder:
            manifest.counts = json.loads(finished.read_text(encoding="utf-8"))
            _link(kept, folder / paths.PAYLOAD["shard"])
        return
    num_done = own.num_written(kept) if goes_on else 0  # type: ignore[attr-defined]
    if not num_done:
        shutil.rmtree(kept, ignore_errors=True)
    with writing(manifest) as folder:
        place = folder / paths.PAYLOAD["shard"]
        with Progress(f"shard {manifest.name}", num_records, num_done, unit="record") as progress:
            encoded = _encoded(corpus, manifest.details["column"], encoder, num_done, progress)
            manifest.counts = dict(own.write_shards(encoded, encoder, kept if goes_on else place))
        if goes_on:
            _note_finished(kept, finished, manifest.counts)
            _link(kept, place)


def _note_finished(kept: Path, place: Path, counts: dict[str, Any]) -> None:
    """Say that a folder is complete, once all of it is on the disk."""
    for file in kept.rglob("*"):
        flush(file)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(counts), encoding="utf-8")
    flush(partial)
    partial.replace(place)


def _parts(name: str) -> tuple[str, str]:
    corpus, plus, encoder = name.partition("+")
    if not (corpus and plus and encoder) or "+" in encoder:
        raise Refused(f"'{name}' names no shards, expected a corpus and an encoder. Write: hiraku shard CORPUS+ENCODER")
    return corpus, encoder


def _check_splits(corpus: str, section: Corpus) -> int:
    """Refuse an empty split before anything is encoded; how many records there are."""
    found = Counter(record["split"] for record in iterate_records(corpus, columns=[]))
    empty = [split for split in section.splits.expected if not found[split]]
    if empty:
        raise Refused(
            f"Corpus '{corpus}' has {dict(found) or 'no'} accepted records by split, so {', '.join(empty)} would be "
            "empty. Add data to the corpus, or change its key 'splits', then run: hiraku ingest " + corpus
        )
    return found.total()


def _link(source: Path, place: Path) -> None:
    """Have the files of a folder, and of folders in it, in another one, as links where the disk allows."""
    place.mkdir()
    for file in sorted(source.rglob("*")):
        there = place / file.relative_to(source)
        if file.is_dir():
            there.mkdir()
            continue
        try:
            os.link(file, there)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file, there)


def _encoded(
    corpus: str, column: str, encoder: Encoder, num_done: int, progress: Progress
) -> Iterator[tuple[str, np.ndarray]]:
    """Split and encoded value of each accepted record after some, in order."""
    records_left = islice(iterate_records(corpus, columns=[column]), num_done, None)
    for records in _batches(records_left, column):
        values = [record[column] for record in records]
        if named := getattr(encoder, "encode_named", None):
            encoded = named([record["id"] for record in records], values)
        else:
            encoded = encoder.encode(values)
        for record, value in zip(records, encoded, strict=True):
            yield record["split"], value
        num_done += len(records)
        progress.update(num_done)


def _batches(records: Iterator[dict[str, Any]], column: str) -> Iterator[list[dict[str, Any]]]:
    """Records in groups of a bounded number and size."""
    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record[column])
        if len(batch) >= BATCH_RECORDS or size >= BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
