"""`ingest`: a source becomes clean, de-duplicated records with provenance and licence, or the flow stops.

Read as a stream: memory holds one group of records. Digests, which tell duplicates of content and of ids, lie on the
disk, about 46 bytes a document. Killed anywhere, the next run goes on after the last part of the records that was
finished (`components.half_done`), and ends with the same bytes.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import paths
from components.captioning import Captioning
from components.checkpoints import Checkpoints, fingerprint_of
from components.derived import Derived
from components.devices import gpu_held
from components.drawing import Drawing
from components.filtering import Filtering
from components.half_done import HalfDone
from components.hub_files import HubFiles
from components.journal import Journal
from components.manifest import Manifest, writing
from components.modalities import Rejected, modality
from components.outcomes import Refused, leave_scratch
from components.progress import Progress
from components.raw_files import RawFiles
from components.recipes import Corpus, Library
from components.records import FILE, SPLITS, content_digest, split_of
from components.rows import Row
from components.seen import Seen
from components.source_schema import Rows
from components.speaking import Speech
from components.tally import DUPLICATE, MAX_SOURCES, NUM_EXAMPLES, Tally
from components.translating import ORIGINAL, Translation
from components.wording import one_line

REVISION = 2

REPORT_NAME = "report.json"
REJECTS_NAME = "rejects.parquet"
ROWS_BETWEEN_WORDS = 500


def ingest(name: str) -> None:
    """Read a corpus's raw files and leave records, rejects and a report in `artifacts/ingested/<name>/`.

    Raises:
        Refused: a file is missing or broken, no row or too few records are left, too many rows are rejects. The
            rejects are then in `artifacts/outcomes/ingest/<name>/`.
    """
    corpus: Corpus = Library().read("corpus", name)
    shutil.rmtree(paths.outcome_folder("ingest", name), ignore_errors=True)
    started = time.monotonic()
    origin = ORIGINS[corpus.source.kind](name, corpus)
    parts = {column.modality: modality(column.modality) for column in corpus.columns.values()}
    manifest = Manifest(
        verb="ingest",
        name=name,
        revisions={__name__: REVISION, **{part.__name__: part.REVISION for part in parts.values()}}  # type: ignore[attr-defined]
        | origin.revisions,
        parents=origin.parents,
        licence=corpus.licence,
    )
    checkpoints = Checkpoints("ingest", name, fingerprint_of(_deciding(corpus, manifest)))
    held = gpu_held() if origin.computes else nullcontext()
    with checkpoints.held(), held, writing(manifest) as folder:
        with closing(HalfDone(checkpoints.folder)) as half_done:
            tally = _read_all(name, corpus, origin, half_done, folder)
        try:
            _judge(name, corpus, origin, tally)
        except Refused:
            _keep_rejects(name, folder)
            raise
        manifest.counts = tally.counts()
        manifest.details = {"columns": {key: column.modality for key, column in corpus.columns.items()}}
        manifest.details |= origin.details()
        manifest.details["licences"] = dict(sorted(tally.licences.items()))
        if len(tally.origins) <= MAX_SOURCES:  # more are addresses of single pages
            manifest.details["sources"] = dict(sorted(tally.origins.items()))
        manifest.details["rejects"] = dict(sorted(tally.rejects.items()))
    if checkpoints.folder.is_dir():
        leave_scratch(checkpoints.folder)
    journal = Journal("ingest", name)
    journal.parameters(corpus.model_dump(mode="json"))
    for file_name, picture in tally.pictures.items():
        journal.note(file_name, picture)
    seconds = time.monotonic() - started
    journal.metrics(0, seconds=seconds, rows_per_second=tally.num_rows / max(seconds, 1e-9), **tally.counts())


def _deciding(corpus: Corpus, manifest: Manifest) -> dict[str, Any]:
    """What decides every record; how many rejects may be, and how few records, is judged at the end."""
    columns = {name: column.model_dump(exclude={"expectations"}) for name, column in corpus.columns.items()}
    sections = {key: getattr(corpus, key) for key in ("source", "splits")}
    decided = {key: section.model_dump() for key, section in sections.items()} | {"columns": columns}
    return decided | {"licence": corpus.licence, "parents": manifest.parents, "revisions": manifest.revisions}


# ---- one pass over the rows ------------------------------------------------------------------------------------------


Origin = RawFiles | HubFiles | Derived


def _cleaning(name: str, corpus: Corpus) -> Origin:
    from components.cleaning import Cleaning  # with datatrove, which no other source needs

    return Cleaning(name, corpus)


# The one table of who gives the rows of a corpus, by the kind of its source; see `components.source_schema.SOURCES`.
ORIGINS: dict[str, Callable[[str, Corpus], Origin]] = {
    "files": RawFiles,
    "hub": HubFiles,
    "translated": Translation,
    "spoken": Speech,
    "drawn": Drawing,
    "captioned": Captioning,
    "filtered": Filtering,
    "cleaned": _cleaning,
}


@dataclass
class _Cleaner:
    """Turns raw rows into records; knows what it has seen."""

    corpus: Corpus
    tally: Tally
    seen: Seen
    readers: dict[str, Callable[[Any], Any]]

    @property
    def is_made(self) -> bool:
        """Whether rows hold parts by column, since they are made from the records of another corpus."""
        return not isinstance(self.corpus.source, Rows)

    def record(self, row: Row, file: Path) -> dict[str, Any]:
        """A record.

        Raises:
            Rejected: with the reason.
        """
        if row.fields is None:
            raise Rejected(row.problem)
        values = {column: self._value(column, row.fields) for column in self.corpus.columns}
        digest = content_digest(values)
        if digest in self.seen:
            raise Rejected(DUPLICATE)
        source = self.corpus.source
        record = {
            "id": self._id(row),
            "split": self._split(row.fields, values, digest),
            "licence": _word(row.fields, source.licence_field) or self.corpus.licence,
            "source": _word(row.fields, source.source_field)
            or file.as_posix().removeprefix(f"{paths.DATA.as_posix()}/"),
            **({FILE: row.file} if row.file else {}),
            **values,
            **{key: value for key, value in row.fields.items() if self.is_made and key.endswith(ORIGINAL)},
        }
        self.seen.add(digest)
        return record

    def _value(self, column: str, fields: dict[str, Any]) -> Any:
        """A clean value, made of one raw field, or of several by the names of their parts."""
        if self.is_made:
            return self._read(column, fields[column])
        for key, wanted in self.corpus.source.only.items():
            if fields.get(key) != wanted:
                raise Rejected(f"'{key}' is not {wanted!r} (source.only)")
        keys = self.corpus.columns[column].raw_keys
        may_lack = getattr(self.corpus.columns[column], "may_lack", False)
        for part, key in keys.items():
            if key not in fields and not may_lack:
                where = "field" if len(keys) == 1 else f"fields.{part}"
                raise Rejected(f"no field '{key}' (columns.{column}.{where})")
        return self._read(column, {part: fields.get(key) for part, key in keys.items()})

    def _read(self, column: str, parts: dict[str, Any]) -> Any:
        try:
            return self.readers[column](parts)
        except Rejected as rejected:
            raise Rejected(f"{column}: {rejected}") from None

    def _split(self, fields: dict[str, Any], values: dict[str, Any], digest: bytes) -> str:
        """What answers one prompt stays together, in every corpus alike; other content goes by itself.

        Raw data that name the split are believed; `validate` then looks whether prompts stay together. What is made
        from another corpus stays in the split of its source, so that nothing is trained on and held out.
        """
        if self.is_made:
            return str(fields["split"])
        shares = self.corpus.splits
        if shares.only:
            return shares.only
        if (key := self.corpus.source.split_field) is not None:
            return self._given_split(fields, key, digest)
        for name, column in self.corpus.columns.items():
            if getattr(column, "may_share_splits", False):
                continue
            prompt = modality(column.modality).prompt_of(values[name], column)
            if prompt is not None:
                digest = content_digest({"prompt": prompt})
                break
        return split_of(digest, shares.valid, shares.test)

    def _given_split(self, fields: dict[str, Any], key: str, digest: bytes) -> str:
        """The split that the raw data name."""
        names = self.corpus.source.split_names or {split: split for split in SPLITS}
        word = _word(fields, key)
        if word not in names:
            raise Rejected(
                f"'{key}' is {one_line(repr(fields.get(key)), 40)}, none of {', '.join(names)} (source.split_names)"
            )
        split: str = names[word]
        is_divided = split == "train" and self.corpus.source.valid_from_train
        return split_of(digest, self.corpus.splits.valid, 0.0) if is_divided else split

    def _id(self, row: Row) -> str:
        """The id a row brings if no earlier record has it, else its place."""
        place = row.where.removeprefix(f"{paths.DATA.as_posix()}/")
        given = _word(row.fields or {}, self.corpus.source.id_field)
        for candidate in (given, place, f"{place}#place"):
            key = content_digest({"id": candidate})
            if candidate and key not in self.seen:
                self.seen.add(key)
                self.tally.num_ids_from_place += candidate != given
                if given and candidate != given and len(self.tally.repeated_ids) < NUM_EXAMPLES:
                    self.tally.repeated_ids.append(f"'{given}' again at {row.place}, named '{candidate}'")
                return candidate
        raise Rejected("its id and its place are ids of earlier records (source.id_field)")


def _word(fields: dict[str, Any], key: str | None) -> str:
    """A raw field as a short string; empty if there is none."""
    value = fields.get(key) if key else None
    return str(value).encode("utf-8", "replace").decode() if isinstance(value, str | int) else ""


def _read_all(name: str, corpus: Corpus, origin: Origin, half_done: HalfDone, folder: Path) -> Tally:
    """Write records, rejects and the report into a folder."""
    tally = half_done.tally
    readers = {key: modality(column.modality).reader(column) for key, column in corpus.columns.items()}
    for key, read in readers.items():
        if hasattr(read, "changes"):
            read.changes().update(tally.changes.get(key, {}))
            tally.changes[key] = read.changes()
    cleaner = _Cleaner(corpus, tally, half_done.seen, readers)
    with Progress(f"ingest {name}", origin.num_steps, unit=origin.unit) as progress:
        if tally.num_rows:
            progress.say(f"going on after row {tally.num_rows:,}, from {half_done.folder}")
        for num_done, file, row in half_done.rest(origin, progress.update):
            try:
                record = cleaner.record(row, file)
            except Rejected as rejected:
                half_done.reject(str(rejected), file, row, _excerpt(row, corpus))
            else:
                half_done.accept(record, file)
            if tally.num_rows % ROWS_BETWEEN_WORDS == 0:
                progress.update(num_done, f"{tally.num_rows:,} rows, {tally.num_records:,} records")
        progress.update(origin.num_steps, f"{tally.num_rows:,} rows, {tally.num_records:,} records")
    half_done.leave(folder / paths.PAYLOAD["ingest"], folder / REJECTS_NAME)
    report = tally.report() | origin.report()
    tally.pictures = report.pop("pictures", {})
    for file_name, picture in tally.pictures.items():
        (folder / file_name).write_text(picture, encoding="utf-8")
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (folder / REPORT_NAME).write_text(text + "\n", encoding="utf-8")
    return tally


def _excerpt(row: Row, corpus: Corpus) -> str:
    """What a person needs to see of a reject: the beginning of its columns, or the keys it has instead."""
    if row.fields is None:
        return row.excerpt
    keys = dict.fromkeys(key for name, column in corpus.columns.items() for key in (name, *column.raw_keys.values()))
    there = [_shown(row.fields[key]) for key in keys if key in row.fields]
    text = " | ".join(there) if there else f"keys: {', '.join(map(str, row.fields))}"
    return one_line(text.encode("utf-8", "replace").decode())


def _shown(value: Any) -> str:
    """The beginning of a raw field; of bytes, how many there are."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dict) and len(value) == 1:  # the one part of a document
        return _shown(next(iter(value.values())))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(each)}" for key, each in value.items())[:1000] + "}"
    return str(value)[:1000]


