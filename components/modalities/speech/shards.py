"""Shards of speech: arrays of one split one after another in a file that training maps into memory.

`write_shards` leaves, per split, `<split>/values.bin` (little-endian: 16-bit samples, units or phonemes) and
`<split>/offsets.npy` (int64 [records + 1], where each record begins), and one `index.json` for all. Records stand in
the order in which they were accepted, so the shards of one corpus under two encoders pair up by number.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.manifest import file_hash
from components.outcomes import Refused
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ

INDEX_NAME = "index.json"
VALUES_NAME, OFFSETS_NAME = "values.bin", "offsets.npy"
WRITE_BYTES = 1 << 20
SECONDS = {"waveform": 1 / SAMPLE_RATE_HZ, "units": FRAME_SAMPLES / SAMPLE_RATE_HZ}
"""Of one value of a kind that has a length in time."""


# ---- writing ---------------------------------------------------------------------------------------------------------


class _SplitWriter:
    """The files of one split."""

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        folder.mkdir(parents=True)
        self.folder, self.dtype = folder, dtype
        self.stream = (folder / VALUES_NAME).open("wb", buffering=WRITE_BYTES)
        self.digest = hashlib.sha256()
        self.offsets = array("q", [0])

    def add(self, values: np.ndarray) -> None:
        data = values.astype(self.dtype, copy=False).tobytes()
        self.stream.write(data)
        self.digest.update(data)
        self.offsets.append(self.offsets[-1] + len(values))

    def close(self) -> dict[str, Any]:
        """End the files; what the index says about them."""
        self.stream.close()
        np.save(self.folder / OFFSETS_NAME, np.array(self.offsets, "<i8"))
        return {
            "num_records": len(self.offsets) - 1,
            "num_values": self.offsets[-1],
            "values_sha256": self.digest.hexdigest(),
            "offsets_sha256": file_hash(self.folder / OFFSETS_NAME),
        }


def write_shards(encoded: Iterator[tuple[str, np.ndarray]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write records as arrays, in their order, holding one of them in memory.

    Args:
        encoded: split and values of each record.
        encoder: gives `kind`, `dtype` and `facts`.
        folder: receives the files.

    Returns:
        `<split>/records`, `<split>/values`, for sound and units `<split>/seconds`; for units how many of them occur and
        the largest share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, _SplitWriter] = {}
    counts = np.zeros(encoder.facts.get("num_units", 0), np.int64)
    for split, values in encoded:
        if split not in writers:
            writers[split] = _SplitWriter(folder / split, encoder.dtype)
        writers[split].add(values)
        if len(counts):
            counts += np.bincount(values, minlength=len(counts))
    splits = {split: writer.close() for split, writer in sorted(writers.items())}
    index = {"kind": encoder.kind, "dtype": encoder.dtype.str, "facts": encoder.facts, "splits": splits}
    (folder / INDEX_NAME).write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    found: dict[str, int | float] = {}
    for split, each in splits.items():
        found |= {f"{split}/records": each["num_records"], f"{split}/values": each["num_values"]}
        if encoder.kind in SECONDS:
            found[f"{split}/seconds"] = round(each["num_values"] * SECONDS[encoder.kind], 2)
    if counts.sum():
        found |= {"num_units_used": int((counts > 0).sum()), "largest_unit_share": float(counts.max() / counts.sum())}
    return found


# ---- reading ---------------------------------------------------------------------------------------------------------


class Arrays:
    """The records of one split, mapped into memory.

    Raises:
        Refused: the split or a file is missing or cut.
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
        if size != found["num_values"] * dtype.itemsize or not (folder / split / OFFSETS_NAME).is_file():
            raise Refused(
                f"{values} has {size:,} bytes, expected {found['num_values'] * dtype.itemsize:,}: it was cut or "
                f"changed. Remove {folder.parent}, then run: hiraku shard {name}"
            )
        self.values = np.memmap(values, dtype, mode="r") if size else np.empty(0, dtype)
        self.offsets = np.load(folder / split / OFFSETS_NAME)

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
