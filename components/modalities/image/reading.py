"""The records of a task: what is said of them at once, their pictures a batch at a time."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from components.modalities.image.task_schema import Pictures
from components.outcomes import Refused
from components.thumbnails import thumbnail

Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]
Row = dict[str, Any]


def records_of(task: Pictures, columns: list[str], read: Read) -> list[Row]:
    """The records of a task without their pictures; where it takes a sample, those with the smallest hashes of ids.

    Raises:
        Refused: there is none.
    """

    def by_hash(record: Row) -> bytes:
        return hashlib.blake2b(record["id"].encode("utf-8"), digest_size=16).digest()

    found = read(task.corpus, columns, splits={task.split})
    records = list(found) if task.max_pictures is None else heapq.nsmallest(task.max_pictures, found, key=by_hash)
    if not records:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has no accepted picture, expected at least one to score. "
            "Give the corpus some, or choose another 'split' in the task."
        )
    return records


def picture_batches(
    task: Pictures, records: list[Row], read: Read, tell: Tell
) -> Iterator[tuple[list[int], list[bytes]]]:
    """The pictures of some records, each behind the number of its record, as many together as the task says."""
    numbers = {record["id"]: number for number, record in enumerate(records)}
    places: list[int] = []
    pictures: list[bytes] = []
    done = 0
    for row in read(task.corpus, [task.picture], splits={task.split}):
        if row["id"] in numbers:
            places.append(numbers[row["id"]])
            pictures.append(row[task.picture])
        if len(places) == task.batch_pictures:
            yield places, pictures
            done += len(places)
            tell(done, len(records))
            places, pictures = [], []
    if places:
        yield places, pictures
        tell(len(records), len(records))


def thumbnails_of(task: Pictures, records: list[Row], read: Read) -> list[bytes]:
    """Small pictures of some records, in their order."""
    wanted = {record["id"] for record in records}
    found = {
        row["id"]: thumbnail(row[task.picture])
        for row in read(task.corpus, [task.picture], splits={task.split})
        if row["id"] in wanted
    }
    return [found[record["id"]] for record in records]
