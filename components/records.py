"""Records on disk: Parquet parts that are written and read as streams, in the order the raw data were read.

Every record has the fixed columns `id`, `split`, `licence`, `source` and one field per column of its corpus; where its
row brought a file along, `file` is that one's path as the table names it. The ids that `validate` accepted stand
beside, in the same order, so that joining them holds no table in memory.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from components import paths
from components.manifest import flush, read_manifest
from components.outcomes import Refused
from components.recipes import Library

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "valid", "test")
FILE = "file"
"""The column with the file that a record was made of; a corpus whose rows bring no files has none."""
PART_ROWS = 100_000
PART_BYTES = 64 << 20
"""Bytes of records, before compression, after which a new part begins."""
GROUP_BYTES = 8 << 20
"""Bytes of records in one row group: what a reader holds in memory."""
GROUP_ROWS = 10_000
ACCEPTED_NAME = "ids.parquet"


# ---- content ---------------------------------------------------------------------------------------------------------


def content_digest(values: dict[str, Any]) -> bytes:
    """BLAKE2b, 16 bytes, over the values of a record's columns: equal for equal content, whatever id or source."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in values.items():
        content = value if isinstance(value, bytes) else str(value).encode("utf-8")
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()


def split_of(digest: bytes, valid: float, test: float) -> str:
    """The split that content belongs to; equal content never straddles, and more data move no document.

    Args:
        digest: of `content_digest`.
        valid: share of documents for validation.
        test: share of documents for test.
    """
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"


def num_bytes_of(row: dict[str, Any]) -> int:
    """Bytes of a row's strings in UTF-8, and of its bytes."""
    return sum(len(value.encode() if isinstance(value, str) else value) for value in row.values())


# ---- writing ---------------------------------------------------------------------------------------------------------


class TableWriter:
    """A Parquet file, written row by row; the same rows give the same bytes."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self.schema = schema
        self.file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)
        self.rows: list[dict[str, Any]] = []
        self.num_bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self.rows.append(row)
        self.num_bytes += num_bytes_of(row)
        if self.num_bytes >= GROUP_BYTES or len(self.rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        self.file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows, self.num_bytes = [], 0

    def close(self) -> None:
        """Write what is left and the file's end."""
        if self.rows:
            self._write_group()
        self.file.close()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the folder is about to be removed, and the first error is the one that tells
            with suppress(OSError):
                self.file.close()


def text_schema(*names: str) -> "pa.Schema":
    """A schema of string columns."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])


class RecordWriter:
    """Records as `part-00000.parquet`, `part-00001.parquet` and so on in a folder.

    Args:
        folder: receives them.
        num_parts: that are there already.
    """

    def __init__(self, folder: Path, num_parts: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.num_parts = num_parts
        self.schema: Any = None
        self.part: TableWriter | None = None
        self.part_rows = 0
        self.part_bytes = 0

    def add(self, record: dict[str, Any]) -> bool:
        """Add a record; the first one decides the types of its columns (str or bytes). Whether a part ended with it."""
        import pyarrow as pa

        if self.schema is None:
            types = {name: pa.binary() if isinstance(value, bytes) else pa.string() for name, value in record.items()}
            self.schema = pa.schema(list(types.items()))
        if self.part is None:
            self.part = TableWriter(self.folder / f"part-{self.num_parts:05d}.parquet", self.schema)
            self.num_parts += 1
        self.part.add(record)
        self.part_rows += 1
        self.part_bytes += num_bytes_of(record)
        is_full = self.part_rows >= PART_ROWS or self.part_bytes >= PART_BYTES
        if is_full:
            self.close()
        return is_full

    def close(self) -> None:
        """End the part that is open, and have it on the disk."""
        if self.part:
            self.part.close()
            flush(self.folder / f"part-{self.num_parts - 1:05d}.parquet")
        self.part, self.part_rows, self.part_bytes = None, 0, 0

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif self.part:
            self.part.__exit__(kind, error, trace)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _table_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, one row group in memory."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns, use_threads=False).to_pylist()


def _record_rows(corpus: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    read_manifest("ingest", corpus)
    for part in sorted(paths.payload("ingest", corpus).glob("part-*.parquet")):
        yield from _table_rows(part, columns)


@dataclass(frozen=True)
class Parts:
    """A corpus's files of records, each of which can be read alone; see `parts_of`."""

    corpus: str
    files: tuple[Path, ...]
    starts: tuple[int, ...]
    """How many ids are accepted before each file, and of all."""

    def records(self, part: int, columns: list[str]) -> Iterator[dict[str, Any]]:
        """The accepted records of one file, as `iterate_records` gives them."""
        import pyarrow.parquet as pq

        start, end = self.starts[part : part + 2]
        accepted: set[str] = set()
        with pq.ParquetFile(paths.payload("validate", self.corpus) / ACCEPTED_NAME) as file:
            first = 0
            for group in range(file.num_row_groups):
                num_rows = file.metadata.row_group(group).num_rows
                if first < end and start < first + num_rows:
                    ids = file.read_row_group(group, columns=["id"], use_threads=False)["id"].to_pylist()
                    accepted.update(ids[max(start - first, 0) : end - first])
                first += num_rows
        for record in _table_rows(self.files[part], list(dict.fromkeys(["id", "split", *columns]))):
            if record["id"] in accepted:
                yield record


