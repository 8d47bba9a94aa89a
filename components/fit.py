"""`fit`: records -> an encoder, which turns a record into model inputs and stays fixed."""

import itertools
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from components import paths
from components.checkpoints import Checkpoints, fingerprint_of
from components.devices import gpu_held
from components.encoders import parents_behind, revisions_behind, weights_behind
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES, modality
from components.outcomes import leave_scratch
from components.recipes import Library, references
from components.records import column_of, iterate_records
from components.reservoir import WHOLE, Reservoir, place_of

REVISION = 2
REPORT_NAME = "report.json"
WORDS_NAME = "report.md"
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
    kept = Checkpoints("fit", name, fingerprint_of({"section": manifest.details, "parents": manifest.parents}))
    is_sampled = getattr(section, "sample_chars", None) is not None
    with (
        gpu_held() if weights else nullcontext(),
        kept.held() if is_sampled else nullcontext(),
        writing(manifest) as folder,
    ):
        values, sample = _values(library, section, columns, "train"), dict[str, Any]()
        if is_sampled:
            values, sample = _sampled(library, section, columns, kept.folder)
        with _log_to(journal):
            report = own.fit(
                section,
                values,
                _values(library, section, columns, "valid"),
                folders,
                folder / paths.PAYLOAD["fit"],
            )
        if sample:
            report["sample"] = sample
        if hasattr(own, "fitness"):
            report |= own.fitness(
                section, folder / paths.PAYLOAD["fit"], _held_out_by_source(library, section, columns)
            )
        _write_report(own, section, report, folder, journal)
        manifest.counts = dict(_numbers(report))
    if is_sampled:
        leave_scratch(kept.folder)
    journal.metrics(0, **manifest.counts)


def _write_report(own: Any, section: Any, report: dict[str, Any], folder: Path, journal: Journal) -> None:
    """Leave the report as JSON, its pictures, and in words where the modality has them."""
    if words := own.words_of(section, report) if hasattr(own, "words_of") else "":
        (folder / WORDS_NAME).write_text(words, encoding="utf-8")
    for file_name, picture in report.pop("pictures", {}).items():
        (folder / file_name).write_text(picture, encoding="utf-8")
        journal.note(file_name, picture)
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (folder / REPORT_NAME).write_text(text + "\n", encoding="utf-8")


def _parents(corpora: list[str], encoders: list[str]) -> dict[str, str]:
    """Records and accepted ids of each corpus, and other encoders, with their hashes."""
    stages = [(verb, corpus) for corpus in corpora for verb in ("ingest", "validate")]
    stages += [("fit", encoder) for encoder in encoders]
    return {paths.payload(*stage).as_posix(): read_manifest(*stage).payload_hash for stage in stages}


def _is_in_share(record_id: str, share: float) -> bool:
    """Whether a record belongs to a share of its corpus: by the hash of its id, so a larger share holds a smaller."""
    return place_of(record_id) < share * WHOLE


def _values(library: Library, section: Any, columns: dict[str, str], split: str) -> Iterator[Any]:
    """The encoder's column of accepted records, or of several columns a mapping; the share is of training only."""
    for part in getattr(section, "corpora", []):
        for _, value in _labelled(library, section, columns, split, part):
            yield value


def _labelled(
    library: Library, section: Any, columns: dict[str, str], split: str, part: Any, label: str = "id"
) -> Iterator[tuple[str, Any]]:
    """The values of one corpus behind the id of their record, or another of its fixed columns.

    Of a column of another modality, whose texts the encoder is fitted on, each text.
    """
    more = getattr(section, "more_columns", [])
    column = columns[part.corpus]
    given = library.read("corpus", part.corpus).columns[column]
    is_own, other = given.modality == section.modality, modality(given.modality)
    wanted = [column, *more, *([] if label == "id" else [label])]
    for record in iterate_records(part.corpus, columns=wanted, splits={split}):
        if split == "train" and not _is_in_share(record["id"], part.share):
            continue
        if is_own:
            yield record[label], {each: record[each] for each in (column, *more)} if more else record[column]
        else:
            yield from ((record[label], text) for text in other.texts_of(record[column], given))


def _sampled(
    library: Library, section: Any, columns: dict[str, str], folder: Path
) -> tuple[Iterator[Any], dict[str, Any]]:
    """A uniform sample of the training values of bounded size, and what it has of each corpus.

    What an earlier run has sampled is taken as it is.
    """
    has_weights = section.corpora[0].weight is not None
    groups = [[part] for part in section.corpora] if has_weights else [section.corpora]
    folder.mkdir(parents=True, exist_ok=True)
    reservoirs = {}
    for number, group in enumerate(groups):
        bound = max(1, int(section.sample_chars * (group[0].weight if has_weights else 1)))
        reservoir = Reservoir(folder / f"sample-{number}", bound)
        if not reservoir.is_filled:
            parts = (_labelled(library, section, columns, "train", part) for part in group)
            reservoir.fill(itertools.chain.from_iterable(parts))
        reservoirs[" and ".join(part.corpus for part in group)] = reservoir
    values = itertools.chain.from_iterable(each.values() for each in reservoirs.values())
    return values, {name: each.report() for name, each in reservoirs.items()}


def _held_out_by_source(library: Library, section: Any, columns: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Held-out values behind where they come from: the source of a record where a corpus has a few, else the corpus."""
    for part in section.corpora:
        has_few = len(read_manifest("ingest", part.corpus).details.get("sources", {})) > 1
        for source, value in _labelled(library, section, columns, "valid", part, "source"):
            yield f"{part.corpus}: {source}" if has_few else part.corpus, value


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
