"""Whole conversations, preferences and prompts as training samples, each addressed by its number.

Nothing is cut: a sequence that is longer than a sample may be is left out, counted, and refused if there are many.
"""

from bisect import bisect_left, insort
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.text.windows import PARTS_ENDING, TokenStream, coprime_near_golden
from components.outcomes import Refused
from models.conversation import CHOSEN, PADDING, PROMPT, REJECTED

if TYPE_CHECKING:
    import torch


class Sequences:
    """What a chat encoder left of one split: a prompt and its answers each, mapped into memory."""

    def __init__(self, folder: Path, split: str) -> None:
        """Map the files.

        Raises:
            Refused: the split or a file is missing or cut, or the shards hold documents without a prompt format.
        """
        self.folder = folder
        self.stream = TokenStream(folder, split, size=1)
        self.parts = [_parts_of(folder / file["name"], file["num_tokens"]) for file in self.stream.found["files"]]
        starts = np.load(folder / self.stream.found["documents"]["name"], mmap_mode="r")
        self.starts = np.append(starts, self.stream.num_tokens).astype(np.int64)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    def lengths(self, form: str) -> np.ndarray:
        """int64 [sequences]: tokens that a sample of this form takes of each; of two answers the longer one counts."""
        found = [np.empty(0, np.int64)]
        for parts, begin, end in zip(self.parts, self.stream.begins, self.stream.ends, strict=True):
            inside = (self.starts[:-1] >= begin) & (self.starts[:-1] < end)
            starts = self.starts[:-1][inside] - begin
            asked, better, worse = (
                np.add.reduceat(parts == part, starts, dtype=np.int64) for part in (PROMPT, CHOSEN, REJECTED)
            )
            found.append(asked if form == "prompts" else asked + np.maximum(better, worse))
        return np.concatenate(found)

    def has_rejected(self) -> bool:
        """Whether they are preferences, by the first one."""
        return len(self) > 0 and bool((self[0][1] == REJECTED).any())

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and parts of one, [tokens] both."""
        start, end = int(self.starts[number]), int(self.starts[number + 1])
        file = int(np.searchsorted(self.stream.ends, start, side="right"))
        rows = slice(start - int(self.stream.begins[file]), end - int(self.stream.begins[file]))
        return self.stream.files[file][rows].astype(np.int64), self.parts[file][rows]


def _parts_of(path: Path, num_tokens: int) -> np.ndarray:
    place = path.with_suffix(PARTS_ENDING)
    found = place.stat().st_size if place.is_file() else None
    if found is None:
        raise Refused(
            f"{path.parent} holds documents without a prompt format, expected conversations or preferences. Shard a "
            "corpus of that form with an encoder of kind 'chat', and name it under 'align.shards'."
        )
    if found != num_tokens:
        raise Refused(
            f"{place} has {found} bytes, expected {num_tokens}: it was cut or changed. Remove {path.parent.parent}, "
            f"then run: hiraku shard {path.parent.parent.name}"
        )
    return np.memmap(place, np.uint8, mode="r")


def packed(lengths: np.ndarray, size: int) -> list[list[int]]:
    """Sequences that share a sample, so that few places stay empty: best fit, longest first.

    Args:
        lengths: [sequences], none above `size`.
        size: places of a sample.

    Returns:
        Numbers of the sequences of each sample; a pure function of the arguments.
    """
    samples: list[list[int]] = []
    open_by_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for number in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[number])
        place = bisect_left(rooms, length)
        if place == len(rooms):
            samples.append([])
            sample, room = len(samples) - 1, size
        else:
            room = rooms[place]
            sample = open_by_room[room].pop()
            if not open_by_room[room]:
                del open_by_room[room], rooms[place]
        samples[sample].append(number)
        left = room - length
        if left:
            if left not in open_by_room:
                insort(rooms, left)
            open_by_room.setdefault(left, []).append(sample)
    return samples


class _Source:
    """One part of a mixture: its samples in an endless order, of which each epoch takes the next `num_samples`."""

    def __init__(self, sequences: Sequences, samples: list[list[int]], weight: float) -> None:
        self.sequences, self.samples = sequences, samples
        self.num_samples = max(1, round(weight * len(samples)))
        self.stride = coprime_near_golden(len(samples))

    def members(self, number: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and parts of what shares a sample."""
        place = (epoch * self.num_samples + number) % len(self.samples) * self.stride % len(self.samples)
        return [self.sequences[each] for each in self.samples[place]]


