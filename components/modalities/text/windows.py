"""Windows of tokens: training samples cut from shards that are mapped into memory, each addressed by its number."""

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.outcomes import Refused

if TYPE_CHECKING:
    import torch

INDEX_NAME = "index.json"
PARTS_ENDING = ".parts"
GOLDEN = (math.sqrt(5) - 1) / 2


def _name_of(folder: Path) -> str:
    """The name to give to `hiraku shard`: shards lie in `artifacts/sharded/<name>/shards`."""
    return folder.parent.name


def read_index(folder: Path) -> dict[str, Any]:
    """The index of shards.

    Raises:
        Refused: there is none.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise Refused(f"{path} is not there, so there are no shards to read. Run: hiraku shard {_name_of(folder)}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


class TokenStream:
    """All tokens of one split, as if they were one array whose end joins its beginning."""

    def __init__(self, folder: Path, split: str, size: int) -> None:
        """Map the files of a split.

        Args:
            folder: holds the shards.
            split: `train`, `valid` or `test`.
            size: tokens of the windows that will be read.

        Raises:
            Refused: the split or a file is missing, or a file's size is not what the index says.
        """
        index = read_index(folder)
        found = index["splits"].get(split)
        if found is None:
            raise Refused(
                f"{folder} has the splits {sorted(index['splits'])}, expected '{split}'. Raise the corpus's key "
                f"'splits.{split}', then run: hiraku shard {_name_of(folder)}"
            )
        self.found: dict[str, Any] = found
        dtype = np.dtype(index["dtype"]).newbyteorder("<")
        self.files: list[np.ndarray] = []
        for file in found["files"]:
            path = folder / file["name"]
            expected = file["num_tokens"] * dtype.itemsize
            num_bytes = path.stat().st_size if path.is_file() else None
            if num_bytes != expected:
                raise Refused(
                    f"{path} has {num_bytes if num_bytes is not None else 'no'} bytes, expected {expected} "
                    f"({file['num_tokens']} tokens of {dtype.name}): it was cut or changed. Remove {folder.parent}, "
                    f"then run: hiraku shard {_name_of(folder)}"
                )
            self.files.append(np.memmap(path, dtype, mode="r"))
        sizes = np.array([len(file) for file in self.files], dtype=np.int64)
        self.ends = np.cumsum(sizes)
        self.begins = self.ends - sizes
        self.num_tokens = int(sizes.sum())
        self.vocab_size: int = index["vocab_size"]
        self.eos: int = index["eos"]
        self.size = size
        # Every window of a file, as a view without a copy; a file shorter than one has none to give.
        self.views = [np.lib.stride_tricks.sliding_window_view(file, min(size, len(file))) for file in self.files]

    def windows(self, starts: np.ndarray) -> np.ndarray:
        """Token ids, shape [len(starts), size], from each start on, counted from the beginning of the stream."""
        starts = starts % self.num_tokens
        out = np.empty((len(starts), self.size), dtype=self.files[0].dtype)
        file_of = np.searchsorted(self.ends, starts, side="right")
        whole = starts + self.size <= self.ends[file_of]
        for number in np.unique(file_of[whole]):
            rows = whole & (file_of == number)
            out[rows] = self.views[number][starts[rows] - self.begins[number]]
        for row in np.flatnonzero(~whole):  # over the end of a file: one window in 2^27 tokens
            out[row] = self._across(int(starts[row]))
        return out

    def _across(self, start: int) -> np.ndarray:
        places = np.arange(start, start + self.size) % self.num_tokens
        file_of = np.searchsorted(self.ends, places, side="right")
        out = np.empty(self.size, dtype=self.files[0].dtype)
        for number in np.unique(file_of):
            chosen = file_of == number
            out[chosen] = self.files[number][places[chosen] - self.begins[number]]
        return out


def coprime_near_golden(count: int) -> int:
    """A stride that visits each of `count` places once, evenly spread from the start."""
    stride = max(1, round(count * GOLDEN))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride


class Source:
    """One part of a mixture: its windows in an endless order, of which each epoch takes the next `num_samples`.

    One pass over all windows may take less or more than an epoch, depending on the weight; the cut moves with the
    pass, so that no token is a target twice within a pass. A weight is how often training reads; held-out windows
    (`moves` false) count once.
    """

    def __init__(self, stream: TokenStream, weight: float, window_tokens: int, moves: bool) -> None:
        self.stream, self.window_tokens, self.moves = stream, window_tokens, moves
        # A sample needs the token after its window as the last target; the next window begins with that token.
        self.num_windows = (stream.num_tokens - 1) // window_tokens
        self.num_samples = max(1, round((weight if moves else 1.0) * self.num_windows))
        self.window_stride = coprime_near_golden(self.num_windows)
        self.cut_stride = coprime_near_golden(window_tokens)

    def samples(self, numbers: np.ndarray, epoch: int) -> np.ndarray:
        """Token ids, shape [len(numbers), window_tokens + 1]."""
        passes, place = np.divmod(epoch * self.num_samples + numbers, self.num_windows)
        starts = place * self.window_stride % self.num_windows * self.window_tokens
        if self.moves:
            starts = starts + passes * self.cut_stride % self.window_tokens
        return self.stream.windows(starts)


def document_positions(ids: np.ndarray, eos: int) -> np.ndarray:
    """Where each token stands in its document, counted from the window's edge for one that began before it.

    An end-of-text token stands at 0 of the document that follows, as in generation and scoring, which put it before a
    text. So a document's first token is predicted from that token alone, its end from the document itself, and every
    position of a window is trained on.

    Args:
        ids: shape [num_samples, num_tokens].
        eos: the end-of-text token.

    Returns:
        int64, shape [num_samples, num_tokens].
    """
    places = np.arange(ids.shape[1], dtype=np.int64)
    return places - np.maximum.accumulate(np.where(ids == eos, places, 0), axis=1)


class TokenSamples:
    """Samples of a mixture, addressed by number; see `components.modalities.Samples`."""

    def __init__(self, sources: list[Source], isolate_documents: bool = False) -> None:
        self.sources, self.isolate_documents = sources, isolate_documents
        self.ends = np.cumsum([source.num_samples for source in sources])

    def __len__(self) -> int:
        """Samples of one epoch."""
        return int(self.ends[-1])

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, "torch.Tensor"]:
        """The samples of these numbers.

        Args:
            indices: integers from 0 to `len(self) - 1`, shape [num_samples].
            epoch: decides where windows are cut and, for a weight that is no whole number, which of them are read.

        Returns:
            `input_ids`: int64, shape [num_samples, window_tokens + 1]; if documents are isolated, `position_ids` of the
            same type and shape, 0 where a document begins (see `document_positions`).
        """
        import torch

        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"sample {indices.min()} to {indices.max()} of {len(self)}")
        source_of = np.searchsorted(self.ends, indices, side="right")
        out = np.empty((len(indices), self.sources[0].window_tokens + 1), dtype=np.int64)
        for number in np.unique(source_of):
            source = self.sources[number]
            chosen = source_of == number
            begin = self.ends[number] - source.num_samples
            out[chosen] = source.samples(indices[chosen] - begin, epoch)
        batch = {"input_ids": torch.from_numpy(out)}
        if self.isolate_documents:
            batch["position_ids"] = torch.from_numpy(document_positions(out, self.sources[0].stream.eos))
        return batch


END_MARK = "\n──\n"
"""Stands for the end of a document where a person reads samples."""


def describe(batch: dict[str, Any], encoder: Any) -> list[str]:
    """The text of each sample, ends of documents marked by a line of their own.

    Of preferences, the better answer follows its prompt and the worse one stands below it.
    """
    if "input_ids" in batch:
        return _texts(batch["input_ids"].tolist(), encoder)
    keys = [key for key in ("prompt_ids", "chosen_ids", "rejected_ids") if key in batch]
    rows = zip(*(_texts(batch[key].tolist(), encoder) for key in keys), strict=True)
    return [END_MARK.join(texts) for texts in rows]


def _texts(rows: list[list[int]], encoder: Any) -> list[str]:
    eos, texts = encoder.facts["eos"], []
    for row in rows:
        ends = [-1, *(place for place, token in enumerate(row) if token == eos), len(row)]
        parts = [row[begin + 1 : end] for begin, end in itertools.pairwise(ends)]
        texts.append(END_MARK.join(encoder.decode(part) for part in parts if part))
    return texts
