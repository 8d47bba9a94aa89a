"""Raw rows from files of known formats; knows no modality.

A row is a mapping of keys to raw fields together with the place it came from. Formats go by the ending of a file:

    .txt      documents are separated by blank lines, since one file of a dump holds many; the one key is `text`
    .jsonl    one JSON object a line; blank lines count for nothing
    .csv .tsv one row a line, keys in the first one; see `components.tables`
    .parquet  one row a row
    .tar      members of one name are one row, a WebDataset; see `components.archives`
    .gz .xz .zst  behind all but .parquet, and .gz behind .tar: the same, compressed
    wav.scp   the lists of a Kaldi folder; see `components.tables`

A row that cannot be read is handed on with its problem, so that it becomes a reject. A file that cannot be read is
refused with the command that mends it. Memory holds one row, or for Parquet one batch of rows.
"""

import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from components import paths
from components.archives import archive_rows
from components.lines import MAX_LINE_BYTES, TOO_LONG, Unreadable, decoded_lines
from components.outcomes import Refused
from components.rows import Row
from components.tables import kaldi_rows, table_rows
from components.wording import one_line

ENDINGS = {
    ".txt": "txt",
    ".txt.gz": "txt",
    ".txt.zst": "txt",
    ".txt.xz": "txt",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".jsonl.xz": "jsonl",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.zst": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".tsv.zst": "tsv",
    "wav.scp": "kaldi",
    ".parquet": "parquet",
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
}
SEPARATORS = {"csv": ",", "tsv": "\t"}
ANY = "any"
"""In place of a format: files of all endings."""
BATCH_ROWS = 256
BATCH_ROWS_OF_BYTES = 16
"""Where rows hold whole files."""
HEAD_ROWS = 200
"""Rows of every file that are read before the pass over all."""

TEXT_KEY = "text"
"""The one key of a row of a txt file."""


# ---- finding files ---------------------------------------------------------------------------------------------------