class Packs:
    """Samples of a mixture, addressed by number; see `components.modalities.Samples`."""

    def __init__(self, sources: list[_Source], form: str, size: int, pad: int) -> None:
        self.sources, self.form, self.size, self.pad = sources, form, size, pad
        self.ends = np.cumsum([source.num_samples for source in sources])

    def __len__(self) -> int:
        """Samples of one epoch."""
        return int(self.ends[-1])

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, "torch.Tensor"]:
        """The samples of these numbers, int64 tensors [num_samples, tokens].

        Returns:
            Of conversations `input_ids`, `position_ids` (0 where a sequence begins) and `parts`, `max_tokens` wide; of
            preferences `chosen_ids`, `chosen_parts`, `rejected_ids`, `rejected_parts`, as wide as the longest; of
            prompts `prompt_ids` and `prompt_parts`, padded at the left. Parts are those of `models.conversation`.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"sample {indices.min()} to {indices.max()} of {len(self)}")
        rows = []
        for index in indices.tolist():
            number = int(np.searchsorted(self.ends, index, side="right"))
            source = self.sources[number]
            rows.append(source.members(index - int(self.ends[number]) + source.num_samples, epoch))
        return {"conversations": self._windows, "preferences": self._pairs, "prompts": self._prompts}[self.form](rows)

    def _windows(self, rows: list[list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, "torch.Tensor"]:
        import torch

        shape = (len(rows), self.size)
        ids, parts = np.full(shape, self.pad, np.int64), np.full(shape, PADDING, np.int64)
        positions = np.zeros(shape, np.int64)
        for row, members in enumerate(rows):
            start = 0
            for tokens, part in members:
                end = start + len(tokens)
                ids[row, start:end], parts[row, start:end] = tokens, part
                positions[row, start:end] = np.arange(len(tokens))
                start = end
            positions[row, start:] = np.arange(self.size - start)
        found = {"input_ids": ids, "position_ids": positions, "parts": parts}
        return {key: torch.from_numpy(value) for key, value in found.items()}

    def _pairs(self, rows: list[list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, "torch.Tensor"]:
        found: dict[str, torch.Tensor] = {}
        for name, worse in (("chosen", REJECTED), ("rejected", CHOSEN)):
            kept = [(ids[parts != worse], parts[parts != worse]) for [(ids, parts)] in rows]
            found |= self._padded(name, kept, at_left=False)
        return found

    def _prompts(self, rows: list[list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, "torch.Tensor"]:
        kept = [(ids[parts == PROMPT], parts[parts == PROMPT]) for [(ids, parts)] in rows]
        return self._padded("prompt", kept, at_left=True)

    def _padded(self, name: str, rows: list[tuple[np.ndarray, np.ndarray]], at_left: bool) -> dict[str, "torch.Tensor"]:
        import torch

        width = max(len(ids) for ids, _ in rows)
        ids, parts = np.full((len(rows), width), self.pad, np.int64), np.full((len(rows), width), PADDING, np.int64)
        for row, (tokens, part) in enumerate(rows):
            place = slice(width - len(tokens), width) if at_left else slice(0, len(tokens))
            ids[row, place], parts[row, place] = tokens, part
        return {f"{name}_ids": torch.from_numpy(ids), f"{name}_parts": torch.from_numpy(parts)}


def open_samples(folders: list[tuple[Path, float]], split: str, spec: Any) -> Packs:
    """Open shards of a chat encoder as the samples that a recipe's section describes.

    Args:
        folders: each with its weight: how many times an epoch reads it; splits other than `train` are read once.
        split: `train`, `valid` or `test`.
        spec: `form` (`conversations`, `preferences` or `prompts`), `max_tokens` of one sequence, and
            `max_left_out_share`.

    Raises:
        Refused: shards are missing or hold something else, or too many sequences are longer than a sample may be.
    """
    sources = []
    for folder, weight in folders:
        sequences = Sequences(folder, split)
        is_preference = sequences.has_rejected()
        if spec.form != "prompts" and is_preference != (spec.form == "preferences"):
            found = "preferences" if is_preference else "conversations"
            raise Refused(
                f"{folder} holds {found}, but the objective reads {spec.form}. Name other shards under 'align.shards', "
                "or change 'align.objective'."
            )
        lengths = sequences.lengths(spec.form)
        fits = np.flatnonzero(lengths <= spec.max_tokens)
        _check_left_out(folder, split, lengths, len(fits), spec)
        if spec.form == "conversations":
            samples = [[int(fits[each]) for each in pack] for pack in packed(lengths[fits], spec.max_tokens)]
        else:
            samples = [[int(each)] for each in fits]
        sources.append(_Source(sequences, samples, weight if split == "train" else 1.0))
    return Packs(sources, spec.form, spec.max_tokens, pad=sources[0].sequences.stream.eos)


def _check_left_out(folder: Path, split: str, lengths: np.ndarray, num_fitting: int, spec: Any) -> None:
    left_out = len(lengths) - num_fitting
    if not num_fitting or left_out > spec.max_left_out_share * len(lengths):
        what = "prompts" if spec.form == "prompts" else "sequences (prompt and answer)"
        raise Refused(
            f"{left_out:,} of {len(lengths):,} {what} in the split '{split}' of {folder} are longer than the "
            f"{spec.max_tokens} tokens of a sample (the longest has {int(lengths.max(initial=0)):,}); at most "
            f"{spec.max_left_out_share:.0%} may be left out. Raise {spec.length_key} or "
            "'align.samples.max_left_out_share', or set filters.max_chars of the corpus."
        )
