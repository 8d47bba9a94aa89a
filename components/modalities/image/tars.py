"""Pictures in tars: read one after another by the webdataset library, or each by its number.

`{number:09d}.png` (or `.jpg`) stands beside `{number:09d}.json` with the record's `id` and `split`; `pictures.npy` says
where each picture lies.
"""

import json
import tarfile
from array import array
from pathlib import Path
from typing import IO, Any

import numpy as np

from components.manifest import file_hash
from components.outcomes import Refused

INDEX_NAME = "pictures.npy"
TAR_BYTES = 256 << 20
"""A tar that holds so much is ended; one that does not begin anew for every thousand pictures of a phone."""


def tar_name(number: int) -> str:
    """`pictures-000000.tar`."""
    return f"pictures-{number:06d}.tar"


class TarWriter:
    """The tars of one split; the same pictures give the same bytes."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self.ending = folder, ending
        self.numbers: list[int] = []
        self.rows = array("q")
        self.stream: IO[bytes] | None = None
        self.files: list[dict[str, Any]] = []

    def add(self, number: int, picture: bytes, facts: dict[str, Any]) -> None:
        """Add a picture and its facts."""
        import webdataset

        if self.stream is None:
            path = self.folder / tar_name(len(self.files))
            self.stream = path.open("wb")
            self.writer: Any = webdataset.TarWriter(self.stream, mtime=0, encoder=False)
        text = json.dumps(facts, ensure_ascii=False).encode()
        self.writer.write({"__key__": f"{number:09d}", self.ending: picture, "json": text})
        if self.writer.tarstream.offset >= TAR_BYTES:
            self._end()

    def _end(self) -> None:
        if self.stream is None:
            return
        self.writer.close()
        self.stream.close()
        path = self.folder / tar_name(len(self.files))
        with tarfile.open(path, "r:") as members:
            for member in members:
                if member.name.endswith(f".{self.ending}"):
                    self.rows.extend((len(self.files), member.offset_data, member.size))
        self.files.append({"name": path.name, "num_bytes": path.stat().st_size, "sha256": file_hash(path)})
        self.stream = None

    def close(self) -> list[dict[str, Any]]:
        """End the files; what the index says about them."""
        self._end()
        np.save(self.folder / INDEX_NAME, np.array(self.rows, "<i8").reshape(-1, 3))
        return self.files


class Pictures:
    """The pictures of one split, each read when it is asked for.

    Raises:
        Refused: a tar or the index is missing or cut.
    """

    def __init__(self, folder: Path, files: list[dict[str, Any]], shards: str) -> None:
        self.folder, self.names = folder, [each["name"] for each in files]
        for each in files:
            path = folder / each["name"]
            size = path.stat().st_size if path.is_file() else 0
            if size != each["num_bytes"]:
                raise Refused(
                    f"{path} has {size:,} bytes, expected {each['num_bytes']:,}: it was cut or changed. Remove "
                    f"{folder.parent.parent}, then run: hiraku shard {shards}"
                )
        if not (folder / INDEX_NAME).is_file():
            raise Refused(f"{folder / INDEX_NAME} is not there. Remove its folder, then run: hiraku shard {shards}")
        self.index: np.ndarray = np.load(folder / INDEX_NAME, mmap_mode="r")
        self.maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> bytes:
        """The file of a picture."""
        tar, begin, size = self.index[number].tolist()
        if tar not in self.maps:
            self.maps[tar] = np.memmap(self.folder / self.names[tar], np.uint8, mode="r")
        return self.maps[tar][begin : begin + size].tobytes()
