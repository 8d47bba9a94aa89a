"""From what a recogniser says of each frame to phonemes, and how many of them are wrong."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.speech.phonemes import BLANK_ID, BOUNDARY_ID
from components.modalities.speech.schema import BOUNDARY, Decoder

if TYPE_CHECKING:
    from torch import Tensor

Decode = Callable[["Tensor"], list[int]]
"""Log-probabilities, float32 [frames, symbols] on the CPU -> ids without blanks, and without `|` at the ends."""


def stripped(ids: list[int]) -> list[int]:
    """Without the word boundaries at the ends; torchaudio's beam search adds them, and none is said there."""
    start, end = 0, len(ids)
    while start < end and ids[start] == BOUNDARY_ID:
        start += 1
    while end > start and ids[end - 1] == BOUNDARY_ID:
        end -= 1
    return ids[start:end]


def greedy(log_probs: "Tensor") -> list[int]:
    """The likeliest symbol of each frame, repetitions taken together, blanks left out."""
    path = log_probs.argmax(dim=-1).numpy()
    if not len(path):
        return []
    kept = path[np.append(True, path[1:] != path[:-1])]
    return stripped([int(each) for each in kept if each != BLANK_ID])


def open_decoder(name: Decoder, symbols: list[str], beam_size: int) -> Decode:
    """The decoder of a name.

    Args:
        name: `beam-max` scores a text by its likeliest path, `beam-sum` by the sum of all its paths.
        symbols: by their ids; the blank and the word boundary are the first two.
        beam_size: hypotheses that are kept; not of `greedy`.
    """
    if name == "greedy":
        return greedy
    from torchaudio.models.decoder import ctc_decoder

    search = ctc_decoder(
        lexicon=None,
        tokens=symbols,
        blank_token=symbols[BLANK_ID],
        sil_token=symbols[BOUNDARY_ID],
        beam_size=beam_size,
        beam_threshold=float("inf"),
        log_add=name == "beam-sum",
    )
    return lambda log_probs: stripped([int(each) for each in search(log_probs[None].contiguous())[0][0].tokens])


# ---- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """What is wrong in some recordings, counted along the cheapest alignment."""

    num_phonemes: int = 0
    """That were said."""
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    num_symbols: int = 0
    """Phonemes and word boundaries that were said."""
    errors_with_boundary: int = 0
    """Of phonemes and word boundaries."""
    num_boundaries: int = 0
    """Word boundaries that were said."""
    boundaries_heard: int = 0
    boundaries_right: int = 0

    @property
    def errors(self) -> int:
        """Of phonemes alone."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Errors)))

    def rates(self) -> dict[str, float]:
        """Shares of what was said; of word boundaries precision and recall, 0 where there is none."""
        said = max(1, self.num_phonemes)
        return {
            "phoneme_error_rate": self.errors / said,
            "error_rate_with_boundary": self.errors_with_boundary / max(1, self.num_symbols),
            "substitution_rate": self.substitutions / said,
            "deletion_rate": self.deletions / said,
            "insertion_rate": self.insertions / said,
            "boundary_precision": self.boundaries_right / max(1, self.boundaries_heard),
            "boundary_recall": self.boundaries_right / max(1, self.num_boundaries),
        }


def errors_of(said: list[str], heard: list[str]) -> Errors:
    """Errors of one recording.

    Args:
        said: symbols, word boundaries among them.
        heard: the same, as decoded.
    """
    plain = _aligned(*([each for each in symbols if each != BOUNDARY] for symbols in (said, heard)))
    whole = _aligned(said, heard)
    return Errors(
        num_phonemes=sum(each != BOUNDARY for each in said),
        substitutions=plain.substitutions,
        deletions=plain.deletions,
        insertions=plain.insertions,
        num_symbols=len(said),
        errors_with_boundary=whole.substitutions + whole.deletions + whole.insertions,
        num_boundaries=said.count(BOUNDARY),
        boundaries_heard=heard.count(BOUNDARY),
        boundaries_right=whole.boundaries_right,
    )


@dataclass(frozen=True)
class _Alignment:
    substitutions: int
    deletions: int
    insertions: int
    boundaries_right: int


def _aligned(said: list[str], heard: list[str]) -> _Alignment:
    if not said:  # jiwer has no reference without words
        return _Alignment(0, 0, len(heard), 0)
    import jiwer

    found: Any = jiwer.process_words(" ".join(said), " ".join(heard))
    right = sum(
        said[chunk.ref_start_idx : chunk.ref_end_idx].count(BOUNDARY)
        for chunk in found.alignments[0]
        if chunk.type == "equal"
    )
    return _Alignment(found.substitutions, found.deletions, found.insertions, right)


def interval(errors: np.ndarray, sizes: np.ndarray, groups: list[str], num_resamples: int, seed: int) -> list[float]:
    """The 95 % interval of an error rate by drawing speakers anew, with all that they said (Bisani and Ney 2004).

    Args:
        errors: [recordings].
        sizes: [recordings], phonemes that were said.
        groups: the speaker of each recording; where there is one speaker alone, recordings are drawn instead.
        num_resamples: how often.
        seed: of the draws.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        numbers = np.arange(len(errors))
    wrong, said = np.bincount(numbers, errors), np.bincount(numbers, sizes)
    drawn = np.random.default_rng(seed).integers(0, len(said), (num_resamples, len(said)))
    rates = wrong[drawn].sum(axis=1) / np.maximum(1, said[drawn].sum(axis=1))
    return [float(each) for each in np.quantile(rates, (0.025, 0.975))]
