"""Token shards: documents one after another in files that training maps into memory.

`write_shards` leaves, per split, `<split>-00000.bin` and so on (little-endian token ids, each document ended by the
end-of-text token), `<split>-documents.npy` (int64, where each document begins in the split's stream of tokens) and one
`index.json` for all. Where one file ends and the next begins has no influence on samples.

What a chat encoder gives has parts (`models.conversation`): then a document is one prompt with its answer, or with a
better and a worse one, and `<split>-00000.parts` (one byte an id) stands beside each file. Its answers end with the
end-of-text token already.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from components.growing import WRITE_BYTES, flush, forget_place, note_place, opened, place_of
from components.manifest import file_hash
from components.modalities.text.windows import INDEX_NAME, PARTS_ENDING, Source, TokenSamples, TokenStream
from components.outcomes import Refused
from models.conversation import PROMPT

FILE_TOKENS = 1 << 27
"""A file ends with the document that reaches this many tokens: 256 MiB of two bytes each."""
NOTHING: dict[str, Any] = {"num_documents": 0, "num_chars": 0, "splits": {}}
"""The place of a run that begins."""


# ---- writing ---------------------------------------------------------------------------------------------------------


HEADER_BYTES = 128
"""Of a `.npy` with so short a description."""


class _Offsets:
    """A `.npy` of int64 written as a stream; numpy pads the header so that the final length fits."""

    def __init__(self, path: Path, count: int = 0) -> None:
        self.stream: IO[bytes] = opened(path, count and (HEADER_BYTES + 8 * count))
        self.count = count
        if not count:
            self._write_header()
            assert self.stream.tell() == HEADER_BYTES  # noqa: S101 - numpy pads the header to whole 64 bytes

    def _write_header(self) -> None:
        header = {"descr": "<i8", "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self.stream, header)

    def add(self, offset: int) -> None:
        self.stream.write(offset.to_bytes(8, "little"))
        self.count += 1

    def close(self) -> None:
        self.stream.seek(0)
        self._write_header()
        self.stream.close()


class _SplitWriter:
    """The files of one split."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype, eos: int, kept: dict[str, Any] | None = None) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.eos = np.array([eos], dtype).tobytes()
        self.files: list[dict[str, Any]] = kept["files"] if kept else []
        self.stream: IO[bytes] | None = None
        self.parts: IO[bytes] | None = None
        self.offsets = _Offsets(folder / f"{split}-documents.npy", kept["num_documents"] if kept else 0)
        self.num_tokens = sum(file["num_tokens"] for file in self.files)
        if self.files and "sha256" not in self.files[-1]:
            path = folder / self.files[-1]["name"]
            self.stream = opened(path, self.files[-1]["num_tokens"] * dtype.itemsize)
            self.digest = hashlib.sha256(path.read_bytes())

    def kept(self) -> dict[str, Any]:
        """What a later run needs to go on from here; all of it is on the disk then."""
        for stream in (self.offsets.stream, self.stream):
            if stream is not None:
                flush(stream)
        return {"files": self.files, "num_documents": self.offsets.count}

    def add(self, ids: np.ndarray) -> bool:
        """Add a document, or what a chat encoder made of a value: rows of (id, part). Whether a file ended with it."""
        num_ended = len(self.files) - (self.stream is not None)
        if ids.ndim == 1:
            self._write(ids.astype(self.dtype).tobytes() + self.eos, len(ids) + 1, b"")
            return len(self.files) - (self.stream is not None) > num_ended
        is_first = (ids[:, 1] == PROMPT) & np.append(True, ids[:-1, 1] != PROMPT)
        for row in np.split(ids, np.flatnonzero(is_first)[1:]):
            self._write(row[:, 0].astype(self.dtype).tobytes(), len(row), row[:, 1].astype(np.uint8).tobytes())
        return False  # conversations are few, and their two files have one hash: they begin anew

    def _write(self, data: bytes, num_tokens: int, parts: bytes) -> None:
        if self.stream is None:
            name = f"{self.split}-{len(self.files):05d}.bin"
            self.files.append({"name": name, "num_tokens": 0})
            self.stream = (self.folder / name).open("wb", buffering=WRITE_BYTES)
            self.parts = (self.folder / name).with_suffix(PARTS_ENDING).open("wb") if parts else None
            self.digest = hashlib.sha256()
        self.offsets.add(self.num_tokens)
        self.stream.write(data)
        if self.parts is not None:
            self.parts.write(parts)
        self.digest.update(data + parts)
        self.num_tokens += num_tokens
        self.files[-1]["num_tokens"] += num_tokens
        if self.files[-1]["num_tokens"] >= FILE_TOKENS:
            self._end_file()

    def _end_file(self) -> None:
        if self.stream is not None:
            flush(self.stream)
            self.stream.close()
            self.files[-1]["sha256"] = self.digest.hexdigest()
        if self.parts is not None:
            self.parts.close()
        self.stream = self.parts = None

    def close(self) -> dict[str, Any]:
        """End the files; what the index says about them."""
        self._end_file()
        self.offsets.close()
        name = f"{self.split}-documents.npy"
        return {
            "files": self.files,
            "num_tokens": self.num_tokens,
            "num_documents": self.offsets.count,
            "documents": {"name": name, "sha256": file_hash(self.folder / name)},
        }


