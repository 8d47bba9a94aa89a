"""The finished parts of an `ingest` that has not come to its end, so that a run that was killed costs at most one part.

They lie under the checkpoint root, in a folder named by all that decides them. Whenever a part of the records ends, its
place in the raw data, the counts, the rejects and what was seen are kept with it. The next run begins there, and ends
with the same bytes.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.records import RecordWriter, TableWriter, text_schema
from components.rows import Row
from components.seen import Seen
from components.tally import Tally

RECORDS, REJECTS, SEEN = "records", "rejects.jsonl", "seen.sqlite"
NOWHERE = {"num_parts": 0, "reject_bytes": 0, "step": 0, "row_of_step": 0}


class HalfDone:
    """What an ingest has so far.

    Args:
        folder: of `components.checkpoints.Checkpoints`, held by this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = Seen(folder / SEEN)
        kept = self.seen.place or {}
        self.place = NOWHERE | {key: kept[key] for key in NOWHERE if key in kept}
        self.tally = Tally.restored(kept["tally"]) if kept else Tally()
        self.is_new = not kept
        (folder / RECORDS).mkdir(exist_ok=True)
        for part in self._parts()[self.place["num_parts"] :]:
            part.unlink()
        self.records = RecordWriter(folder / RECORDS, self.place["num_parts"])
        self.rejects = (folder / REJECTS).open("a", encoding="utf-8")
        self.rejects.truncate(self.place["reject_bytes"])

    def _parts(self) -> list[Path]:
        return sorted((self.folder / RECORDS).glob("part-*.parquet"))

    def rest(self, origin: Any, tell: Any) -> Iterator[tuple[int, Path, Row]]:
        """The rows after those that are done, with how many files or records are done."""
        step, skipped = self.place["step"], self.place["row_of_step"]
        if hasattr(origin, "rows_from"):
            rows = origin.rows_from(step, tell)
        else:
            rows, skipped = origin.rows(tell), self.tally.num_rows
        for _ in range(skipped):
            next(rows)
        for num_done, file, row in rows:
            self.place["row_of_step"] = self.place["row_of_step"] + 1 if num_done == self.place["step"] else 1
            self.place["step"] = num_done
            yield num_done, file, row

    def accept(self, record: dict[str, Any], file: Path) -> None:
        """Add the record of the last row, and keep all there is when a part ends with it."""
        self.tally.accept(record, file)
        if self.records.add(record):
            self._keep()

    def reject(self, reason: str, file: Path, row: Row, excerpt: str) -> None:
        """Add a reject."""
        reason = self.tally.reject(reason, file, row, excerpt)
        line = {"where": row.place, "reason": reason, "excerpt": excerpt}
        self.rejects.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _keep(self) -> None:
        self.rejects.flush()
        os.fsync(self.rejects.fileno())
        self.place |= {"num_parts": self.records.num_parts, "reject_bytes": self.rejects.tell()}
        counts = {key: value for key, value in vars(self.tally).items() if key != "pictures"}
        self.seen.keep(self.place | {"tally": counts})
        self.is_new = False

    def leave(self, records: Path, rejects: Path) -> None:
        """Have all records and rejects in a state: records as links where the disk allows, since both may stay."""
        self.records.close()
        self.rejects.flush()
        records.mkdir()
        for part in self._parts():
            try:
                os.link(part, records / part.name)
            except OSError:  # another disk, or one without links
                shutil.copyfile(part, records / part.name)
        schema = text_schema("where", "reason", "excerpt")
        with TableWriter(rejects, schema) as table, (self.folder / REJECTS).open(encoding="utf-8") as lines:
            for line in lines:
                table.add(json.loads(line))

    def close(self) -> None:
        """Close the files; what was not kept is done again by the next run."""
        with suppress(OSError):  # a full disk: the first error is the one that tells
            self.records.close()
        with suppress(OSError):
            self.rejects.close()
        self.seen.close()
        if self.is_new:  # nothing that a next run could go on from
            shutil.rmtree(self.folder, ignore_errors=True)