def locate(corpus: str, source: Any) -> list[Path]:
    """The raw files of a corpus, in the order they are read: as listed, and within a folder by name.

    Args:
        corpus: its name, for messages.
        source: `components.source_schema.Files`.

    Raises:
        Refused: a path is missing, leads out of `data/`, or holds no file of a known format.
    """
    found: dict[Path, None] = {}
    if source.files_folder:
        _check_inside(corpus, source.files_folder, "source.files_folder")
        if not (paths.DATA / source.files_folder).is_dir():
            raise Refused(
                f"corpus '{corpus}': {paths.DATA / source.files_folder} is not a folder, and source.files_folder names "
                f"it. {_how_to_bring(corpus, source)}"
            )
    for name in source.paths:
        path = paths.DATA / name
        _check_inside(corpus, name, "source.paths")
        if not path.exists():
            raise Refused(
                f"corpus '{corpus}': {path} is not there, and source.paths names it. {_how_to_bring(corpus, source)}"
            )
        if path.is_file():
            if source.files_field and not source.files_folder:
                raise Refused(
                    f"corpus '{corpus}': {path} brings files along (source.files_field), which count as raw data too. "
                    f"Name its folder in source.paths."
                )
            format_of(path, source.format)
            found[path] = None
            continue
        inside = sorted(_files_below(path, source.format), key=lambda file: file.as_posix())
        if not inside:
            raise Refused(
                f"corpus '{corpus}': {path} holds no file with an ending of format '{source.format}' "
                f"({', '.join(endings_of(source.format))}). {_how_to_bring(corpus, source)}"
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def raw_files(source: Any) -> Iterator[Path]:
    """All files that the records are made from: those that are read, and with `files_field` all that lie beside them.

    Args:
        source: `components.source_schema.Files`; nothing is asked of its paths.
    """
    for name in source.raw_paths:
        path = paths.DATA / name
        if path.is_file():
            yield path
        else:
            yield from _files_below(path, ANY if source.files_field else source.format)


def is_there(path: Path, file_format: str = "auto") -> bool:
    """Whether a path of a corpus is a file that this user may read, or a folder with one of a known format.

    Args:
        path: a file or a folder; whether it exists is asked here.
        file_format: `source.format` of the corpus, or `ANY`.
    """
    files = _files_below(path, file_format) if path.is_dir() else (path,) if path.is_file() else ()
    return any(os.access(file, os.R_OK) for file in files)


def _check_inside(corpus: str, name: str, key: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refused(f"corpus '{corpus}': '{name}' leads out of data/. Give paths below it in {key}.")


def _how_to_bring(corpus: str, source: Any) -> str:
    return f"Run: hiraku collect {corpus}" + ("" if source.generator or source.download else " --from FOLDER")


def _files_below(folder: Path, file_format: str) -> Iterator[Path]:
    """The files of a format, in no order, none of them hidden."""
    endings = tuple(endings_of(file_format))
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and path.name.endswith(endings) and path.is_file():
            yield path


def endings_of(file_format: str) -> list[str]:
    """How the names of a format's files end; of `auto`, those of all; of `ANY`, anyhow."""
    if file_format == ANY:
        return [""]
    return [ending for ending, known in ENDINGS.items() if file_format in ("auto", known)]


def format_of(path: Path, file_format: str = "auto") -> str:
    """The format of a file: what the recipe says, or what its ending says.

    Raises:
        Refused: the ending is none of the known ones.
    """
    if file_format != "auto":
        return file_format
    for ending, known in ENDINGS.items():
        if path.name.endswith(ending):
            return known
    raise Refused(f"{path}: unknown ending. Known are {', '.join(ENDINGS)}; or name the format in source.format.")


# ---- a look before long work -----------------------------------------------------------------------------------------


def check_heads(corpus: str, files: list[Path], file_format: str, keys: Iterable[str]) -> None:
    """Read the first rows of every file, so that a wrong one is refused before hours are spent on those before it.

    Args:
        corpus: its name, for messages.
        files: of `locate`.
        file_format: `source.format` of the corpus.
        keys: the raw keys that its columns read; a file of which no row in the head has one is a wrong file.

    Raises:
        Refused: a file cannot be opened or decoded, or holds nothing that the corpus reads.
    """
    for file in files:
        _check_head(corpus, file, islice(read(file, file_format), HEAD_ROWS), set(keys))


def _check_head(corpus: str, file: Path, rows: Iterator[Row], missing: set[str]) -> None:
    first_bad: Row | None = None
    found: dict[str, Any] | None = None
    for row in rows:
        if row.fields is None:
            first_bad = first_bad or row
        else:
            found = found or row.fields
            missing = missing - row.fields.keys()
    start = f"corpus '{corpus}': of the first rows of {file}"
    if found is None and first_bad is not None:
        raise Refused(
            f"{start} none can be read: {first_bad.problem} (at {first_bad.where}: {first_bad.excerpt}). "
            f"Mend the file, or take it out of source.paths."
        )
    if found is not None and missing:
        raise Refused(
            f"{start} none has the field '{min(missing)}'; keys there: {one_line(', '.join(map(str, found)))}. "
            f"Change columns.*.field, or take the file out of source.paths."
        )


# ---- reading rows ----------------------------------------------------------------------------------------------------


def read(path: Path, file_format: str = "auto") -> Iterator[Row]:
    """All rows of a file, in order.

    Raises:
        Refused: the file is broken, ends early, or is not UTF-8 as a whole.
    """
    known = format_of(path, file_format)
    if known == "parquet":
        yield from _parquet_rows(path)
    elif known == "jsonl":
        yield from _json_rows(path)
    elif known in SEPARATORS:
        yield from table_rows(path, SEPARATORS[known])
    elif known == "kaldi":
        yield from kaldi_rows(path)
    elif known == "webdataset":
        yield from archive_rows(path)
    else:
        yield from _text_rows(path)


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in decoded_lines(path):
        where = f"{path.as_posix()}:{number}"
        if isinstance(line, Unreadable):
            yield Row(where, None, line.problem, line.excerpt)
        elif line.strip():
            yield _json_row(where, line)


def _json_row(where: str, line: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return Row(where, None, "not JSON", one_line(line[:1000]))
    if isinstance(fields, dict):
        return Row(where, fields)
    return Row(where, None, "JSON, but not an object with keys", one_line(line[:1000]))


def _text_rows(path: Path) -> Iterator[Row]:
    block: list[str] = []
    first, size, problem = 0, 0, None
    for number, line in chain(decoded_lines(path), [(0, "")]):
        if not isinstance(line, Unreadable) and not line.strip():
            if first:
                where = f"{path.as_posix()}:{first}"
                yield Row(where, None, problem.problem, problem.excerpt) if problem else Row(where, _document(block))
            block, first, size, problem = [], 0, 0, None
            continue
        first = first or number
        if isinstance(line, Unreadable):
            problem = problem or line  # one bad line makes its whole document a reject
            continue
        size += len(line)
        if size > MAX_LINE_BYTES:
            problem = problem or TOO_LONG
        if not problem:
            block.append(line)


def _document(block: list[str]) -> dict[str, Any]:
    return {TEXT_KEY: "\n".join(block)}


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            num_rows = BATCH_ROWS_OF_BYTES if "binary" in str(file.schema_arrow) else BATCH_ROWS
            for batch in file.iter_batches(batch_size=num_rows):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"{path.as_posix()}:{number}", fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{path} is not a whole Parquet file: {one_line(error)}, after {number} rows. Bring the file again."
        ) from error
