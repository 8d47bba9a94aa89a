"""Shards of pictures: arrays of one split, mapped into memory, and pictures in tars that the webdataset library reads.

`write_shards` leaves, per split, a file for each array of the encoded records (`<split>/<array>.bin`, little-endian),
`<split>/<array>-offsets.npy` (int64 [records + 1]) where records differ in how much they have of it, tars where records
hold pictures, and one `index.json` for all. Records stand in the order in which they were accepted, so the shards of
one corpus under several encoders pair up by number.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.growing import WRITE_BYTES
from components.manifest import file_hash
from components.modalities.image.tars import Pictures, TarWriter
from components.outcomes import Refused

INDEX_NAME = "index.json"
PICTURE = "picture"
"""The array that goes into tars: uint8, the bytes of a file."""
ID = "id"
"""What names a record, beside its picture: uint8, UTF-8."""
DIGEST = "digest"
"""The array by which what is equal is told: uint64 [1] of a picture, [captions] of captions."""

Parts = Mapping[str, np.ndarray]
"""What an encoder makes of a record: arrays by name, each of one dimension and, for a name, of one type."""


def digest_of(content: bytes) -> np.ndarray:
    """uint64 [1]: equal for equal content, and hardly ever else."""
    return np.frombuffer(hashlib.blake2b(content, digest_size=8).digest(), "<u8")


# ---- writing ---------------------------------------------------------------------------------------------------------


class _ArrayWriter:
    """The files of one array of one split."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self.dtype = path, dtype.newbyteorder("<")
        self.stream = path.open("wb", buffering=WRITE_BYTES)
        self.digest = hashlib.sha256()
        self.offsets = array("q", [0])

    def add(self, values: np.ndarray) -> None:
        if values.dtype != self.dtype or values.ndim != 1:
            raise ValueError(f"{self.path.stem}: {values.dtype} {values.shape}, expected {self.dtype} [values]")
        data = values.tobytes()
        self.stream.write(data)
        self.digest.update(data)
        self.offsets.append(self.offsets[-1] + len(values))

    def close(self) -> dict[str, Any]:
        """End the files; what the index says about them."""
        self.stream.close()
        offsets = np.array(self.offsets, "<i8")
        sizes = np.unique(np.diff(offsets))
        found: dict[str, Any] = {
            "dtype": self.dtype.str,
            "num_values": int(offsets[-1]),
            "sha256": self.digest.hexdigest(),
        }
        if len(sizes) <= 1:
            return found | {"size": int(sizes[0]) if len(sizes) else 0}
        place = self.path.with_name(f"{self.path.stem}-offsets.npy")
        np.save(place, offsets)
        return found | {"offsets_sha256": file_hash(place)}


