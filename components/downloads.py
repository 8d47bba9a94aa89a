"""Pictures that lists of addresses name, as WebDataset tars with a manifest: a status for every row of the lists.

So many rows together are one part: `00000.tar` with what came, and `00000.parquet` with what became of each. A part is
done when its manifest is there. Another run tries what failed again and puts what then comes into `00000.again-1.tar`;
no tar is ever changed. Memory holds a few pictures for each address that is asked at the same time.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from components import paths
from components.addresses import Failed, Limits, file_at
from components.modalities import Rejected, modality
from components.outcomes import Refused
from components.progress import Progress
from components.source_schema import Download, Files
from components.sources import read
from components.wording import one_line

T = TypeVar("T")
OK = "ok"
MTIME = 0.0
"""Of every member, so that the same pictures give the same bytes."""
WAITING = 4
"""Pictures for each address that is asked at the same time, before they are written."""


@dataclass(frozen=True)
class Item:
    """A row of a list and what became of it: a row of the manifest."""

    key: str
    url: str
    status: str = ""
    """`ok`, or why there is no picture, in words that are equal for equal reasons."""
    may_pass: bool = True
    """Whether another try may succeed."""
    tries: int = 0
    num_bytes: int = 0
    tar: str = ""
    """The file that has it."""

    def is_open(self, max_tries: int) -> bool:
        """Whether it should be tried."""
        return self.status != OK and self.may_pass and self.tries < max_tries


Say = Callable[[str], None]
Job = tuple[Item, dict[str, Any]]
"""An item and the whole row of the list."""


def download(name: str, source: Files, say: Say) -> None:
    """Bring what the lists of a corpus name and is not there yet.

    Raises:
        Refused: a list is missing or has no such key, or what is there was made from other lists.
    """
    section = source.download
    if section is None:
        raise Refused(f"corpus '{name}' names no list of addresses. Add the key source.download.")
    folder = paths.DATA / source.paths[0]
    folder.mkdir(parents=True, exist_ok=True)
    known = [_manifest(path) for path in _manifests(folder)]
    done = sum(len(items) for items in known)
    with Progress(f"collect {name}", _num_rows(name, section), done=0, unit="address") as progress:
        num_seen = 0
        for number, rows in enumerate(_batched(_rows(name, section), section.items_per_tar)):
            _part(folder, number, rows, section, known[number] if number < len(known) else None)
            num_seen += len(rows)
            progress.update(num_seen)
    if num_seen < done:
        raise Refused(_other_lists(folder, f"{done:,} addresses were tried, and the lists have {num_seen:,}"))
    coverage = coverage_of(source)
    say(f"{coverage['ok']:,} of {coverage['addresses']:,} addresses of {name} gave a picture.")
    for reason, count in coverage["failed"].items():
        say(f"  {count:,} × {reason}")


def coverage_of(source: Files) -> dict[str, Any]:
    """How many addresses there are, gave a picture, or why not: `addresses`, `ok`, `failed_share`, `failed`."""
    counts: Counter[str] = Counter()
    for path in _manifests(paths.DATA / source.paths[0]):
        counts.update(item.status for item in _manifest(path))
    total, num_ok = counts.total(), counts.pop(OK, 0)
    share = round((total - num_ok) / total, 6) if total else 0.0
    return {"addresses": total, "ok": num_ok, "failed_share": share, "failed": dict(counts.most_common())}


# ---- lists and manifests ---------------------------------------------------------------------------------------------


def _num_rows(name: str, section: Download) -> int:
    return sum(1 for _ in _rows(name, section))


def _rows(name: str, section: Download) -> Iterator[dict[str, Any]]:
    """The rows of all lists that have an address."""
    for each in section.lists:
        path = paths.DATA / each
        if not path.is_file():
            raise Refused(f"corpus '{name}': {path} is not there. Run: hiraku collect {name} --from FOLDER")
        for row in read(path):
            if row.fields is None:
                continue
            if section.url_field not in row.fields:
                raise Refused(
                    f"{row.where} has no field '{section.url_field}'; keys there: {one_line(', '.join(row.fields))}. "
                    "Change source.download.url_field; a table without names of columns needs them in its first line."
                )
            yield row.fields


def _batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    iterator = iter(items)
    while some := tuple(islice(iterator, size)):
        yield some


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.parquet"))


def _manifest(path: Path) -> list[Item]:
    import pyarrow.parquet as pq

    return [Item(**row) for row in pq.read_table(path).to_pylist()]


def _write_manifest(path: Path, items: list[Item]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.Table.from_pylist([asdict(item) for item in items]), partial, compression="zstd")
    partial.replace(path)


def _other_lists(folder: Path, found: str) -> str:
    return (
        f"{folder} was filled from other lists than source.download.lists names now: {found}. Bring the former lists "
        f"back, or move {folder} away to begin again."
    )


# ---- one part --------------------------------------------------------------------------------------------------------


def _part(
    folder: Path, number: int, rows: tuple[dict[str, Any], ...], section: Download, known: list[Item] | None
) -> None:
    """Try what is open of a part, and leave its tar and its manifest."""
    wanted = [
        Item(f"{number * section.items_per_tar + place:09d}", str(row[section.url_field]).strip())
        for place, row in enumerate(rows)
    ]
    known = known or []
    if [(item.key, item.url) for item in known] != [(item.key, item.url) for item in wanted[: len(known)]]:
        raise Refused(_other_lists(folder, f"part {number} has other addresses"))
    items = [*known, *wanted[len(known) :]]
    jobs = [(item, row) for item, row in zip(items, rows, strict=True) if item.is_open(section.max_tries)]
    if not jobs:
        return
    again = max((item.tries for item in known), default=0)
    tried = _brought(folder / f"{number:05d}{f'.again-{again}' if again else ''}.tar", jobs, section)
    _write_manifest(folder / f"{number:05d}.parquet", [tried.get(item.key, item) for item in items])


def _brought(tar: Path, jobs: list[Job], section: Download) -> dict[str, Item]:
    """Key -> what became of each job; those that gave a picture stand in the tar, in order."""
    from webdataset import TarWriter

    tried: dict[str, Item] = {}
    partial = tar.with_name(f".{tar.name}.partial")
    with partial.open("wb") as file, TarWriter(file, encoder=False, mtime=MTIME) as writer:
        for item, row, picture in _answers(jobs, section):
            is_there = item.status == OK
            if is_there:
                writer.write(_sample(item, row, picture))
            tried[item.key] = replace(item, tar=tar.name if is_there else "", tries=item.tries + 1)
    if any(item.status == OK for item in tried.values()):
        partial.replace(tar)
    else:
        partial.unlink()
    return tried


def _answers(jobs: list[Job], section: Download) -> Iterator[tuple[Item, dict[str, Any], bytes]]:
    """Each job with its status and its picture, in order, several addresses at a time."""
    limits = Limits(section.timeout_seconds, section.max_file_bytes, tuple(section.own_hosts))
    with ThreadPoolExecutor(section.num_parallel) as pool:
        for some in _batched(jobs, WAITING * section.num_parallel):
            found = pool.map(lambda job: _one(job[0], section, limits), some)
            for (_, row), (item, picture) in zip(some, found, strict=True):
                yield item, row, picture


def _one(item: Item, section: Download, limits: Limits) -> tuple[Item, bytes]:
    """What an address gives, if it is a picture."""
    try:
        raw = file_at(item.url, limits)
        picture = _checked(raw, section.max_side_px)
    except Failed as failed:
        return replace(item, status=str(failed), may_pass=failed.may_pass), b""
    except Rejected as rejected:
        return replace(item, status=f"no picture: {rejected}", may_pass=False), b""
    return replace(item, status=OK, num_bytes=len(picture)), picture


def _checked(raw: bytes, max_side_px: int | None) -> bytes:
    """A picture as it came, or made smaller; whatever else it should be, `ingest` judges.

    Raises:
        Rejected: it cannot be read.
    """
    from PIL import Image

    own = modality("image")
    section: dict[str, Any] = {"modality": "image", "form": "picture", "filters": {"min_side_px": 1, "max_aspect": 1e6}}
    column = own.schema.Column.model_validate(section | ({"max_side_px": max_side_px} if max_side_px else {}))
    clean: bytes = own.reader(column)({"image": raw})
    with Image.open(io.BytesIO(raw)) as image:
        is_large = max_side_px is not None and max(image.size) > max_side_px
    return clean if is_large else raw


def _sample(item: Item, row: dict[str, Any], picture: bytes) -> dict[str, Any]:
    """What stands in the tar: the picture, and the row of the list beside it."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        kind = "jpg" if image.format in ("JPEG", "MPO") else str(image.format).lower()
    text = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
    return {"__key__": item.key, kind: picture, "json": text.encode()}
