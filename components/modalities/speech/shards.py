"""Shards of speech: arrays of one split one after another in a file that training maps into memory.

`write_shards` leaves, per split, `<split>/values.bin` (little-endian: 16-bit samples, units or phonemes) and
`<split>/offsets.npy` (int64 [records + 1], where each record begins), and one `index.json` for all. Records stand in
the order in which they were accepted, so the shards of one corpus under two encoders pair up by number.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from components.growing import WRITE_BYTES, flush, forget_place, note_place, opened, place_of
from components.manifest import file_hash
from components.outcomes import Refused
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ

INDEX_NAME = "index.json"
VALUES_NAME, OFFSETS_NAME = "values.bin", "offsets.npy"
ENDS_NAME, ENDS_TYPE = "ends.bin", np.dtype("<i8")
"""Where each record ends; gone when all is written."""
PART_RECORDS = 256
"""What a kill costs at most, besides what is encoded at once: about twenty minutes of speech."""
NOTHING: dict[str, Any] = {"splits": {}}
"""The place of a run that begins."""
SECONDS = {"waveform": 1 / SAMPLE_RATE_HZ, "units": FRAME_SAMPLES / SAMPLE_RATE_HZ}
"""Of one value of a kind that has a length in time."""


# ---- writing ---------------------------------------------------------------------------------------------------------


class _SplitWriter:
    """The files of one split.

    Args:
        folder: of the split.
        dtype: of a value.
        num_units: how many different values there are of which each is counted; 0 where they are not.
        kept: what an earlier run has noted, whose records these go on from.
    """

    def __init__(self, folder: Path, dtype: np.dtype, num_units: int, kept: dict[str, int] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype = folder, dtype
        self.num_records, self.num_values = (kept or {}).get("num_records", 0), (kept or {}).get("num_values", 0)
        self.digest = hashlib.sha256()
        self.counts = np.zeros(num_units, np.int64)
        self.stream = opened(folder / VALUES_NAME, self.num_values * dtype.itemsize)
        self.ends = opened(folder / ENDS_NAME, self.num_records * ENDS_TYPE.itemsize)
        if self.num_values:  # reading again costs far less than what the values were computed by
            kept_values = np.memmap(folder / VALUES_NAME, dtype, mode="r", shape=(self.num_values,))
            for start in range(0, self.num_values, WRITE_BYTES):
                self._count(kept_values[start : start + WRITE_BYTES])

    def _count(self, values: np.ndarray) -> bytes:
        data = values.tobytes()
        self.digest.update(data)
        if len(self.counts):
            self.counts += np.bincount(values, minlength=len(self.counts))
        return data

    def add(self, values: np.ndarray) -> None:
        self.stream.write(self._count(values.astype(self.dtype, copy=False)))
        self.num_records += 1
        self.num_values += len(values)
        self.ends.write(np.array(self.num_values, ENDS_TYPE).tobytes())

    def kept(self) -> dict[str, int]:
        """What a later run needs to go on from here; all of it is on the disk then."""
        for stream in (self.stream, self.ends):
            flush(stream)
        return {"num_records": self.num_records, "num_values": self.num_values}

    def release(self) -> None:
        """Close the files as they are."""
        self.stream.close()
        self.ends.close()

    def finish(self) -> dict[str, Any]:
        """End the files; what the index says about them."""
        self.kept()
        ends = np.fromfile(self.folder / ENDS_NAME, ENDS_TYPE)
        np.save(self.folder / OFFSETS_NAME, np.concatenate([np.zeros(1, ENDS_TYPE), ends]))
        return {
            "num_records": self.num_records,
            "num_values": self.num_values,
            "values_sha256": self.digest.hexdigest(),
            "offsets_sha256": file_hash(self.folder / OFFSETS_NAME),
        }


def num_written(folder: Path) -> int:
    """The records that a run which was stopped has noted in a folder, if they are there; nothing else is trusted."""
    place = place_of(folder) or NOTHING
    for split, kept in place["splits"].items():
        sizes = {VALUES_NAME: kept["num_values"] * place["bytes"], ENDS_NAME: kept["num_records"] * ENDS_TYPE.itemsize}
        for name, size in sizes.items():
            path = folder / split / name
            if not path.is_file() or path.stat().st_size < size:
                return 0
    return sum(kept["num_records"] for kept in place["splits"].values())


def _keep(folder: Path, dtype: np.dtype, writers: dict[str, _SplitWriter]) -> None:
    splits = {split: writer.kept() for split, writer in writers.items()}
    note_place(folder, {"bytes": dtype.itemsize, "splits": splits})


def write_shards(encoded: Iterator[tuple[str, np.ndarray]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write records as arrays, in their order, holding one of them and eight bytes for each in memory.

    Every `PART_RECORDS` records the place is noted in the folder, so that a run that was killed goes on there.

    Args:
        encoded: split and values of each record after the `num_written` of the folder.
        encoder: gives `kind`, `dtype` and `facts`.
        folder: receives the files.

    Returns:
        `<split>/records`, `<split>/values`, for sound and units `<split>/seconds`; for units how many of them occur and
        the largest share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_units = encoder.facts.get("num_units", 0)
    with ExitStack() as stack:
        writers: dict[str, _SplitWriter] = {}

        def begin(split: str, kept: dict[str, int] | None = None) -> None:
            writers[split] = _SplitWriter(folder / split, encoder.dtype, num_units, kept)
            stack.callback(writers[split].release)

        num_done = num_written(folder)
        for split, kept in (place_of(folder) or NOTHING)["splits"].items() if num_done else ():
            begin(split, kept)
        for number, (split, values) in enumerate(encoded, num_done + 1):
            if split not in writers:
                begin(split)
            writers[split].add(values)
            if number % PART_RECORDS == 0:
                _keep(folder, encoder.dtype, writers)
        splits = {split: writer.finish() for split, writer in sorted(writers.items())}
        counts = sum((writer.counts for writer in writers.values()), np.zeros(num_units, np.int64))
    index = {"kind": encoder.kind, "dtype": encoder.dtype.str, "facts": encoder.facts, "splits": splits}
    (folder / INDEX_NAME).write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    forget_place(folder)
    for left_over in folder.glob(f"*/{ENDS_NAME}"):
        left_over.unlink()
    return _counts_of(splits, encoder.kind, counts)


def _counts_of(splits: dict[str, Any], kind: str, counts: np.ndarray) -> dict[str, int | float]:
    """The counts of the manifest; see `write_shards`."""
    found: dict[str, int | float] = {}
    for split, each in splits.items():
        found |= {f"{split}/records": each["num_records"], f"{split}/values": each["num_values"]}
        if kind in SECONDS:
            found[f"{split}/seconds"] = round(each["num_values"] * SECONDS[kind], 2)
    if counts.sum():
        found |= {"num_units_used": int((counts > 0).sum()), "largest_unit_share": float(counts.max() / counts.sum())}
    return found


# ---- reading ---------------------------------------------------------------------------------------------------------


class Arrays:
    """The records of one split, mapped into memory.

    Raises:
        Refused: the split or a file is missing, the values have another size, or the offsets another content.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        place, name = folder / INDEX_NAME, folder.parent.name
        if not place.is_file():
            raise Refused(f"{place} is not there, so nothing can be read from its shards. Run: hiraku shard {name}")
        index = json.loads(place.read_text(encoding="utf-8"))
        self.kind: str = index["kind"]
        self.facts: dict[str, Any] = index["facts"]
        found = index["splits"].get(split)
        if found is None:
            raise Refused(
                f"{folder} has no split '{split}', only {', '.join(index['splits'])}. Give the corpus records of that "
                f"split, then run: hiraku shard {name}"
            )
        values, dtype = folder / split / VALUES_NAME, np.dtype(index["dtype"])
        size = values.stat().st_size if values.is_file() else 0
        if size != found["num_values"] * dtype.itemsize:
            raise Refused(
                f"{values} has {size:,} bytes, expected {found['num_values'] * dtype.itemsize:,}: it was cut, or "
                f"written on. Remove {folder.parent}, then run: hiraku shard {name}"
            )
        offsets = folder / split / OFFSETS_NAME
        if not offsets.is_file() or file_hash(offsets) != found["offsets_sha256"]:
            raise Refused(
                f"{offsets} is not the one that was written. Remove {folder.parent}, then run: hiraku shard {name}"
            )
        # Of the values their size alone is looked at: to hash terabytes before each training would cost hours.
        self.values = np.memmap(values, dtype, mode="r") if size else np.empty(0, dtype)
        self.offsets = np.load(offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [records]: values of each."""
        return np.diff(self.offsets)

    def lengths_of(self, numbers: np.ndarray) -> np.ndarray:
        """int64: values of some records, without a look at the others."""
        found: np.ndarray = self.offsets[numbers + 1] - self.offsets[numbers]
        return found

    def part(self, number: int, start: int = 0, size: int | None = None) -> np.ndarray:
        """Values of a record, all or some of them."""
        begin, end = int(self.offsets[number]) + start, int(self.offsets[number + 1])
        return self.values[begin : end if size is None else begin + size]