class _SplitWriter:
    """The files of one split."""

    def __init__(self, folder: Path, split: str, ending: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.split, self.ending = folder, split, ending
        self.arrays: dict[str, _ArrayWriter] = {}
        self.tars: TarWriter | None = None
        self.num_records = 0

    def add(self, parts: Parts) -> None:
        for name, values in parts.items():
            if name in (PICTURE, ID):
                continue
            if name not in self.arrays:
                self.arrays[name] = _ArrayWriter(self.folder / f"{name}.bin", values.dtype)
            self.arrays[name].add(values)
        if PICTURE in parts:
            self.tars = self.tars or TarWriter(self.folder, self.ending)
            facts = {"id": parts[ID].tobytes().decode()} if ID in parts else {}
            self.tars.add(self.num_records, parts[PICTURE].tobytes(), facts | {"split": self.split})
        self.num_records += 1

    def close(self) -> dict[str, Any]:
        """End the files; what the index says about them."""
        found: dict[str, Any] = {"num_records": self.num_records}
        if self.tars is not None:
            found["tars"] = self.tars.close()
        return found | {"arrays": {name: writer.close() for name, writer in sorted(self.arrays.items())}}


def write_shards(encoded: Iterator[tuple[str, Parts]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write what an encoder makes of records, in their order, holding one of them in memory.

    Args:
        encoded: split and arrays of each record.
        encoder: gives `kind`, `facts`, and `counts`, what it found on its way.
        folder: receives the files.

    Returns:
        `<split>/records`, and the encoder's own counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, _SplitWriter] = {}
    for split, parts in encoded:
        if split not in writers:
            writers[split] = _SplitWriter(folder / split, split, encoder.facts.get("format", ""))
        writers[split].add(parts)
    splits = {split: writer.close() for split, writer in sorted(writers.items())}
    index = {"kind": encoder.kind, "facts": encoder.facts, "names": encoder.names, "splits": splits}
    (folder / INDEX_NAME).write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {f"{split}/records": each["num_records"] for split, each in splits.items()} | encoder.counts


# ---- reading ---------------------------------------------------------------------------------------------------------


class Arrays:
    """The records of one split, mapped into memory.

    Raises:
        Refused: the split or a file is missing or cut.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        place, self.name = folder / INDEX_NAME, folder.parent.name
        if not place.is_file():
            raise Refused(
                f"{place} is not there, so nothing can be read from its shards. Run: hiraku shard {self.name}"
            )
        index = json.loads(place.read_text(encoding="utf-8"))
        self.kind: str = index["kind"]
        self.facts: dict[str, Any] = index["facts"]
        self.names: list[str] = index["names"]
        """Of captions: the kinds that their numbers stand for."""
        found = index["splits"].get(split)
        if found is None:
            raise Refused(
                f"{folder} has no split '{split}', only {', '.join(index['splits']) or 'no split at all'}. Give the "
                f"corpus records of that split, then run: hiraku shard {self.name}"
            )
        self.num_records: int = found["num_records"]
        self.arrays = {name: self._array(name, each) for name, each in found["arrays"].items()}
        self.offsets = {name: self._offsets(name, each) for name, each in found["arrays"].items() if "size" not in each}
        self.sizes: dict[str, int] = {name: each["size"] for name, each in found["arrays"].items() if "size" in each}
        self.pictures = Pictures(folder / split, found["tars"], self.name) if "tars" in found else None

    def _array(self, name: str, said: dict[str, Any]) -> np.ndarray:
        path, dtype = self.folder / self.split / f"{name}.bin", np.dtype(said["dtype"])
        size = path.stat().st_size if path.is_file() else -1
        if size != said["num_values"] * dtype.itemsize:
            raise Refused(
                f"{path} has {max(size, 0):,} bytes, expected {said['num_values'] * dtype.itemsize:,}: it was cut or "
                f"changed. Remove {self.folder.parent}, then run: hiraku shard {self.name}"
            )
        return np.memmap(path, dtype, mode="r") if size else np.empty(0, dtype)

    def _offsets(self, name: str, said: dict[str, Any]) -> np.ndarray:
        path = self.folder / self.split / f"{name}-offsets.npy"
        found = np.load(path, mmap_mode="r") if path.is_file() else np.zeros(1, np.int64)
        if len(found) != self.num_records + 1 or found[-1] != said["num_values"]:
            raise Refused(
                f"{path} is not there or was cut: it tells where records begin. Remove {self.folder.parent}, then run: "
                f"hiraku shard {self.name}"
            )
        return found

    def __len__(self) -> int:
        return self.num_records

    def starts(self, name: str) -> np.ndarray:
        """int64 [records + 1]: where each record's part of an array begins."""
        if name in self.sizes:
            return np.arange(self.num_records + 1, dtype=np.int64) * self.sizes[name]
        return self.offsets[name]

    def rows(self, name: str) -> np.ndarray:
        """[records, values] of an array of which all records have as much."""
        found: np.ndarray = self.arrays[name].reshape(self.num_records, self.sizes[name])
        return found