# ---- what refuses a corpus -------------------------------------------------------------------------------------------


def _judge(name: str, corpus: Corpus, origin: Origin, tally: Tally) -> None:
    """Refuse a corpus from which too little is left."""
    recipe = Library().path("corpus", name)
    if tally.num_rows == 0:
        found = ", ".join(origin.parents)
        raise Refused(f"corpus '{name}' has no rows: {found} holds no document. Bring raw data: hiraku collect {name}")
    share = tally.num_rejects / tally.num_rows
    if share > corpus.max_reject_share:
        raise Refused(
            f"corpus '{name}': {tally.num_rejects:,} of {tally.num_rows:,} rows ({share:.1%}) were rejected, at most "
            f"{corpus.max_reject_share:.1%} may be (max_reject_share).{_top_reasons(name, tally)}\n"
            f"Mend the raw data, change the filters under the keys named, or raise max_reject_share in {recipe}."
        )
    if tally.num_records < corpus.min_records:
        raise Refused(
            f"corpus '{name}': {tally.num_records:,} records are left of {tally.num_rows:,} rows, at least "
            f"{corpus.min_records:,} must be (min_records).{_top_reasons(name, tally)}\n"
            f"Bring more raw data (hiraku collect {name}), or lower min_records in {recipe}."
        )


def _top_reasons(name: str, tally: Tally) -> str:
    """The most frequent reasons with their first places, one a line."""
    lines = [
        f"\n  {count:,} × {reason}; first at {', '.join(tally.examples[reason])}"
        for reason, count in tally.rejects.most_common(5)
    ]
    if lines:
        lines.append(f"\n  All are in {paths.outcome_folder('ingest', name) / REJECTS_NAME}")
    return "".join(lines)


def _keep_rejects(name: str, folder: Path) -> None:
    """Leave rejects and report for a person to read, since the state itself is thrown away."""
    kept = paths.outcome_folder("ingest", name)
    kept.mkdir(parents=True, exist_ok=True)
    for file in (REJECTS_NAME, REPORT_NAME):
        shutil.copyfile(folder / file, kept / file)