def num_written(folder: Path) -> int:
    """The documents that an earlier run has written into a folder; nothing else of it is trusted."""
    return int((place_of(folder) or NOTHING)["num_documents"])


def _keep(folder: Path, num_documents: int, num_chars: int, writers: dict[str, _SplitWriter]) -> None:
    splits = {split: writer.kept() for split, writer in writers.items()}
    note_place(folder, {"num_documents": num_documents, "num_chars": num_chars, "splits": splits})


def write_shards(encoded: Iterator[tuple[str, np.ndarray]], encoder: Any, folder: Path) -> dict[str, int | float]:
    """Write documents as token shards, in their order, holding one of them in memory.

    Whenever a file ends, the place is noted in the folder, so that a run that was killed goes on there.

    Args:
        encoded: split and token ids of each document after the `num_written` of the folder, without special tokens; or
            rows of (id, part).
        encoder: gives `facts` (`vocab_size`, `eos`), and `num_chars`, the characters it has encoded so far.
        folder: receives the files.

    Returns:
        `<split>/documents`, `<split>/tokens` (with the ends of texts), `characters` of all splits, and
        `characters_per_token` (without the ends of texts).
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size, eos = encoder.facts["vocab_size"], encoder.facts["eos"]
    dtype = np.dtype("<u2" if vocab_size < 1 << 16 else "<u4")
    place = place_of(folder) or NOTHING
    before = encoder.num_chars - place["num_chars"]
    writers = {split: _SplitWriter(folder, split, dtype, eos, kept) for split, kept in place["splits"].items()}
    has_ended, num_chars = False, encoder.num_chars
    for number, (split, ids) in enumerate(encoded, place["num_documents"]):
        if has_ended and encoder.num_chars != num_chars:  # what was encoded together is written
            _keep(folder, number, num_chars - before, writers)
            has_ended = False
        num_chars = encoder.num_chars
        if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise ValueError(f"token ids {ids.min()} to {ids.max()} are outside of a vocabulary of {vocab_size}")
        if split not in writers:
            writers[split] = _SplitWriter(folder, split, dtype, eos)
        has_ended |= writers[split].add(ids)
    splits = {split: writer.close() for split, writer in sorted(writers.items())}
    index = {"dtype": dtype.name, "vocab_size": vocab_size, "eos": eos, "splits": splits}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    counts: dict[str, int | float] = {
        f"{split}/{key}": each[f"num_{key}"] for split, each in splits.items() for key in ("documents", "tokens")
    }
    forget_place(folder)
    num_chars = encoder.num_chars - before
    num_tokens = sum(each["num_tokens"] - each["num_documents"] for each in splits.values())
    return counts | {"characters": num_chars, "characters_per_token": round(num_chars / max(1, num_tokens), 5)}


# ---- reading ---------------------------------------------------------------------------------------------------------


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> TokenSamples:
    """Open shards as windows of `window_tokens` inputs and one more target; neighbours share one token.

    Args:
        folders: each with its weight: how many times an epoch reads its windows (0.5: half of them, the other half in
            the next epoch); splits other than `train` are read once.
        split: `train` moves the cut with every pass, so that windows differ; other splits are always cut alike.
        spec: the recipe's `samples`, of which `window_tokens` and `isolate_documents` are used.

    Raises:
        Refused: shards are missing, cut or of different vocabularies, or hold less than one sample.
    """
    sources = []
    for folder, weight in folders:
        stream = TokenStream(folder, split, spec.window_tokens + 1)
        if stream.num_tokens < spec.window_tokens + 1:
            remedy = "add text to the corpus" if split == "train" else f"raise the corpus's key 'splits.{split}'"
            raise Refused(
                f"{folder} has {stream.num_tokens} tokens in the split '{split}', but one sample takes "
                f"{spec.window_tokens + 1} (window_tokens + 1). Lower the recipe's key 'samples.window_tokens' to "
                f"{max(1, stream.num_tokens - 1)} or less, or {remedy}."
            )
        sources.append(Source(stream, weight, spec.window_tokens, moves=split == "train"))
    streams = {str(folder): source.stream for (folder, _), source in zip(folders, sources, strict=True)}
    vocabularies = {folder: {"ids": each.vocab_size, "eos": each.eos} for folder, each in streams.items()}
    if any(each != vocabularies[str(folders[0][0])] for each in vocabularies.values()):
        raise Refused(
            f"The shards of a mixture have different vocabularies: {vocabularies}. Shard them with one encoder."
        )
    return TokenSamples(sources, spec.isolate_documents)