def parts_of(corpus: str) -> Parts:
    """A corpus's files, and which of the accepted ids belong to each, by one pass over the ids.

    Raises:
        Refused: the corpus is not ingested, or not validated as it is now.
    """
    _check_accepted(corpus)
    files = tuple(sorted(paths.payload("ingest", corpus).glob("part-*.parquet")))
    accepted = (row["id"] for row in _table_rows(paths.payload("validate", corpus) / ACCEPTED_NAME, ["id"]))
    starts, following = [0], next(accepted, None)
    for file in files:
        num_accepted = starts[-1]
        for row in _table_rows(file, ["id"]):
            if row["id"] == following:
                num_accepted += 1
                following = next(accepted, None)
        starts.append(num_accepted)
    return Parts(corpus, files, tuple(starts))


def column_of(library: Library, corpus: str, encoder: str, is_fitted: bool = False) -> str:
    """The column of a corpus that an encoder reads, known before anything is read.

    Args:
        library: the recipes.
        corpus: its name.
        encoder: its name; its section says `modality`, and `column` or the `FORMS` of which a corpus has one column.
        is_fitted: whether the encoder is fitted on the column. A kind with `FITS_TEXTS` takes the texts of any modality
            for that, such as captions.

    Raises:
        Refused: the corpus has no such column, or has it of another modality.
    """
    section = library.read("encoder", encoder)
    columns = library.read("corpus", corpus).columns
    takes_texts = is_fitted and getattr(section, "FITS_TEXTS", False)
    suitable = sorted(
        key
        for key, column in columns.items()
        if column.modality == section.modality or (takes_texts and getattr(column, "has_texts", False))
    )
    if forms := getattr(section, "FORMS", ()):
        found = [key for key in suitable if columns[key].form in forms]
        if len(found) == 1:
            return found[0]
        raise Refused(
            f"Encoder '{encoder}' reads the one column of form {' or '.join(forms)}, but corpus '{corpus}' has "
            f"{', '.join(found) or 'none'} among {suitable or 'none'} of modality '{section.modality}'. "
            f"Name another encoder, or change the key 'columns' in {library.path('corpus', corpus)}."
        )
    if section.column not in suitable:
        raise Refused(
            f"Encoder '{encoder}' reads the column '{section.column}', but corpus '{corpus}' has "
            f"{suitable or 'none'} of modality '{section.modality}'. "
            f"Change the key 'column' in {library.path('encoder', encoder)}."
        )
    return str(section.column)


def _check_accepted(corpus: str) -> None:
    """The accepted ids must be those of the records that lie there now."""
    records = read_manifest("ingest", corpus)
    seen = read_manifest("validate", corpus).parents.get(paths.payload("ingest", corpus).as_posix())
    if seen != records.payload_hash:
        raise Refused(f"corpus '{corpus}' was ingested again after it was validated. Run: hiraku validate {corpus}")


def iterate_records(
    corpus: str, columns: list[str], splits: set[str] | None = None, accepted_only: bool = True
) -> Iterator[dict[str, Any]]:
    """Records of a corpus in their order: `id`, `split`, and the columns asked for.

    Args:
        corpus: its name.
        columns: of the corpus, or `licence`, `source`, `file`; what the corpus lacks, records lack.
        splits: only these; None takes all.
        accepted_only: only what `validate` accepted.

    Raises:
        Refused: the corpus is not ingested, or not validated as it is now; the message names the command.
    """
    wanted = list(dict.fromkeys(["id", "split", *columns]))
    accepted = None
    if accepted_only:
        _check_accepted(corpus)
        ids = _table_rows(paths.payload("validate", corpus) / ACCEPTED_NAME, ["id"])
        accepted = (row["id"] for row in ids)
    following = next(accepted, None) if accepted else None
    for record in _record_rows(corpus, wanted):
        if accepted is not None:
            if record["id"] != following:
                continue
            following = next(accepted, None)
        if splits is None or record["split"] in splits:
            yield record
    if following is not None:
        raise Refused(f"corpus '{corpus}': accepted id '{following}' is in no record. Run: hiraku validate {corpus}")


def count_records(corpus: str, splits: set[str] | None = None, accepted_only: bool = True) -> int:
    """How many records `iterate_records` gives for the same arguments."""
    return sum(1 for _ in iterate_records(corpus, [], splits, accepted_only))
