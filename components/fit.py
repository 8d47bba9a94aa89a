"""`fit`: records -> an encoder, which turns a record into model inputs and stays fixed."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from components import paths
from components.devices import gpu_held
from components.encoders import parents_behind, revisions_behind, weights_behind
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES, modality
from components.recipes import Library, references
from components.records import column_of, iterate_records

REVISION = 1
REPORT_NAME = "report.json"
LOG_NAME = "fit.log"


def fit(name: str) -> None:
    """Fit an encoder on the accepted training records of its corpora and prove it on their validation records.

    Leaves `artifacts/fitted/<name>/` with the encoder and `report.json`; what libraries say goes to the journal's
    `fit.log`.

    Args:
        name: a file in `recipes/encoders/`. Its section names the `column` and the `corpora` (`corpus`, `share`).

    Raises:
        Refused: a corpus lacks the column or a split, or the modality refuses the result.
    """
    library = Library()
    section = library.read("encoder", name)
    corpora = [found for kind, found in references(section) if kind == "corpus"]
    encoders = [found for kind, found in references(section) if kind == "encoder"]
    weights = weights_behind(library, name)
    columns = {corpus: column_of(library, corpus, name, is_fitted=True) for corpus in corpora}
    own = modality(section.modality)
    manifest = Manifest(
        verb="fit",
        name=name,
        revisions={"components.fit": REVISION, MODALITIES[section.modality]: own.REVISION}
        | revisions_behind(library, name),
        parents=_parents(corpora, encoders) | parents_behind(library, name),
        details={"encoder": section.model_dump(mode="json")},
    )
    journal = Journal("fit", name)
    journal.parameters(section.model_dump(mode="json"))
    folders = {encoder: paths.payload("fit", encoder) for encoder in encoders} | weights
    with gpu_held() if weights else nullcontext(), writing(manifest) as folder:
        with _log_to(journal):
            report = own.fit(
                section,
                _values(library, section, columns, "train"),
                _values(library, section, columns, "valid"),
                folders,
                folder / paths.PAYLOAD["fit"],
            )
        for file_name, picture in report.pop("pictures", {}).items():
            (folder / file_name).write_text(picture, encoding="utf-8")
            journal.note(file_name, picture)
        text = json.dumps(report, ensure_ascii=False, indent=1)
        (folder / REPORT_NAME).write_text(text + "\n", encoding="utf-8")
        manifest.counts = dict(_numbers(report))
    journal.metrics(0, **manifest.counts)


def _parents(corpora: list[str], encoders: list[str]) -> dict[str, str]:
    """Records and accepted ids of each corpus, and other encoders, with their hashes."""
    stages = [(verb, corpus) for corpus in corpora for verb in ("ingest", "validate")]
    stages += [("fit", encoder) for encoder in encoders]
    return {paths.payload(*stage).as_posix(): read_manifest(*stage).payload_hash for stage in stages}


def _is_in_share(record_id: str, share: float) -> bool:
    """Whether a record belongs to a share of its corpus: by the hash of its id, so a larger share holds a smaller."""
    # Salted, since ids may be hashes of the content that already decided the split.
    place = int.from_bytes(hashlib.sha256(f"fit\0{record_id}".encode()).digest()[:8], "big")
    return place < share * 2**64


def _values(library: Library, section: Any, columns: dict[str, str], split: str) -> Iterator[Any]:
    """The encoder's column of accepted records, or of several columns a mapping; the share is of training only.

    Of a column of another modality, whose texts it is fitted on, each text.
    """
    more = getattr(section, "more_columns", [])
    for part in getattr(section, "corpora", []):
        column = columns[part.corpus]
        given = library.read("corpus", part.corpus).columns[column]
        is_own, other = given.modality == section.modality, modality(given.modality)
        for record in iterate_records(part.corpus, columns=[column, *more], splits={split}):
            if split == "train" and not _is_in_share(record["id"], part.share):
                continue
            if is_own:
                yield {each: record[each] for each in (column, *more)} if more else record[column]
            else:
                yield from other.texts_of(record[column], given)


def _numbers(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """The numbers of a nested report, keys joined by `/`."""
    for key, value in report.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


@contextmanager
def _log_to(journal: Journal) -> Iterator[None]:
    """Send what modalities log to the journal instead of the terminal."""
    logger = logging.getLogger("components.modalities")
    handler = logging.FileHandler(journal.folder / LOG_NAME, mode="w", encoding="utf-8")
    kept = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.level, logger.propagate = kept
